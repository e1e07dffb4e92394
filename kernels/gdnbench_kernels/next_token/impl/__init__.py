"""The backends of this operation, one file each, imported only when asked for by name."""
