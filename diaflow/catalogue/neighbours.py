"""Stars of the reference catalogue at and near objects."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from diaflow.refcat import store
from diaflow.sky import sphere
from diaflow.units import ARCSEC, nanojansky

MATCH = 1.0  # distance within which a star of the catalogue is the object [arcsec], chosen
BRIGHT = 1000.0  # least S/N of a bright star on the coadd, chosen: 0.1 % of it is a source
REACH = 120.0  # beyond the objects, in which bright stars are looked for [arcsec], chosen


def set_columns(table: np.ndarray, refcat: str | Path, bands: Sequence[str], mjd: float) -> None:
    """Set refcatId and nearestBrightStar.

    Parameters
    ----------
    table : table "object"
        With positions and PSF fluxes; changed.
    refcat : path
        Reference catalogue of the run, with the bands.
    bands : sequence of str
        In which a star is bright where it is in any.
    mjd : float
        Date for which its positions are wanted, TAI [d].
    """
    if not len(table):
        return
    vectors = sphere.unit_vectors(table["ra"], table["dec"])
    (ra,), (dec,) = sphere.sky_position(vectors.mean(axis=0, keepdims=True))
    radius = np.degrees(sphere.separation(vectors, sphere.unit_vectors(ra, dec)).max()) + REACH / 3600
    catalogues = [store.read(refcat, band, ra, dec, radius, mjd) for band in bands]
    stars, bright = catalogues[0], np.zeros(len(catalogues[0]), bool)
    for band, catalogue in zip(bands, catalogues):
        error = table[f"{band}_psfFluxErr"]
        if np.isfinite(error).any():
            flux = nanojansky(catalogue["mag"].astype(float))
            bright |= flux > BRIGHT * np.nanmedian(error)
    where = sphere.unit_vectors(stars["ra"], stars["dec"])
    if len(stars):
        distance, nearest = cKDTree(where).query(vectors)
        table["refcatId"] = np.where(distance < MATCH * ARCSEC, stars["id"][nearest], 0)
    if bright.any():
        table["nearestBrightStar"] = cKDTree(where[bright]).query(vectors)[0] / ARCSEC
