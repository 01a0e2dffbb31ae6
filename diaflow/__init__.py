"""diaflow: from calibrated images of one field to what changed in it.

The library follows the data: an `Exposure` is read, calibrated, warped onto the sky map, coadded into a
template, subtracted, detected on, associated and measured again by force.  Nothing here knows Snakemake.

`__all__` lists the rooms in their order: none imports a later one.
"""

# fmt: off
__all__ = [
    "errors", "units", "statistics", "polynomials", "jit",
    "store", "sky", "psf", "image", "pixels", "measure",
    "instruments", "refcat", "isr", "calibrate",
    "warp", "psfmatch", "coadd",
    "detect", "subtract", "catalogue", "diasource", "associate", "forced", "lightcurves",
    "report", "simulate", "validate", "run",
]
# fmt: on
