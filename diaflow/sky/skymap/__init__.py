"""Sky maps: tracts (TAN planes on the sky) cut into patches, and which of them owns a position.

A kind of sky map is a file here with `OPTIONS` and ``tracts(config, ra, dec, pixel_scale)``, the tracts for images with
these corners.  A kind that covers the whole sky also has ``every_tract(config)``, and ``find_tract(config, ra, dec)``,
the numbers of the tracts that own positions; one that cannot hold all images has ``strays(config, ra, dec)``.
"""

__all__ = ["discrete", "healpix", "many", "maps", "rings", "tract", "whole_sky"]
