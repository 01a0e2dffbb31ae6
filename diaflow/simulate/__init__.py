"""Simulated surveys: raw images of a small camera over two seasons, of a sky whose every flux is known.

`pointing` plans the visits and their headers, `optics` has the true WCS and PSF, `lightcurves` and `sky` what shines,
`pixels` renders images, `truth` writes the tables of the truth and a reference catalogue.  Everything follows from the
seed; an image does not depend on which others are made.
"""

__all__ = ["lightcurves", "optics", "pixels", "pointing", "sky", "truth"]
