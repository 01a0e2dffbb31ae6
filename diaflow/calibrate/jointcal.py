"""Joint calibration of a few visits: the camera's distortion, and reference stars better than their catalogue.

In come positions and fluxes of the same stars on many images; out go the distortion of each detector, which all
images share, and positions and magnitudes of the stars that agree with all images and, within its errors, with the
catalogue.  With these a single image needs no more than an affine map and a zero point.

The unknowns are an affine map per image, polynomials of degree two and more per detector, and a correction for each
star, expected to be zero within the error of the catalogue; likewise a zero point per image and a correction of each
magnitude (Astier et al., LSST DMTN-036; Padmanabhan et al. 2008, ApJ 674, 1217; `corrections` solves for them).
Corrections of positions are to the east and to the north at the star, into which the planes of the images are turned:
near a pole each image has a north of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from diaflow import polynomials
from diaflow.calibrate import corrections
from diaflow.calibrate.stars import centroid_errors, flux_errors, match_sources, measure_image
from diaflow.instruments.images import Pixels
from diaflow.sky import sphere
from diaflow.sky.localplane import from_plane, to_plane
from diaflow.sky.wcs import central_pixel_scale
from diaflow.statistics import DEGREES_OF_FREEDOM
from diaflow.store import tables
from diaflow.units import MAG_PER_RELATIVE_ERROR

MAS_PER_DEGREE = 3.6e6
N_LINEAR = 3  # terms of an affine map
# Errors of a catalogue that tells none, until the data tell; and the least of any star or observation [mas, mag].
FIRST_POSITION_ERROR, FIRST_MAG_ERROR = 20.0, 0.01
LEAST_POSITION_ERROR, LEAST_MAG_ERROR = 1.0, 1e-3
FIRST_MAG_CLIP = 5 * FIRST_MAG_ERROR  # added to the errors when magnitudes are clipped before any fit [mag], chosen
ROUNDS = 5  # of fit, clipping and errors, chosen
MAGNITUDES = "mag", "mag_err", "mag_common_err"  # columns of a star that `magnitudes` gives


@dataclass(frozen=True)
class Image:
    """What is known of an image.

    Attributes
    ----------
    detector : int
    band : str
    shape : (ny, nx)
    centre : (ra, dec)
        Roughly, of its centre [deg].
    pixel_scale : float
        [deg]
    observations : "joint_source" table
    reference : "refcat" table
        The stars observed, in the order of the observations.
    """

    detector: int
    band: str
    shape: tuple[int, int]
    centre: tuple[float, float]
    pixel_scale: float
    observations: np.ndarray
    reference: np.ndarray


def observe(pixels: Pixels, row: np.void, refcat: np.ndarray, config: dict) -> Image:
    """Measure the reference stars on one image.

    Parameters
    ----------
    pixels : Pixels
    row : row of the "exposure" table
    refcat : "refcat" table
        In the band of the image.
    config : dict
        The `calexp` section of the configuration.

    Returns
    -------
    Image

    Raises
    ------
    BadData
        When the image cannot be measured or matched.
    """
    measured = measure_image(pixels, row, config)
    exposure, table = measured.exposure, measured.table
    reference = refcat[refcat["star"]]
    i, j, centre = match_sources(table, exposure.wcs, exposure.shape, reference, config)
    source = table[i]
    point_like = source["extendedness"] == 0
    observations = tables.from_columns(
        "joint_source",
        id=reference["id"][j],
        x=source["x"],
        y=source["y"],
        err=centroid_errors(source),
        flux=np.where(point_like, source["psfFlux"], np.nan),
        flux_err=flux_errors(source, reference[j], refcat, exposure),
    )
    scale = central_pixel_scale(exposure.wcs, exposure.shape) / 3600
    return Image(int(row["detector"]), str(row["band"]), exposure.shape, centre, scale, observations, reference[j])


def solve(images: Sequence[Image], order: int) -> tuple[np.ndarray, np.ndarray]:
    """The camera and the stars that agree with all images.

    Parameters
    ----------
    images : sequence of Image
    order : int
        Highest degree of the distortion.

    Returns
    -------
    camera : "camera" table
        Distortion of each detector.
    stars : "joint_star" table
        Corrected stars, once for each band.
    """
    if not images:
        return tables.empty("camera"), tables.empty("joint_star")
    parts = [image.observations.copy() for image in images]
    for number, part in enumerate(parts):
        part["image"] = number
    observed = tables.concatenate("joint_source", parts)
    ids, first, star = np.unique(observed["id"], return_index=True, return_inverse=True)
    catalogue = tables.concatenate("refcat", [image.reference for image in images])[first]
    distortion, (east, north), pos_err = positions(images, observed, star, catalogue, order)
    stars = []
    for band in sorted({image.band for image in images}):
        in_band = np.array([image.band == band for image in images])[observed["image"]]
        found = magnitudes(observed[in_band], star[in_band], *_catalogue_magnitudes(images, band, ids))
        columns = {"east": east, "north": north, "pos_err": pos_err, **dict(zip(MAGNITUDES, found))}
        stars.append(tables.from_columns("joint_star", id=ids, band=band, **columns))
    return _camera(distortion, order), tables.concatenate("joint_star", stars)


def refined(refcat: np.ndarray, stars: np.ndarray, band: str) -> np.ndarray:
    """Reference stars with what the joint calibration knows better.

    Parameters
    ----------
    refcat : "refcat" table
        In one band.
    stars : "joint_star" table
    band : str

    Returns
    -------
    "refcat" table
        A copy: positions and their errors are those of the joint calibration where the star is in it, and magnitudes
        where it has one.
    """
    stars = stars[stars["band"] == band]
    order = np.argsort(stars["id"], kind="stable")
    place = np.searchsorted(stars["id"], refcat["id"], sorter=order)
    rows = np.flatnonzero(place < len(stars))
    partner = order[place[rows]]
    same = stars["id"][partner] == refcat["id"][rows]
    rows, partner = rows[same], partner[same]
    better = refcat.copy()
    shift = np.column_stack([stars["east"][partner], stars["north"][partner]])
    better["ra"][rows], better["dec"][rows] = from_plane(shift, (refcat["ra"][rows], refcat["dec"][rows]))
    better["pos_err"][rows] = stars["pos_err"][partner]
    measured = np.isfinite(stars["mag"][partner])
    for column in MAGNITUDES:
        better[column][rows[measured]] = stars[column][partner[measured]]
    return better


def distortion_of(camera: np.ndarray, detector: int) -> np.ndarray | None:
    """The distortion of a detector.

    Parameters
    ----------
    camera : "camera" table
    detector : int

    Returns
    -------
    (n_terms, 2) array or None
        Coefficients of the `polynomials.centred` position in the order of `polynomials.terms`; None where the camera
        has no such detector.
    """
    rows = camera[camera["detector"] == detector]
    rows = rows[np.lexsort((rows["q"], rows["p"] + rows["q"]))]
    return np.column_stack([rows["du"], rows["dv"]]) if len(rows) else None


def positions(
    images: Sequence[Image], observed: np.ndarray, star: np.ndarray, catalogue: np.ndarray, order: int
) -> tuple[dict[int, np.ndarray], np.ndarray, np.ndarray]:
    """Distortion of the detectors and positions of the stars.

    Parameters
    ----------
    images : sequence of Image
    observed : "joint_source" table
        All observations (n).
    star : (n,) int array
        Row of each observation in the catalogue.
    catalogue : "refcat" table
        The m stars; where `pos_err` is unknown, the data tell a common one.
    order : int
        Highest degree of the distortion; lower where the stars do not tell its terms.

    Returns
    -------
    distortion : {detector: (n_terms, 2) array}
        Zero for degrees below two.
    shift : (2, m) array
        To be added to right ascension (times the cosine of the declination) and declination [deg].
    pos_err : (m,) array
        [deg]
    """
    number = observed["image"]
    detectors = sorted({image.detector for image in images})
    detector = np.array([detectors.index(image.detector) for image in images])[number]
    terms, plane = _terms_and_plane(images, observed, order)
    turn = _turns(images, number, catalogue, star)
    pixel = MAS_PER_DEGREE * np.array([image.pixel_scale for image in images])[number]
    error = np.hypot(observed["err"] * pixel, LEAST_POSITION_ERROR)
    known = np.isfinite(catalogue["pos_err"])
    catalogue_error = np.maximum(catalogue["pos_err"] * MAS_PER_DEGREE, LEAST_POSITION_ERROR)
    prior = np.where(known, catalogue_error, FIRST_POSITION_ERROR)
    used = valid = np.isfinite(terms.sum(0) + plane.sum(1) + error)

    n_affine = 2 * N_LINEAR * len(images)
    of_images = [number == i for i in range(len(images))]
    maps = np.array([np.linalg.lstsq(terms[:N_LINEAR, rows].T, plane[rows])[0] for rows in of_images])
    at_stars = np.einsum("nsa,na->sn", turn, plane)
    tied, best_error = np.ones(len(prior), bool), corrections.smallest_error(error, star, valid, len(prior))
    for _ in range(ROUNDS):
        blocks = _affine_and_distortion(terms, maps, turn, number, detector, len(detectors))
        tie = np.where(tied, np.hypot(prior, best_error), corrections.UNTIED)
        parameters, shift, star_error = corrections.solve(blocks, at_stars, used / error**2, star, tie)
        maps = parameters[:n_affine].reshape(len(images), N_LINEAR, 2)
        residual = np.array([at_stars[a] + shift[a][star] - blocks[a] @ parameters for a in range(2)])
        used, error = corrections.clipped(residual, error, valid)
        if not known.all():
            prior[~known] = corrections.typical_error(
                shift[:, ~known], star_error[~known], prior[~known], LEAST_POSITION_ERROR
            )
        tied = np.hypot(*shift) < corrections.CLIP * np.hypot(prior, star_error)
    parameters, shift = _of_credible_order(blocks, at_stars, used / error**2, star, tie, n_affine, order)
    higher = parameters[n_affine:].reshape(len(detectors), -1, 2)
    distortion = {d: np.vstack([np.zeros((N_LINEAR, 2)), c]) for d, c in zip(detectors, higher)}
    return distortion, shift / MAS_PER_DEGREE, star_error / MAS_PER_DEGREE


def magnitudes(
    observed: np.ndarray, star: np.ndarray, mag: np.ndarray, mag_err: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Magnitudes of the stars in one band.

    Parameters
    ----------
    observed : "joint_source" table
        Observations in the band (n).
    star : (n,) int array
        Row of each observation among the stars.
    mag, mag_err : (m,) arrays
        Catalogue AB magnitudes [mag]; stars with NaN keep it; where the error is unknown, the data tell a common one.

    Returns
    -------
    mag, mag_err, mag_common_err : (m,) arrays
        Magnitudes, their errors against each other, and those of the tie to the catalogue, which the stars of an image
        share [mag]; NaN for stars without an observation that agrees.
    """
    numbers, image = np.unique(observed["image"], return_inverse=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        offset = mag[star] + 2.5 * np.log10(observed["flux"])
        error = np.hypot(MAG_PER_RELATIVE_ERROR * observed["flux_err"] / observed["flux"], LEAST_MAG_ERROR)
    valid = np.isfinite(offset + error)
    offset, error = np.where(valid, offset, 0), np.where(valid, error, 1)
    _leave_out_discordant(offset, error, image, valid)
    used = valid
    known = np.isfinite(mag_err)
    prior = np.where(known, np.hypot(mag_err, LEAST_MAG_ERROR), FIRST_MAG_ERROR)
    block = sparse.csr_array((np.ones(len(star)), (np.arange(len(star)), image)), shape=(len(star), len(numbers)))
    best_error = corrections.smallest_error(error, star, valid, len(prior))
    # Light of neighbours makes stars too bright, the more the fainter they are: those that the catalogue knows better
    # do not tie it to the images, and of the others each counts by its own correction, as in `student_mean`.
    bright = best_error <= np.maximum(prior, _limits(best_error, star[valid], image[valid]))
    tied, shift = bright, np.zeros((1, len(prior)))
    for _ in range(ROUNDS):
        own = prior**2 + best_error**2 + shift[0] ** 2 / DEGREES_OF_FREEDOM
        tie = np.where(tied, np.sqrt(own), corrections.UNTIED)
        zero_points, shift, star_error = corrections.solve([block], offset[None], used / error**2, star, tie)
        used, error = corrections.clipped((offset + shift[0][star] - block @ zero_points)[None], error, valid)
        if not known.all():
            prior[~known] = corrections.typical_error(
                shift[:, ~known], star_error[~known], prior[~known], LEAST_MAG_ERROR
            )
        tied = bright & (np.abs(shift[0]) < corrections.CLIP * np.hypot(prior, star_error))
    seen = np.bincount(star[used], minlength=len(mag)) > 0
    common_error = corrections.common_error(block, used / error**2, star, tie, np.where(tied, prior, tie))
    return tuple(np.where(seen, column, np.nan) for column in (mag + shift[0], star_error, common_error))


def _catalogue_magnitudes(images: Sequence[Image], band: str, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes and errors (m,) of stars in a band by sorted identifiers, NaN where no image in it has the star."""
    mag, mag_err = np.full((2, len(ids)), np.nan)
    for image in images:
        if image.band == band:
            rows = np.searchsorted(ids, image.reference["id"])
            mag[rows], mag_err[rows] = image.reference["mag"], image.reference["mag_err"]
    return mag, mag_err


def _terms_and_plane(images: Sequence[Image], observed: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Terms (n_terms, n) of the observed positions, and tangent-plane positions (n, 2) of the catalogue [mas]."""
    terms = np.empty((polynomials.n_terms(order), len(observed)))
    plane = np.empty((len(observed), 2))
    for number, image in enumerate(images):
        rows = observed["image"] == number
        u, v = polynomials.centred(observed["x"][rows], observed["y"][rows], image.shape)
        terms[:, rows] = polynomials.terms(u, v, order)
        plane[rows] = MAS_PER_DEGREE * to_plane(image.reference["ra"], image.reference["dec"], image.centre)
    return terms, plane


def _of_credible_order(blocks, values, weight, star, tie, n_affine, order) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and corrections of the highest degree that the stars tell, terms beyond it zero.

    Schwarz's criterion (1978, Annals of Statistics 6, 461): terms that the stars hardly tell add more errors than they
    take away.
    """
    n_higher = polynomials.n_terms(order) - N_LINEAR
    term = (np.arange(blocks[0].shape[1] - n_affine) // 2) % max(n_higher, 1)
    cost, fits = np.log(2 * np.count_nonzero(weight)), []
    for degree in range(1, order + 1):
        kept = np.append(np.ones(n_affine, bool), term < polynomials.n_terms(degree) - N_LINEAR)
        parameters = np.zeros(len(kept))
        parameters[kept], shift, _ = corrections.solve([block[:, kept] for block in blocks], values, weight, star, tie)
        residual = np.array([v + s[star] - block @ parameters for v, s, block in zip(values, shift, blocks)])
        chi2 = (weight * residual**2).sum() + ((shift / tie) ** 2).sum()
        fits.append((chi2 + cost * kept.sum(), parameters, shift))
    _, parameters, shift = min(fits, key=lambda fit: fit[0])
    return parameters, shift


def _turns(images: Sequence[Image], number: np.ndarray, catalogue: np.ndarray, star: np.ndarray) -> np.ndarray:
    """East and north of the planes of the images in those at the star (n, 2, 2), for each observation."""
    planes = np.array([sphere.axes(*image.centre) for image in images])
    at_stars = sphere.axes(catalogue["ra"], catalogue["dec"])
    return np.einsum("nsx,nax->nsa", at_stars[star], planes[number])


def _limits(best_error: np.ndarray, star: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Error (m,) up to which stars are among the best `MIN_STARS` of an image that they are on."""
    limits = np.zeros(len(best_error))
    for number in np.unique(image):
        of_image = np.unique(star[image == number])
        limits[of_image] = np.maximum(limits[of_image], np.sort(best_error[of_image])[: corrections.MIN_STARS][-1])
    return limits


def _leave_out_discordant(offset: np.ndarray, error: np.ndarray, image: np.ndarray, valid: np.ndarray) -> None:
    """Variable stars and wrong matches are made invalid, in place: they would pull a first least-squares fit."""
    for number in np.unique(image[valid]):
        rows = valid & (image == number)
        deviation = np.abs(offset - np.median(offset[rows]))[rows]
        valid[rows] = deviation < corrections.CLIP * np.hypot(error[rows], FIRST_MAG_CLIP)


def _affine_and_distortion(terms, maps, turn, image, detector, n_detectors) -> list[sparse.csr_array]:
    """Design matrices of east and north at the star for the affine maps and, through these, for the distortion."""
    n_terms, n = terms.shape
    n_affine, n_higher = 2 * N_LINEAR * len(maps), n_terms - N_LINEAR
    matrix = np.einsum("nla,nsa->nls", maps[image, 1:], turn)
    first_affine, first_higher = 2 * N_LINEAR * image, n_affine + 2 * n_higher * detector
    blocks = []
    for axis in range(2):
        values, columns = [], []
        for k in range(N_LINEAR):
            values += [terms[k] * turn[:, axis, along] for along in range(2)]
            columns += [first_affine + 2 * k + along for along in range(2)]
        for k in range(n_higher):
            values += [terms[N_LINEAR + k] * matrix[:, along, axis] for along in range(2)]
            columns += [first_higher + 2 * k + along for along in range(2)]
        entries = np.concatenate(values), (np.tile(np.arange(n), len(values)), np.concatenate(columns))
        blocks.append(sparse.csr_array(entries, shape=(n, n_affine + 2 * n_higher * n_detectors)))
    return blocks


def _camera(distortion: dict[int, np.ndarray], order: int) -> np.ndarray:
    """The "camera" table of the distortions."""
    p, q = np.array(polynomials.exponents(order)).T
    parts = [tables.from_columns("camera", detector=d, p=p, q=q, du=c[:, 0], dv=c[:, 1]) for d, c in distortion.items()]
    return tables.concatenate("camera", parts)
