"""Exposures: image, variance, mask, WCS, PSF, metadata, and the noise that the variance plane does not tell.

`planes` names the bits of masks, `exposure` is the central class, `exposure_file` its FITS form, `flux_error` what
fluxes on it have of errors beside noise.
"""

__all__ = ["exposure", "exposure_file", "flux_error", "lanczos", "noise", "planes"]
