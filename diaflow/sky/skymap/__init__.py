"""Sky maps: tracts (TAN planes on the sky) cut into patches; one file for each kind."""

__all__ = ["discrete", "maps", "tract"]
