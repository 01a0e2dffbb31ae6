"""How good the calibration of a run on the built-in survey is: zero points, magnitudes and WCS against the truth."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.spatial import cKDTree

from diaflow.calibrate import photocal
from diaflow.measure.sources import unflagged
from diaflow.simulate import optics
from diaflow.simulate.sky import Survey
from diaflow.sky.wcs import read_wcs
from diaflow.store import tables
from diaflow.units import NANOJANSKY_ZERO_POINT, magnitude

BRIGHT = 20.0  # stars on which the astrometry is judged [mag]
CALIBRATED_SNR, REPEATABLE_SNR = 50.0, 200.0  # stars on which calibration and repeatability are judged
MATCH = 0.5  # [arcsec]
MIN_VISITS, MIN_STARS = 3, 5


def zero_point_errors(survey: Survey, summary: np.ndarray) -> dict[str, float]:
    """Measured minus true zero point of the calibrated images: median and largest absolute value [mag]."""
    good = summary[summary["status"] == "ok"]
    error = good["zero_point"] - np.array([survey.visit(int(visit)).zero_point for visit in good["visit"]])
    if not len(error):
        return {"zero_point_error_median": np.nan, "zero_point_error_max": np.nan}
    return {"zero_point_error_median": np.median(error), "zero_point_error_max": np.abs(error).max()}


def astrometric_errors(survey: Survey, objects: np.ndarray, calexps: list[Path]) -> dict[str, float]:
    """Where the WCS of the calibrated images puts bright stars minus where they are: rms per coordinate [mas]."""
    stars = objects[objects["type"] == "star"]
    rms = []
    for path in calexps:
        visit, detector = int(path.parent.name), int(path.stem)
        measured_wcs = read_wcs(fits.getheader(path, "IMAGE"))
        bright = stars[stars[f"{survey.visit(visit).band}_mag"] < BRIGHT]
        x, y = optics.true_wcs(survey.config, survey.visit(visit), detector).all_world2pix(
            bright["ra"], bright["dec"], 0
        )
        inside = (np.minimum(x, y) >= 0) & (np.maximum(x, y) <= survey.config["size"] - 1)
        ra, dec = measured_wcs.all_pix2world(x[inside], y[inside], 0)
        if len(ra):
            east = (ra - bright["ra"][inside]) * np.cos(np.radians(dec))
            north = dec - bright["dec"][inside]
            rms.append(3.6e6 * np.sqrt(np.mean(np.stack([east, north]) ** 2)))
    if not rms:
        return {"astrometry_rms_median": np.nan, "astrometry_rms_max": np.nan}
    return {"astrometry_rms_median": np.median(rms), "astrometry_rms_max": max(rms)}


def photometric_errors(objects: np.ndarray, sources: np.ndarray) -> dict[str, float]:
    """PSF magnitudes of stars against the truth, and against those of the same star in other visits.

    Parameters
    ----------
    objects, sources : tables "truth_object", "source"

    Notes
    -----
    The error of an image is what is left to calibrate: the zero point that the true magnitudes give its fluxes.  The
    repeatability is PA1 as in LSST's faro: the median over stars with three visits or more of the standard
    deviation of their magnitudes in a band.
    """
    stars = objects[objects["type"] == "star"]
    with np.errstate(invalid="ignore"):
        bright = unflagged(sources) & (sources["psfFlux"] > CALIBRATED_SNR * sources["psfFluxErr"])
    found = sources[bright]
    cos_dec = np.cos(np.radians(np.median(stars["dec"]))) if len(stars) else 1.0
    tree = cKDTree(np.column_stack([stars["ra"] * cos_dec, stars["dec"]]))
    distance, star = tree.query(np.column_stack([found["ra"] * cos_dec, found["dec"]]))
    near = distance < MATCH / 3600
    found, star = found[near], star[near]
    bands = tables.bands("truth_object", objects)
    true = np.select([found["band"] == band for band in bands], [stars[f"{band}_mag"][star] for band in bands], np.nan)
    fits = [
        photocal.zero_point(found["psfFlux"][rows], found["psfFluxErr"][rows], true[rows], np.zeros(len(rows)))
        for rows in _groups(found["visit"], found["detector"])
        if len(rows) >= MIN_STARS
    ]
    offsets = np.array([fit.value - NANOJANSKY_ZERO_POINT for fit in fits])
    steady = found["psfFlux"] > REPEATABLE_SNR * found["psfFluxErr"]
    found, star = found[steady], star[steady]
    mag = magnitude(found["psfFlux"])
    series = [mag[rows] for rows in _groups(star, found["band"]) if len(rows) >= MIN_VISITS]
    return {
        "photometry_offset_rms": np.sqrt(np.mean(offsets**2)) if len(offsets) else np.nan,
        "photometry_offset_max": np.abs(offsets).max(initial=0) if len(offsets) else np.nan,
        "repeatability": np.median([np.std(values, ddof=1) for values in series]) if series else np.nan,
    }


def _groups(*keys: np.ndarray) -> list[np.ndarray]:
    """Rows that share the values of all keys."""
    label = np.zeros(len(keys[0]), int)
    for key in keys:
        values, index = np.unique(key, return_inverse=True)
        label = label * len(values) + index
    order = np.argsort(label, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
