"""Forced photometry: the PSF flux at sky positions that are known, whether or not anything was detected there.

Positions are those of DIAObjects, of DIASources, of objects or of the user's choice (`refcat.positions`).  `measure` is
the one measurement of all variants, and a variant is a file that says where and on which image: `diffim`, `calexp`,
`dia_source_on_template`, `dia_object_on_template`, `template_on_diffim`.  `epochs` tells what the fluxes of one object
have in common, `request` what a configuration asks for.
"""

__all__ = [
    "calexp",
    "dia_object_on_template",
    "dia_source_on_template",
    "diffim",
    "epochs",
    "measure",
    "positions",
    "request",
    "template_on_diffim",
]
