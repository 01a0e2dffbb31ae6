"""The page that users look at: one self-contained HTML file."""

__all__ = ["page", "plots", "refusals"]
