"""From run specifications to stored results: training, resuming, and several runs at once."""
