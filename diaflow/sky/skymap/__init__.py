"""Sky maps: tracts (TAN planes on the sky) cut into patches.

A kind of sky map is a file here with `OPTIONS` and ``tracts(config, ra, dec, pixel_scale)``.
"""

__all__ = ["discrete", "maps", "tract"]
