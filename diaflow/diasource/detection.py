"""Detection on a difference image: what is above the threshold, of either sign, becomes a DIASource.

Streaks have been marked on the difference (`detect.streaks`).  The matched filter of the PSF turns it into a
signal-to-noise image, `footprints` finds the peaks in it, and each becomes one source, placed and measured by PSF fits
on the difference, and on the calexp and the template at the same place.  `dipole` and `trail` fit what is no point,
`shapes` tells it, `sharp` finds what is no light, `leftovers` what matching left of a star, `surroundings` what is a
part of something larger, `glints` sources on a line; `flags` says what to trust, and `quality` sums up the image.
"""

import numpy as np
from astropy.wcs import WCS

from diaflow.detect import footprints
from diaflow.diasource import dipole, flags, glints, leftovers, shapes, sharp, surroundings, trail
from diaflow.errors import BadData, Kind
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.measure.matchedfilter import smooth_snr
from diaflow.psf.stampfield import moments_sigma
from diaflow.sky import localplane
from diaflow.store import ids, tables
from diaflow.subtract.result import Difference

METADATA_COLUMNS = {
    "visit": "visit",
    "detector": "detector",
    "band": "band",
    "midpointMjdTai": "mjd",
    "exposureTime": "exptime",
}
MAX_SHIFT = 2.0  # largest distance of the centroid from the peak [sigma of the PSF]; at S/N 5 its error is 0.3
LEAST_NOISE = 0.9  # of the error of a flux, where a source may be called sharp: chosen
MAX_SOURCES = 2**ids.NUMBER_BITS  # that identifiers can tell apart


def dia_sources(difference: Difference, science: Exposure, config_detect: dict) -> np.ndarray:
    """Detect and measure the DIASources of one difference image.

    Parameters
    ----------
    difference : Difference
        With its streaks marked.  The mask of its exposure gets DETECTED and DETECTED_NEGATIVE.
    science : Exposure
        The calexp.
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
    the PSF at its place and its sub-pixel position, may be a little below.  It must be above without the level of its
    surroundings, too, where these are no even sky.  A dipole is at the middle of its lobes,
    where the star is; its `psfFlux` is what the star has gained there.
    """
    image, matched_template = difference.exposure, difference.matched_template
    stamp = _central_stamp(image)
    sigma = moments_sigma(stamp)
    unusable = image.flagged(*photometry.UNUSABLE)
    snr = smooth_snr(image.image, image.variance, unusable, stamp, image.flux_error)
    found = footprints.find(snr, config_detect["threshold"], sigma, image.mask)
    if len(found) > MAX_SOURCES:
        raise BadData(f"{len(found)} sources on the difference image", Kind.DIFFERENCE, found=len(found))
    table, found, steps = _located(found, image, science, matched_template, ~unusable, sigma)
    _set_fluxes(table, difference, science, config_detect["aperture"])
    stays = surroundings.stand_out(image, table, config_detect["threshold"], sigma)
    stays &= leftovers.best_of_each_star(table, found, matched_template, sigma)
    table, found, steps = table[stays], found[stays], steps[stays]
    _set_data_id(table, image)
    table["isNegative"], table["bboxSize"] = found.is_negative, found.bbox_size
    _set_sky_position(table, image.wcs, steps)
    table["sharp"] = ~table["isDipole"] & _is_hit(table, image, ~unusable, config_detect["threshold"], sigma)
    flags.set_columns(table, image.mask, science.mask, found, stamp)
    excess = shapes.set_columns(table, image, localplane.pixel_side(steps), sigma)
    trail.set_columns(table, image, excess, steps, sigma)
    flashes = np.flatnonzero(~(table["isNegative"] | table["isDipole"] | table["pixelFlags"]))
    table["glint_trail"][flashes] = glints.on_lines(table["x"][flashes], table["y"][flashes])
    return table


def _located(
    found: footprints.Footprints,
    image: Exposure,
    science: Exposure,
    matched_template: Exposure,
    good: np.ndarray,
    sigma: float,
) -> tuple[np.ndarray, footprints.Footprints, np.ndarray]:
    """Table with centroids and dipoles, footprints and steps of the sources, of which no two have one place."""
    table = tables.empty("dia_source", len(found))
    fit = photometry.psf_centroid(image.image, image.variance, image.psf, found.x, found.y, good, MAX_SHIFT * sigma)
    table["x"], table["y"], table["xErr"], table["yErr"], table["centroid_flag"] = fit
    steps = localplane.steps(image.wcs, found.x, found.y)
    middle = dipole.set_columns(table, image, science, matched_template, found, steps, sigma)
    table["x"], table["y"] = np.where(table["isDipole"], middle, [table["x"], table["y"]])
    stays = footprints.resolved(table["x"], table["y"], np.where(table["centroid_flag"], 0, found.height), sigma)
    return table[stays], found[stays], steps[stays]


def _central_stamp(difference: Exposure) -> np.ndarray:
    ny, nx = difference.shape
    stamp = difference.psf(np.array([(nx - 1) / 2]), np.array([(ny - 1) / 2]))[0]
    if not (np.isfinite(stamp).all() and np.isfinite(moments_sigma(stamp))):
        raise BadData("the PSF of the difference image is not finite", Kind.PSF)
    return stamp


def _noise_share(table: np.ndarray, difference: Exposure) -> np.ndarray:
    """Part of the error of each PSF flux that is noise."""
    if difference.flux_error is None:
        return np.ones(len(table))
    share = difference.flux_error.at(table["x"], table["y"]) / table["psfFluxErr"].astype(float)
    return np.sqrt(np.maximum(1 - share**2, 0))


def _is_hit(table: np.ndarray, image: Exposure, good: np.ndarray, threshold: float, sigma: float) -> np.ndarray:
    """Which sources particles have left, by their shape or because they lie beside known hits."""
    x, y, snr = table["x"], table["y"], table["snr"]
    no_light = sharp.is_sharp(image, good, x, y, snr, sigma) | sharp.is_uneven(image, x, y, snr)
    # what is left of a star that was not removed exactly is no PSF, and yet light
    return no_light & (_noise_share(table, image) > LEAST_NOISE) | sharp.is_beside_hits(image, x, y, threshold)


def _set_data_id(table: np.ndarray, difference: Exposure) -> None:
    metadata = difference.metadata
    table["diaSourceId"] = ids.source_ids(metadata["visit"], metadata["detector"], len(table))
    for column, key in METADATA_COLUMNS.items():
        table[column] = metadata[key]
    table["visitInTemplate"] = metadata.get("visit_in_template", False)


def _set_sky_position(table: np.ndarray, wcs: WCS, steps: np.ndarray) -> None:
    table["ra"], table["dec"] = wcs.all_pix2world(table["x"], table["y"], 0)
    errors = np.stack([table["xErr"], table["yErr"]], 1)
    across = np.hypot(*(steps * errors[:, None]).transpose(2, 1, 0))
    table["raErr"], table["decErr"] = across / 3600


def _set_fluxes(table: np.ndarray, difference: Difference, science: Exposure, aperture: float) -> None:
    image, (x, y) = difference.exposure, (table["x"], table["y"])
    on_difference = photometry.exposure_flux(image, x, y)
    table["psfFlux"], table["psfFluxErr"] = on_difference.flux, on_difference.err
    table["psfChi2"], table["psfNdata"] = on_difference.chi2, on_difference.n_data
    table["psfFlux_flag"] = on_difference.flag
    table["psfFlux_flag_edge"] = on_difference.flag_edge
    table["psfFlux_flag_noGoodPixels"] = on_difference.flag_no_good_pixels
    table["snr"] = on_difference.flux / on_difference.err
    on_science, on_template = (photometry.exposure_flux(e, x, y) for e in (science, difference.matched_template))
    table["scienceFlux"] = on_science.flux
    table["scienceFluxErr"] = on_science.err * np.sqrt(difference.figures["science_variance_factor"])
    table["templateFlux"], table["templateFluxErr"] = on_template.flux, on_template.err
    flux, err, truncated = photometry.aperture_flux(image.image, image.variance, x, y, aperture)
    missing = (photometry.planes_within(image.mask, x, y, aperture) & bits("NO_DATA")) != 0
    table["apFlux"], table["apFluxErr"] = flux, photometry.with_flux_error(image, err, x, y)
    table["apFlux_flag_apertureTruncated"] = truncated
    table["apFlux_flag"] = truncated | missing | ~np.isfinite(flux)
