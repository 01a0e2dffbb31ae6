"""The page users look at: `write` makes one self-contained HTML file from the collected tables of a run."""

from diaflow.report.page import write

__all__ = ["write"]
