"""The flux that a true source has on a difference image.

In come truth and template coadds, out goes the flux of the visit minus the weighted mean over the visits that make the
template at that place (the INPUTS of the coadds); asteroids are in no template.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.sky.wcs import read_wcs, sky_to_pixel


@dataclass(frozen=True)
class Template:
    """One template coadd, without its pixels.

    Attributes
    ----------
    band : str
    wcs : WCS
    shape : (ny, nx)
    inputs : list of PsfInput
        The images it was made of, with their weights.
    """

    band: str
    wcs: WCS
    shape: tuple[int, int]
    inputs: list[PsfInput]


def read_template(path: str | Path) -> Template:
    """What a template coadd was made of, without its pixels.

    Parameters
    ----------
    path : path

    Returns
    -------
    Template

    Raises
    ------
    OSError, KeyError
        When the file is missing or not a template.
    """
    with fits.open(path) as hdus:
        header = hdus["IMAGE"].header
        wcs = read_wcs(header)
        band = hdus[0].header["BAND"]
        return Template(band, wcs, (header["NAXIS2"], header["NAXIS1"]), CoaddPsf.from_hdu(hdus["INPUTS"], wcs).inputs)


def expected_flux(truth: np.ndarray, lasting: np.ndarray, templates: list[Template]) -> np.ndarray:
    """True flux of the rows of "truth_flux" on their difference images.

    Parameters
    ----------
    truth : structured array
        Table "truth_flux", n rows.
    lasting : (n,) bool array
        Rows of objects that stay where they are; the others (asteroids) are in no template.
    templates : list of Template

    Returns
    -------
    (n,) array
        Flux of the visit minus that of the template [nJy]; NaN where there is no template.
    """
    ids, row_object = np.unique(truth["objectId"], return_inverse=True)
    visits = np.union1d(truth["visit"], [source.visit for template in templates for source in template.inputs])
    row_visit = np.searchsorted(visits, truth["visit"])
    flux = np.zeros((len(ids), len(visits)))
    flux[row_object, row_visit] = truth["flux"]
    first = np.unique(row_object, return_index=True)[1]
    expected = np.full(len(truth), np.nan)
    for band in np.unique(truth["band"].astype(str)):
        weight = template_weights(
            truth["ra"][first], truth["dec"][first], visits, [t for t in templates if t.band == band]
        )
        with np.errstate(invalid="ignore"):
            static = (weight * flux).sum(1) / weight.sum(1)
        rows = truth["band"] == band
        expected[rows] = truth["flux"][rows] - np.where(lasting, static[row_object], 0)[rows]
    return expected


def template_weights(ra: np.ndarray, dec: np.ndarray, visits: np.ndarray, templates: list[Template]) -> np.ndarray:
    """Weight of each visit in the template at each position.

    Parameters
    ----------
    ra, dec : (n,) arrays
        Positions [deg].
    visits : (m,) array
        Ascending; all visits of the templates are among them.
    templates : list of Template
        Of one band.

    Returns
    -------
    (n, m) array
        Sum over the templates; zero where a visit or a template does not reach.
    """
    weight = np.zeros((len(ra), len(visits)))
    for template in templates:
        ny, nx = template.shape
        x, y = sky_to_pixel(template.wcs, ra, dec, (0, 0, nx - 1, ny - 1))
        on_patch = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
        for source in template.inputs:
            x, y = sky_to_pixel(source.wcs, ra, dec, source.box)
            x0, y0, x1, y1 = source.box
            inside = on_patch & (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
            weight[inside, np.searchsorted(visits, source.visit)] += source.weight
    return weight
