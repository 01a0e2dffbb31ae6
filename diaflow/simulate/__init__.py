"""Simulated surveys: raw images of a small camera over two seasons, of a sky whose every flux is known.

`field` says where on the sky, `camera` has the CCDs, `pointing` plans the visits and their headers, `optics` has the
true WCS and PSF, whose shapes are in `profiles` and `gaussians`.  `sky` is what shines (`lightcurves`, `movers`,
`blends`, `probes`, `population`).  `pixels` renders `sources`, `background` and `flaws`, `truth` writes the tables of
the truth and a reference catalogue.  Everything follows from the seed; an image does not depend on which others are
made.
"""

__all__ = [
    "background", "blends", "camera", "field", "flaws", "gaussians", "lightcurves", "movers", "optics", "pixels",
    "pointing", "population", "probes", "profiles", "sky", "sources", "truth",
]  # fmt: skip
