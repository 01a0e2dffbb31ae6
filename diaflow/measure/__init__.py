"""Measurement at places of an image: PSF and aperture fluxes, centroids, moments, the matched filter, sources.

PSF fluxes are LSST's PsfFlux (meas_base), moments those of Bernstein & Jarvis 2002; `kernels` holds the compiled loops.
"""

__all__ = ["extraction", "kernels", "matchedfilter", "moments", "photometry", "sources"]
