"""Kernels timed side by side: checked against float64 first, then in turn, with the floor that no kernel can beat."""
