"""Reports: records of a set to tables, figures, a claims ledger and a page; reads files, runs nothing."""

from gdnbench.report.render import render

__all__ = ["render"]
