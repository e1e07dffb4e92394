"""From a preset to a list of frozen run specifications: budgets matched, nothing run, no GPU touched."""
