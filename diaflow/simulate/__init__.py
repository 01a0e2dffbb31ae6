"""The built-in survey: raw images of a small camera over two seasons, of a sky whose every flux is known.

Comes in: the `simulate` section of the configuration, complete (`diaflow.config.validated`).  Goes out: the
exposure table (`plan`), raw images with headers (`render`), the truth (`write_truth`) and a reference
catalogue (`write_refcat`).  Everything follows from `seed`; an image does not depend on which others are made.
Files: pointing (visits and headers), optics (true WCS and PSF), lightcurves and sky (what shines), pixels, truth.
The functions below import what they need when they are called, so that planning a run stays cheap.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diaflow.simulate.pointing import plan

if TYPE_CHECKING:
    from astropy.io import fits
    from astropy.wcs import WCS

    from diaflow.simulate.sky import Survey

__all__ = [
    "image_hdu",
    "plan",
    "render",
    "survey",
    "true_wcs",
    "true_zero_point",
    "write_refcat",
    "write_truth",
]


def survey(config: dict) -> Survey:
    """Catalogues, light curves and observing conditions of the configured survey; see `sky.Survey`."""
    from diaflow.simulate import sky

    return sky.Survey.make(config)


def render(survey: Survey, visit: int, detector: int) -> tuple[np.ndarray, fits.Header]:
    """One raw image (ny, nx) uint16 [DN] and its header; see `pixels.render`."""
    from diaflow.simulate import pixels

    return pixels.render(survey, visit, detector)


def image_hdu(image: np.ndarray, header: fits.Header) -> fits.PrimaryHDU:
    """The primary HDU of a raw image file; unsigned integers are stored with BZERO."""
    from astropy.io import fits

    return fits.PrimaryHDU(image, header)


def true_wcs(survey: Survey, visit: int, detector: int) -> WCS:
    """The TAN-SIP WCS through which the image was made; the header's is a plain TAN with a pointing error."""
    from diaflow.simulate import optics

    return optics.true_wcs(survey.config, survey.visit(visit), detector)


def true_zero_point(survey: Survey, visit: int) -> float:
    """AB magnitude of 1 DN in the whole exposure [mag]; all detectors of a visit share it."""
    return survey.visit(visit).zero_point


def write_truth(survey: Survey, folder: str | Path) -> None:
    """Write `truth_object.parquet` and `truth_flux.parquet` into `folder`."""
    from diaflow.simulate import truth

    truth.write_truth(survey, folder)


def write_refcat(survey: Survey, path: str | Path) -> None:
    """Write the reference catalogue of stars: id, ra, dec, {band}_mag, star (true unless known to vary)."""
    from diaflow.simulate import truth

    truth.write_refcat(survey, path)
