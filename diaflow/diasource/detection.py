"""Detection on a difference image: what is above the threshold, of either sign, becomes a DIASource.

What is left of the sky goes (`binned`), lines are masked (`streaks`), the matched filter of the PSF turns the
difference into a signal-to-noise image, `footprints` finds the peaks in it, and each becomes one source, placed and
measured by PSF fits on the difference, and on the calexp and the template at the same place.  `shapes` tells dipoles
and trails, `glints` sources on a line; `quality` sums up the image.
"""

import numpy as np
from astropy.wcs import WCS

from diaflow.detect import footprints, streaks
from diaflow.detect.binned import BIN, MESH, Bins, background, expanded
from diaflow.diasource import glints, shapes
from diaflow.errors import BadData
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.measure.matchedfilter import smooth_snr
from diaflow.psf.stampfield import moments_sigma
from diaflow.store import ids, tables

# A source is unreliable with the first planes in its footprint or with any of these in its central 3 x 3.
UNRELIABLE_FOOTPRINT = ("SAT", "SAT_TEMPLATE", "NO_DATA", "EDGE")

UNRELIABLE_CENTRE = ("BAD", "CR", "INTRP", "SAT", "SAT_TEMPLATE", "NO_DATA", "EDGE", "SUSPECT", "STREAK")

METADATA_COLUMNS = {
    "visit": "visit",
    "detector": "detector",
    "band": "band",
    "midpointMjdTai": "mjd",
    "exposureTime": "exptime",
}

FLAG_COLUMNS = {
    "bad": "BAD",
    "cr": "CR",
    "edge": "EDGE",
    "nodata": "NO_DATA",
    "interpolated": "INTRP",
    "saturated": "SAT",
    "saturatedTemplate": "SAT_TEMPLATE",
    "highVariance": "HIGH_VARIANCE",
    "suspect": "SUSPECT",
    "streak": "STREAK",
}

CENTRE_COLUMNS = ("cr", "nodata", "interpolated", "saturated", "saturatedTemplate", "suspect", "streak")

MAX_SHIFT = 2.0  # largest distance of the centroid from the peak [sigma of the PSF]; at S/N 5 its error is 0.3

MAX_SOURCES = 2**ids.NUMBER_BITS


def dia_sources(difference: Exposure, science: Exposure, matched_template: Exposure, config_detect: dict) -> np.ndarray:
    """Detect and measure the DIASources of one difference image.

    Parameters
    ----------
    difference : Exposure
        Decorrelated difference with its own PSF.  What is left of the sky is subtracted from it, its mask gets STREAK,
        DETECTED and DETECTED_NEGATIVE.
    science, matched_template : Exposure
        The calexp, and the template as it was subtracted, on the same pixels.
    config_detect : dict
        ``threshold`` [sigma] and ``aperture`` [pixel].

    Returns
    -------
    table "dia_source", in the order of the peaks' y and x

    Raises
    ------
    BadData
        When the PSF is not finite or there are more sources than a difference image can have.

    Notes
    -----
    A source is kept when the peak of the matched filter of the central PSF is beyond the threshold; its `snr`, from
    the PSF at its place and its sub-pixel position, may be a little below.  A dipole is at the middle of its lobes,
    where the star is; its `psfFlux` is what the star has gained there.
    """
    stamp = _central_stamp(difference)
    sigma = moments_sigma(stamp)
    unusable = difference.flagged(*photometry.UNUSABLE)
    _clean(difference, unusable)
    snr = smooth_snr(difference.image, difference.variance, unusable, stamp)
    found = footprints.find(snr, config_detect["threshold"], sigma, difference.mask)
    if len(found) > MAX_SOURCES:
        raise BadData(f"{len(found)} sources on the difference image")
    table = tables.empty("dia_source", len(found))
    _set_data_id(table, difference)
    table["isNegative"], table["bboxSize"] = found.is_negative, found.bbox_size
    fit = photometry.psf_centroid(
        difference.image, difference.variance, difference.psf, found.x, found.y, ~unusable, MAX_SHIFT * sigma
    )
    table["x"], table["y"], table["xErr"], table["yErr"], table["centroid_flag"] = fit
    sky = _steps_on_sky(difference.wcs, found.x, found.y)
    middle = shapes.set_dipoles(table, difference, science, matched_template, found, sky, sigma)
    table["x"], table["y"] = np.where(table["isDipole"], middle, [table["x"], table["y"]])
    _set_sky_position(table, difference.wcs, sky)
    _set_fluxes(table, difference, science, matched_template, config_detect["aperture"])
    _set_flags(table, difference.mask, found)
    scale = np.sqrt(np.abs(np.linalg.det(sky)))
    excess = shapes.set_shapes(table, difference, scale, sigma)
    shapes.set_trails(table, difference, excess, sky, sigma)
    flashes = np.flatnonzero(~(table["isNegative"] | table["isDipole"] | table["pixelFlags"]))
    table["glint_trail"][flashes] = glints.on_lines(table["x"][flashes], table["y"][flashes])
    return table


def _clean(difference: Exposure, unusable: np.ndarray) -> None:
    """Take off what is left of the sky and mark streaks."""
    bins = Bins.of(difference.image, difference.variance, unusable)
    left = background(bins)
    bins.subtract(left.cells)
    sky = expanded(left.cells, difference.shape, MESH * BIN) if left.scatter else np.float32(left.cells.flat[0])
    difference.image -= sky
    difference.image[difference.flagged("NO_DATA")] = 0
    difference.metadata["background_scatter"] = left.scatter
    difference.mask &= ~np.int32(bits("STREAK"))
    streaks.paint(difference.mask, streaks.find(bins), bits("STREAK"))


def _central_stamp(difference: Exposure) -> np.ndarray:
    ny, nx = difference.shape
    stamp = difference.psf(np.array([(nx - 1) / 2]), np.array([(ny - 1) / 2]))[0]
    if not (np.isfinite(stamp).all() and np.isfinite(moments_sigma(stamp))):
        raise BadData("the PSF of the difference image is not finite")
    return stamp


def _set_data_id(table: np.ndarray, difference: Exposure) -> None:
    metadata = difference.metadata
    table["diaSourceId"] = ids.source_ids(metadata["visit"], metadata["detector"], len(table))
    for column, key in METADATA_COLUMNS.items():
        table[column] = metadata[key]
    table["visitInTemplate"] = metadata.get("visit_in_template", False)


def _steps_on_sky(wcs: WCS, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Steps to the east and to the north for one pixel in x and in y, (n, 2, 2) [arcsec]."""
    ra, dec = wcs.all_pix2world(x, y, 0)
    steps = []
    for dx, dy in ((1, 0), (0, 1)):
        ra_there, dec_there = wcs.all_pix2world(x + dx, y + dy, 0)
        steps.append([((ra_there - ra + 180) % 360 - 180) * np.cos(np.radians(dec)), dec_there - dec])
    return 3600 * np.transpose(steps, (2, 1, 0))


def _set_sky_position(table: np.ndarray, wcs: WCS, sky: np.ndarray) -> None:
    table["ra"], table["dec"] = wcs.all_pix2world(table["x"], table["y"], 0)
    errors = np.stack([table["xErr"], table["yErr"]], 1)
    table["raErr"], table["decErr"] = np.hypot(*(sky * errors[:, None]).transpose(2, 1, 0)) / 3600


def _set_fluxes(
    table: np.ndarray,
    difference: Exposure,
    science: Exposure,
    matched_template: Exposure,
    aperture: float,
) -> None:
    x, y = table["x"], table["y"]
    on_difference = photometry.exposure_flux(difference, x, y)
    table["psfFlux"], table["psfFluxErr"] = on_difference.flux, on_difference.err
    table["psfChi2"], table["psfNdata"] = on_difference.chi2, on_difference.n_data
    table["psfFlux_flag"] = on_difference.flag
    table["psfFlux_flag_edge"] = on_difference.flag_edge
    table["psfFlux_flag_noGoodPixels"] = on_difference.flag_no_good_pixels
    table["snr"] = on_difference.flux / on_difference.err
    for column, exposure in (("scienceFlux", science), ("templateFlux", matched_template)):
        fit = photometry.exposure_flux(exposure, x, y)
        table[column], table[f"{column}Err"] = fit.flux, fit.err
    flux, err, truncated = photometry.aperture_flux(difference.image, difference.variance, x, y, aperture)
    missing = (photometry.planes_within(difference.mask, x, y, aperture) & bits("NO_DATA")) != 0
    table["apFlux"], table["apFluxErr"] = flux, err
    table["apFlux_flag_apertureTruncated"] = truncated
    table["apFlux_flag"] = truncated | missing | ~np.isfinite(flux)


def _set_flags(table: np.ndarray, mask: np.ndarray, found: footprints.Footprints) -> None:
    """Mask planes in the footprint and in the central 3 x 3 of the position."""
    centre = photometry.planes_within(mask, table["x"], table["y"], photometry.CENTRE_RADIUS)
    footprint = found.planes | centre
    for name, plane in FLAG_COLUMNS.items():
        table[f"pixelFlags_{name}"] = (footprint & bits(plane)) != 0
        if name in CENTRE_COLUMNS:
            table[f"pixelFlags_{name}Center"] = (centre & bits(plane)) != 0
    table["pixelFlags"] = ((footprint & bits(*UNRELIABLE_FOOTPRINT)) | (centre & bits(*UNRELIABLE_CENTRE))) != 0
