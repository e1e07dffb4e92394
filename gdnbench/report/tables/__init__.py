"""Tables: one file each, from analysed records to rows of cells; a missing number shows its reason."""
