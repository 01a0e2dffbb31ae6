"""Difference images: science minus template matched to it, by one of several algorithms.

An algorithm is a file here with `OPTIONS` and ``subtract(science, template, smooth_psf, stars, sky, config)``:
`alard_lupton` (Alard & Lupton 1998, decorrelated after Reiss & Lupton 2016) and `zogy` (Zackay, Ofek & Gal-Yam 2016).
"""

__all__ = [
    "alard_lupton",
    "decorrelate",
    "masks",
    "star_errors",
    "noise",
    "photometric",
    "result",
    "sources",
    "subtraction",
    "template_psf",
    "zogy",
]
