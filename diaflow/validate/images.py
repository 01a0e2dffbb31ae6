"""Images against the truth: how many there are and why others are not, zero points, WCS and PSF."""

import re
from collections import Counter

import numpy as np

from diaflow.store import ids, tables
from diaflow.validate import calibration
from diaflow.validate.comparison import Comparison
from diaflow.validate.figures import Figure, rms
from diaflow.validate.matching import data_ids

NUMBER = re.compile(r"\d+(?:\.\d+)?")
WCS_SEEING = 2.0  # width of the PSF up to which the WCS is as good as in good seeing [arcsec]


def statuses(run: Comparison) -> tuple[list[Figure], dict[str, int]]:
    """Fraction of the images that are calibrated and differenced, and the reasons why others are not.

    Parameters
    ----------
    run : Comparison

    Returns
    -------
    figures : list of Figure
        Of calexps: of all images of the truth; of differences: of all that were to be made.
    reasons : dict
        Number of images by stage, status and reason, whose numbers are left out.

    Raises
    ------
    InputError
        When the table of the visits is missing.
    """
    visits = tables.read("visit", run.products / "tables/visit.parquet")
    n_calexps = int((visits["calexp_status"] == "ok").sum())
    planned = np.isin(visits["diffim_status"].astype(str), ("ok", "failed"))
    n_differences = int((visits["diffim_status"] == "ok").sum())
    reasons = Counter()
    for stage in ("calexp", "diffim"):
        for row in visits[(visits[f"{stage}_status"] != "ok") & ((stage == "calexp") | planned)]:
            reason = NUMBER.sub("...", row[f"{stage}_reason"])
            reasons[f"{stage} {row[f'{stage}_status']}: {reason}"] += 1
    return [
        _share("calexps", n_calexps, len(run.truth_images)),
        _share("differences", n_differences, int(planned.sum())),
    ], dict(reasons)


def calibrations(run: Comparison) -> list[Figure]:
    """Errors of zero points, of stars' fluxes, of the WCS and of the width of the PSF.

    Parameters
    ----------
    run : Comparison

    Returns
    -------
    list of Figure

    Raises
    ------
    InputError
        When a table or an image is missing or unreadable.
    """
    return [*_images(run), *_stars(run), _wcs(run)]


def _images(run: Comparison) -> list[Figure]:
    good = run.summary[run.summary["status"] == "ok"]
    truth = _truth_of(run, good)
    width = good["psf_fwhm"] / truth["psfFwhm"] - 1
    figures = [rms("zero_point_rms", "", good["zero_point"] - truth["zero_point"])]
    known = np.isfinite(truth["psfFwhm"])
    return figures + ([rms("fwhm_rms", "", width[known])] if np.isfinite(run.truth_images["psfFwhm"]).any() else [])


def _stars(run: Comparison) -> list[Figure]:
    """Errors of the stars' fluxes."""
    sources = tables.read("source", run.products / "tables/source.parquet")
    n = len(np.unique(np.stack([sources["visit"], sources["detector"]]), axis=1).T)
    figures = calibration.photometric_errors(run.objects, sources)
    offset = figures["photometry_offset_rms"]
    return [
        Figure("star_flux_rms", "", float(offset), float(offset / np.sqrt(2 * max(n, 1))), n),
        Figure("repeatability", "", float(figures["repeatability"]), np.nan, n),
    ]


def _wcs(run: Comparison) -> Figure:
    """Rms of the images' errors of the WCS [mas], beside the rms of the factors that the seeing allows."""
    calexps = sorted(run.products.glob("calexp/*/*.fits"))
    errors = calibration.wcs_errors(run.truth_images, run.objects, calexps)
    seeing = dict(zip(data_ids(run.summary), run.summary["seeing"]))
    factors = [max(1.0, (seeing.get(data_id, np.nan) / WCS_SEEING) ** 2) for data_id in errors]
    return rms("wcs_rms", "", list(errors.values()), rms("", "", factors).value)


def _share(of: str, count: int, total: int) -> Figure:
    """A fraction of images, which are no sample: it has no error."""
    return Figure("images_ok", of, count / total if total else np.nan, np.nan, total)


def _truth_of(run: Comparison, rows: np.ndarray) -> np.ndarray:
    """Rows of the truth of some images."""
    known = np.array([f"{visit} {detector}" for visit, detector in data_ids(run.truth_images)])
    wanted = np.array([f"{visit} {detector}" for visit, detector in data_ids(rows)], known.dtype)
    return run.truth_images[ids.rows_of(known, wanted)]
