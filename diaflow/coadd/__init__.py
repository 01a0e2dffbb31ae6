"""Coadds: the warps of a patch become one image, by one of several methods, and the patches the template of an image.

A method is a file here with `OPTIONS` and ``combine(warps, matched, **options)``; `stack` streams rows through `means`,
`spectra`, `cells` and `likelihood` are the ground of the methods in Fourier space, `template` brings patches onto a
science image.
"""

__all__ = [
    "artefacts",
    "cells",
    "combine",
    "constant_psf",
    "dcr",
    "decorrelated",
    "direct",
    "inference",
    "likelihood",
    "means",
    "psf_matched",
    "regions",
    "spectra",
    "stack",
    "subbands",
    "template",
]
