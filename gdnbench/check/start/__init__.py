"""The files that `gdnbench new-mixer` writes, as they are but for the name."""
