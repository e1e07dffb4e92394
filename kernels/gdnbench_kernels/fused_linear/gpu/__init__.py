"""One token's product on a GPU: one kernel for few rows (``few``), tensor cores for several, and for many."""
