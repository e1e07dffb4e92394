"""Stored results: one folder a run, written atomically; the only bridge between running and reporting."""

from gdnbench.results.record import SCHEMA_VERSION, Record
from gdnbench.results.store import Store

__all__ = ["SCHEMA_VERSION", "Record", "Store"]
