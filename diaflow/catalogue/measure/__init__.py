"""Measurement of Objects on the coadd of one band, one file a kind; a kind gives columns, one value per source.

`scene` is what all kinds work on: every source on an image from which the others are taken out.  `measurement` is the
one entry, `merge_measurements` joins the bands of a patch.  `psf_flux` fits stars that overlap together; `apertures`,
`kron`, `gaap`, `shapes` take a source by itself; `extended` tells stars from galaxies, `coadd_inputs` and `pixel_flags`
what the coadd is at the place.  `positions` comes before all: where the peaks are that are deblended.
"""

__all__ = [
    "apertures",
    "coadd_inputs",
    "extended",
    "gaap",
    "kron",
    "measurement",
    "merge_measurements",
    "pixel_flags",
    "positions",
    "psf_flux",
    "scene",
    "shapes",
]
