"""Measurement at places of an image: PSF and aperture fluxes, centroids, moments, the matched filter, sources.

PSF fluxes are LSST's PsfFlux (meas_base), moments those of Bernstein & Jarvis 2002; `kernels` and `subpixel` are the
compiled loops, `levenberg` is the loop of non-linear fits.
"""

__all__ = [
    "extraction",
    "kernels",
    "levenberg",
    "matchedfilter",
    "moments",
    "photometry",
    "sources",
    "subpixel",
]
