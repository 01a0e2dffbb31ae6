"""The sphere and what lies on it: unit vectors, the gnomonic plane, HEALPix, WCS, refraction, sky maps, overlaps.

Nothing else in diaflow computes with right ascension and declination by itself.
"""

__all__ = ["coverage", "healpix", "localplane", "overlaps", "refraction", "skymap", "sphere", "wcs", "wcs_cards"]
