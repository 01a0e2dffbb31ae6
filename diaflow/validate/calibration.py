"""How good the calibration of a run on a simulated survey is: zero points, magnitudes and WCS against the truth."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.spatial import cKDTree

from diaflow.calibrate import photocal
from diaflow.errors import BadData
from diaflow.measure.sources import unflagged
from diaflow.sky.sphere import offsets, unit_vectors
from diaflow.sky.wcs import read_wcs, sky_to_pixel
from diaflow.store import tables
from diaflow.units import ARCSEC, NANOJANSKY_ZERO_POINT, magnitude
from diaflow.validate.matching import data_ids

BRIGHT = 20.0  # faintest stars on which the astrometry is judged [mag], chosen
CALIBRATED_SNR, REPEATABLE_SNR = 50.0, 200.0  # of the stars on which calibration and repeatability are judged, chosen
MATCH = 0.5  # largest distance of a source from its star [arcsec], chosen: many times the error of any WCS
MIN_VISITS, MIN_STARS = 3, 5  # fewer do not tell the scatter of a star, or the zero point of an image
MAS_PER_DEGREE = 3.6e6


def zero_point_errors(images: np.ndarray, summary: np.ndarray) -> dict[str, float]:
    """Measured minus true zero point of the calibrated images.

    Parameters
    ----------
    images : "truth_image" table
    summary : "visit_summary" table

    Returns
    -------
    dict
        Median (zero_point_error_median) and largest absolute value (zero_point_error_max) [mag]; NaN without images.
    """
    good = summary[summary["status"] == "ok"]
    true = dict(zip(data_ids(images), images["zero_point"]))
    error = good["zero_point"] - np.array([true[data_id] for data_id in data_ids(good)])
    if not len(error):
        return {"zero_point_error_median": np.nan, "zero_point_error_max": np.nan}
    return {"zero_point_error_median": np.median(error), "zero_point_error_max": np.abs(error).max()}


def astrometric_errors(images: np.ndarray, objects: np.ndarray, calexps: list[Path]) -> dict[str, float]:
    """Where the WCS of the calibrated images puts bright stars minus where they are.

    Parameters
    ----------
    images, objects : tables "truth_image", "truth_object"
    calexps : list of Path
        Calibrated images, {visit}/{detector}.fits.

    Returns
    -------
    dict
        The rms per coordinate [mas], its median (astrometry_rms_median) and largest value (astrometry_rms_max) over
        the images; NaN without any.
    """
    rms = list(wcs_errors(images, objects, calexps).values())
    if not rms:
        return {"astrometry_rms_median": np.nan, "astrometry_rms_max": np.nan}
    return {"astrometry_rms_median": np.median(rms), "astrometry_rms_max": max(rms)}


def wcs_errors(images: np.ndarray, objects: np.ndarray, calexps: list[Path]) -> dict[tuple[int, int], float]:
    """Rms per coordinate of where the WCS of the calibrated images puts bright stars minus where they are.

    Parameters
    ----------
    images, objects : tables "truth_image", "truth_object"
    calexps : list of Path
        Calibrated images, {visit}/{detector}.fits.

    Returns
    -------
    dict
        By visit and detector [mas]; without images that have no bright star.
    """
    stars = objects[objects["type"] == "star"]
    true = dict(zip(data_ids(images), images))
    rms = {}
    for path in calexps:
        image = true[int(path.parent.name), int(path.stem)]
        measured_wcs = read_wcs(fits.getheader(path, "IMAGE"))
        bright = stars[stars[f"{image['band']}_mag"] < BRIGHT]
        true_wcs = read_wcs(fits.Header.fromstring(image["wcs"]))
        x, y = sky_to_pixel(true_wcs, bright["ra"], bright["dec"], (0, 0, image["nx"] - 1, image["ny"] - 1))
        inside = (np.minimum(x, y) >= 0) & (x <= image["nx"] - 1) & (y <= image["ny"] - 1)
        if inside.any():
            ra, dec = measured_wcs.all_pix2world(x[inside], y[inside], 0)
            deviations = offsets(ra, dec, bright["ra"][inside], bright["dec"][inside])
            rms[int(image["visit"]), int(image["detector"])] = float(
                MAS_PER_DEGREE * np.sqrt(np.mean(np.square(deviations)))
            )
    return rms


def photometric_errors(objects: np.ndarray, sources: np.ndarray) -> dict[str, float]:
    """PSF magnitudes of stars against the truth, and against those of the same star in other visits.

    Parameters
    ----------
    objects, sources : tables "truth_object", "source"

    Returns
    -------
    dict
        Rms (photometry_offset_rms) and largest (photometry_offset_max) error of an image, and repeatability [mag]; NaN
        where there are too few stars; the errors also where the stars of an image do not agree on a zero point.

    Notes
    -----
    The error of an image is what is left to calibrate: the zero point that the true magnitudes give its fluxes.  The
    repeatability is PA1 as in LSST's faro: the median over stars with three visits or more of the standard
    deviation of their magnitudes in a band.
    """
    stars = objects[objects["type"] == "star"]
    with np.errstate(invalid="ignore"):
        bright = unflagged(sources) & (sources["psfFlux"] > CALIBRATED_SNR * sources["psfFluxErr"])
    observed = sources[bright]
    tree = cKDTree(unit_vectors(stars["ra"], stars["dec"]))
    distance, star = tree.query(unit_vectors(observed["ra"], observed["dec"]))
    near = distance < MATCH * ARCSEC
    observed, star = observed[near], star[near]
    bands = tables.bands("truth_object", objects)
    mags = [stars[f"{band}_mag"][star] for band in bands]
    true = np.select([observed["band"] == band for band in bands], mags, np.nan)
    offsets = np.array(
        [
            _offset(observed["psfFlux"][rows], observed["psfFluxErr"][rows], true[rows])
            for rows in _groups(observed["visit"], observed["detector"])
            if len(rows) >= MIN_STARS
        ]
    )
    steady = observed["psfFlux"] > REPEATABLE_SNR * observed["psfFluxErr"]
    observed, star = observed[steady], star[steady]
    mag = magnitude(observed["psfFlux"])
    series = [mag[rows] for rows in _groups(star, observed["band"]) if len(rows) >= MIN_VISITS]
    return {
        "photometry_offset_rms": np.sqrt(np.mean(offsets**2)) if len(offsets) else np.nan,
        "photometry_offset_max": np.abs(offsets).max() if len(offsets) else np.nan,
        "repeatability": np.median([np.std(values, ddof=1) for values in series]) if series else np.nan,
    }


def _offset(flux: np.ndarray, error: np.ndarray, mag: np.ndarray) -> float:
    """Zero point that is left to calibrate [mag]; NaN where the stars do not agree on one."""
    try:
        return photocal.zero_point(flux, error, mag, np.zeros(len(flux))).value - NANOJANSKY_ZERO_POINT
    except BadData:
        return np.nan


def _groups(*keys: np.ndarray) -> list[np.ndarray]:
    """Rows that share the values of all keys."""
    label = np.zeros(len(keys[0]), int)
    for key in keys:
        values, index = np.unique(key, return_inverse=True)
        label = label * len(values) + index
    order = np.argsort(label, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
