"""The page that users look at, one self-contained HTML file; and which tracts and patches have images."""

__all__ = ["page", "plots", "refusals", "sky_map"]
