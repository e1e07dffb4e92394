"""Structured state space duality (Mamba-2): a linear recurrence with one scalar decay per head."""

from gdnbench_kernels.ssd.api import ssd, ssd_step

__all__ = ["ssd", "ssd_step"]
