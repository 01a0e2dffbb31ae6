"""Exposures: image, variance, mask, WCS, PSF, metadata, and the noise that the variance plane does not tell.

`planes` names the bits of masks, `exposure` is the central class, `exposure_file` its FITS form.
"""

__all__ = ["exposure", "exposure_file", "lanczos", "noise", "planes"]
