"""Figures: one function each, from analysed records to a matplotlib figure; `save` writes them."""
