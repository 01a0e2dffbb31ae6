"""Single-frame calibration: PSF, WCS, zero point and sources of one detector image; the camera from several.

`stars` is what `calexp` (one image) and `jointcal` (the first visits together) both stand on.
"""

__all__ = [
    "astrometry",
    "calexp",
    "chance",
    "corrections",
    "focus",
    "jointcal",
    "match",
    "photocal",
    "psf_check",
    "psf_model",
    "psf_profile",
    "psf_stamp",
    "psf_stars",
    "stars",
    "stellar_locus",
    "tan_sip",
]
