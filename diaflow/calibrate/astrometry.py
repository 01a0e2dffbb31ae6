"""Astrometric calibration: detected stars and a reference catalogue in, a corrected WCS out.

`match` finds the pointing and rotation error of a header WCS: pair offsets of bright stars on the tangent plane
pile up at the true shift for the true rotation; mutual neighbours and an affine map refine it, and the number of
matches is weighed against chance.  `fit_wcs` fits a gnomonic projection with SIP distortion to matched stars by
linear least squares (Shupe et al. 2005, ASP 347, 491).
"""

import numpy as np
from astropy.wcs import WCS
from scipy.ndimage import uniform_filter
from scipy.spatial import cKDTree
from scipy.special import gammainc

from diaflow import polynomials
from diaflow.calibrate.tan_sip import tan_sip
from diaflow.errors import BadData, Kind, data_may_fail
from diaflow.sky import sphere
from diaflow.statistics import SIGMA_PER_MEDIAN_LENGTH, median_width

N_BRIGHT = 200  # sources in the search for the shift, and as dense a sample of the reference stars: chosen
MIN_MATCHES = 6  # three stars fit any affine map; as many again must agree with it
MIN_AFFINE = 12  # fewer stars do not tell shear from a wrong match
MAX_CHANCE = 1e-4  # largest expected number of accidental matches as good as the best, chosen
MAX_SCALE_ERROR = 0.02  # of the header, chosen
FINAL_RADIUS = 2.0  # smallest matching radius [pixel], chosen: many times the error of a centroid
REFINED_SIGMA = 4.0  # the matching radius shrinks to this many times the scatter of the matches
REFINED_STEP = 1e-3  # change of any position, in final matching radii, below which the refinement ends
STARS_PER_TERM = 3  # a polynomial of fewer stars would follow their errors
LEAST_ERROR = 1e-3  # of any star [pixel], chosen
LEAST_SIGMA = 0.1  # stars of perfect positions must not clip each other
SETTLED = 0.02  # relative change of the errors of the stars below which the fit of a WCS ends
# Error of the header's linear terms that the search forgives, over the distance from the centre; least of it [pixel].
TOLERANCE, MIN_TOLERANCE = 0.003, 3.0
SURROUNDINGS = 9  # side of the square of cells that a peak of pair offsets is compared with, chosen
ROUNDS = 8  # at most, of every iteration here: chosen
NO_SHIFT = 1e-13  # of CRVAL [deg]: a double holds no less of right ascension


def to_plane(ra: np.ndarray, dec: np.ndarray, crval: np.ndarray) -> np.ndarray:
    """Gnomonic projection about a point.

    Parameters
    ----------
    ra, dec : (n,) arrays
        [deg]
    crval : (ra, dec)
        The point [deg].

    Returns
    -------
    (n, 2) array
        Standard coordinates xi and eta [deg]; NaN far from the point.
    """
    return np.rad2deg(np.stack(sphere.gnomonic(ra, dec, *crval), -1))


def from_plane(plane: np.ndarray, crval: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of `to_plane`.

    Parameters
    ----------
    plane : (..., 2) array
        Standard coordinates [deg].
    crval : (ra, dec)
        The point of the projection [deg].

    Returns
    -------
    ra, dec : arrays
        [deg], right ascension in 0 ... 360.
    """
    return sphere.from_gnomonic(*np.deg2rad(np.moveaxis(plane, -1, 0)), *crval)


def match(
    x: np.ndarray,
    y: np.ndarray,
    flux: np.ndarray,
    wcs: WCS,
    shape: tuple[int, int],
    refcat: np.ndarray,
    max_offset_arcsec: float,
    max_rotation_deg: float,
) -> tuple[np.ndarray, np.ndarray, WCS]:
    """Match sources to reference stars through an unknown shift and rotation of the WCS.

    Parameters
    ----------
    x, y, flux : (n,) arrays
        Sources [pixel, any unit that ranks them].
    wcs : WCS
        Of the header; parity, scale (to a few 0.1 %) and distortion are taken from it.
    shape : (ny, nx)
        Of the detector.
    refcat : structured array
        Columns ra, dec [deg] and mag; it should reach `max_offset_arcsec` beyond the detector.
    max_offset_arcsec, max_rotation_deg : float
        Largest shift of the detector's centre and largest rotation about it.

    Returns
    -------
    i_source, i_reference : (m,) int arrays
        One-to-one matches, in the order of the sources.
    wcs : WCS
        With CRVAL and the linear matrix corrected; CRPIX and distortion are as they were.

    Raises
    ------
    BadData
        When no match stands out against chance.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    corners = _on_plane(*_detector_points(shape), wcs)
    centre, half = corners[0], np.hypot(*(corners[1:] - corners[0]).T).max()
    reach = half + max_offset_arcsec / 3600
    pixel = np.sqrt(np.abs(np.linalg.det(wcs.pixel_scale_matrix)))
    tolerance = max(TOLERANCE * half, MIN_TOLERANCE * pixel)

    i_source = _ranked(x, y, -np.asarray(flux, float))
    sky = to_plane(refcat["ra"], refcat["dec"], wcs.wcs.crval)
    i_reference = _ranked(*sky.T, refcat["mag"])
    i_reference = i_reference[np.hypot(*(sky[i_reference] - centre).T) < reach]
    # Reference stars are taken as densely as sources: those much fainter than any source match by accident only.
    n_bright = int(N_BRIGHT * np.pi * reach**2 / (shape[0] * shape[1] * pixel**2))
    i_reference = i_reference[: max(n_bright, 2 * n_bright * len(i_source) // N_BRIGHT)]
    x, y, ra, dec = x[i_source], y[i_source], refcat["ra"][i_reference], refcat["dec"][i_reference]
    reason = f"of {len(x)} sources and {len(ra)} reference stars in reach)"
    if min(len(x), len(ra)) < MIN_MATCHES:
        raise BadData(f"no match to the reference catalogue ({reason.removeprefix('of ')}", Kind.MATCH)

    # The brightest of each, or more where the other catalogue is short.
    n, m = max(N_BRIGHT, N_BRIGHT * n_bright // len(ra)), max(n_bright, N_BRIGHT * n_bright // len(x))
    stars = x[:n], y[:n], ra[:m], dec[:m]
    moved, n_trials = _shifted(*stars, wcs, centre, half, max_offset_arcsec / 3600, max_rotation_deg, tolerance)
    moved, radius = _refined(*stars, moved, 1.5 * tolerance, FINAL_RADIUS * pixel)
    moved, radius = _refined(x, y, ra, dec, moved, radius, FINAL_RADIUS * pixel)

    plane, sky = _on_plane(x, y, moved), to_plane(ra, dec, moved.wcs.crval)
    i, j = mutual_neighbours(plane, sky, radius)
    # Each of the three stars that define an affine map may be chosen among those within the tolerance.
    n_trials *= max(tolerance / radius, 1) ** 6
    accidents = n_trials * _chance(plane, sky, radius, len(i), (radius / reach) ** 2)
    possible = _is_small(wcs, moved, shape, max_offset_arcsec / 3600 + tolerance, max_rotation_deg)
    if len(i) < MIN_MATCHES or accidents > MAX_CHANCE or not possible:
        raise BadData(f"no match to the reference catalogue (best {len(i)} {reason}", Kind.MATCH)
    i, j = i_source[i], i_reference[j]
    order = np.argsort(i)
    return i[order], j[order], moved


def mutual_neighbours(a: np.ndarray, b: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Points of two sets that are each other's nearest.

    Parameters
    ----------
    a, b : (n, 2), (m, 2) arrays
        Points of the two sets, finite.
    radius : float
        Largest distance, in the unit of the points.

    Returns
    -------
    i, j : (k,) int arrays
        Indices in a, ascending, and in b.

    Raises
    ------
    BadData
        When a point is not finite.
    """
    with data_may_fail("search for neighbours"):
        distance, nearest = cKDTree(b).query(a, distance_upper_bound=radius)
        back = np.append(cKDTree(a).query(b, distance_upper_bound=radius)[1], -1)
    i = np.flatnonzero(np.isfinite(distance) & (back[nearest] == np.arange(len(a))))
    return i, nearest[i]


def fit_wcs(
    x: np.ndarray,
    y: np.ndarray,
    ra: np.ndarray,
    dec: np.ndarray,
    wcs: WCS,
    shape: tuple[int, int],
    sip_order: int,
    errors: np.ndarray | None = None,
    distortion: np.ndarray | None = None,
    *,
    n_sigma: float = 4.0,
) -> tuple[WCS, np.ndarray, float]:
    """Fit a TAN-SIP WCS to matched stars.

    Parameters
    ----------
    x, y : (n,) arrays
        Pixel positions.
    ra, dec : (n,) arrays
        Catalogue positions [deg].
    wcs : WCS
        A first guess of where the centre of the detector is, good to a degree.
    shape : (ny, nx)
        Of the detector; CRPIX is its centre and CRVAL the sky there.
    sip_order : int
        Highest order of the distortion.  The order is lowered until there are three stars per polynomial term:
        9 stars for a plain TAN, 18, 30, 45 for order 2, 3, 4; fewer than 9 still give a TAN.
    errors : (n,) array, optional
        Standard errors of the positions in one coordinate [pixel]; equal by default.  A floor is added in quadrature,
        which the better half of the stars shows: errors of the catalogue and of the atmosphere are not known.
    distortion : (n_terms, 2) array, optional
        The known distortion of the detector (see `jointcal`); then only an affine map is fitted.
    n_sigma : float
        Stars with a residual beyond this many robust standard deviations (of stars of their error) are left out.

    Returns
    -------
    wcs : WCS
        RA---TAN-SIP with A, B and an approximate inverse AP, BP; RA---TAN for order 1.
    used : (n,) bool array
    scatter : float
        Robust standard deviation of the residuals of the used stars in one coordinate [arcsec], corrected for the
        number of terms.

    Raises
    ------
    BadData
        When fewer than 6 stars are left.
    """
    u, v = polynomials.centred(x, y, shape)
    ny, nx = shape
    errors = np.zeros(len(u)) if errors is None else np.asarray(errors, float)
    better = errors <= np.nanmedian(errors)
    pixel = 3600 * np.sqrt(np.abs(np.linalg.det(wcs.pixel_scale_matrix)))
    root = np.ones(len(u))
    crval = np.array(wcs.all_pix2world((nx - 1) / 2, (ny - 1) / 2, 0))
    used = usable = np.isfinite(u) & np.isfinite(v) & np.isfinite(ra) & np.isfinite(dec) & np.isfinite(errors)
    for _ in range(ROUNDS):
        order = _affordable_order(used.sum(), sip_order if distortion is None else 1)
        terms = polynomials.terms(u, v, order).T
        if distortion is not None:
            terms[:, 1:] += polynomials.terms(u, v, polynomials.order_of(distortion)).T @ distortion
        crval, coefficients = _fit_plane(terms[used], ra[used], dec[used], root[used], crval)
        residual = (to_plane(ra, dec, crval) - terms @ coefficients) * 3600
        length = np.hypot(*residual.T) / pixel
        freedom = used.sum() / max(used.sum() - terms.shape[1], 1)
        spread = SIGMA_PER_MEDIAN_LENGTH * np.median(length[used & better]) * np.sqrt(freedom)
        floor = np.sqrt(max(spread**2 - np.median(errors[used & better]) ** 2, LEAST_ERROR**2))
        settled, root = np.allclose(root * np.hypot(errors, floor), 1, rtol=SETTLED), 1 / np.hypot(errors, floor)
        sigma = max(SIGMA_PER_MEDIAN_LENGTH * np.median((length * root)[used]), LEAST_SIGMA)
        agreeing = usable & (length * root <= n_sigma * sigma)
        if settled and np.array_equal(agreeing, used):
            break
        used = agreeing
    scatter = median_width(residual[used]) * np.sqrt(freedom)
    if distortion is not None:
        affine, coefficients = coefficients, distortion @ coefficients[1:]
        coefficients[:3] += affine
    return tan_sip(crval, coefficients, shape), used, float(scatter)


def _detector_points(shape: tuple[int, int]) -> np.ndarray:
    """Centre and corners of the detector, x and y [pixel]."""
    ny, nx = shape
    return np.array([[0.5, 0, 1, 1, 0], [0.5, 0, 0, 1, 1]]) * np.array([[nx - 1], [ny - 1]])


def _on_plane(x: np.ndarray, y: np.ndarray, wcs: WCS) -> np.ndarray:
    """Standard coordinates (n, 2) of pixel positions about CRVAL [deg]."""
    with data_may_fail("projection by the WCS"):
        sky = wcs.all_pix2world(x, y, 0)
    return to_plane(*sky, wcs.wcs.crval)


def _ranked(x: np.ndarray, y: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Indices of the finite positions by rank, those without a rank last."""
    order = np.argsort(rank, kind="stable")
    return order[np.isfinite(x[order]) & np.isfinite(y[order])]


def _shifted(x, y, ra, dec, wcs, centre, half, max_offset, max_rotation_deg, tolerance) -> tuple[WCS, int]:
    """The WCS after the best shift and rotation about the centre, and the number of those tried."""
    plane, sky = _on_plane(x, y, wcs) - centre, to_plane(ra, dec, wcs.wcs.crval) - centre
    # Neighbouring angles move the corners by the tolerance.
    n_steps = int(np.ceil(np.deg2rad(max_rotation_deg) * half / tolerance))
    angles = np.deg2rad(max_rotation_deg) * np.arange(-n_steps, n_steps + 1) / max(n_steps, 1)
    angle, shift, n_trials = _best_offset(plane, sky, angles, max_offset, tolerance)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return _corrected(wcs, matrix, centre + shift - matrix @ centre), n_trials


def _best_offset(plane, sky, angles, max_offset, cell) -> tuple[float, np.ndarray, int]:
    """Angle and shift at which the pair offsets sky - rotated(plane) are densest, and the number of cells."""
    i, j = np.nonzero(np.abs(sky - plane[:, None]).max(2) < max_offset + np.abs(plane).max() * np.abs(angles).max())
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    dx = sky[j, 0] - cosine * plane[i, 0] + sine * plane[i, 1]
    dy = sky[j, 1] - sine * plane[i, 0] - cosine * plane[i, 1]
    n = 2 * int(np.ceil(max_offset / cell)) + 2
    ix, iy = np.floor(dx / cell).astype(int) + n // 2, np.floor(dy / cell).astype(int) + n // 2
    inside = (ix >= 0) & (ix < n) & (iy >= 0) & (iy < n)
    flat = ((np.arange(len(angles))[:, None] * n + iy) * n + ix)[inside]
    counts = np.bincount(flat, minlength=len(angles) * n * n).reshape(-1, n, n).astype(float)
    # Four neighbouring cells together hold a peak wherever it falls; clusters of stars raise the surroundings too.
    peak = counts[:, :-1, :-1] + counts[:, 1:, :-1] + counts[:, :-1, 1:] + counts[:, 1:, 1:]
    around = uniform_filter(peak, (0, SURROUNDINGS, SURROUNDINGS), mode="nearest")
    k, row, column = np.unravel_index(np.argmax((peak - around) / np.sqrt(around + 1)), peak.shape)
    offsets = np.stack([dx[k], dy[k]], -1)
    members = np.abs(offsets - cell * (np.array([column, row]) + 1 - n // 2)).max(1) < cell
    return angles[k], offsets[members].mean(0), peak.size


def _refined(x, y, ra, dec, wcs, radius, final_radius) -> tuple[WCS, float]:
    """The WCS after linear fits to neighbours within a radius that shrinks to four times their scatter."""
    for _ in range(ROUNDS):
        plane, sky = _on_plane(x, y, wcs), to_plane(ra, dec, wcs.wcs.crval)
        i, j = mutual_neighbours(plane, sky, radius)
        if len(i) < MIN_MATCHES:
            break
        # The wrong star of a close pair is within any sensible radius, but far out of the scatter: fit without it.
        distance = np.hypot(*(sky[j] - _mapped(plane[i], *_linear_map(plane[i], sky[j]))).T)
        typical = REFINED_SIGMA * SIGMA_PER_MEDIAN_LENGTH * np.median(distance)
        good = distance <= typical
        correction = _linear_map(plane[i[good]], sky[j[good]])
        wcs = _corrected(wcs, *correction)
        radius = min(radius, max(typical, final_radius))
        if np.abs(_mapped(plane, *correction) - plane).max() < REFINED_STEP * final_radius:
            break
    return wcs, radius


def _linear_map(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and shift of the affine map from a to b; with few stars one of rotation, scale and shift."""
    with data_may_fail("affine map of the stars"):
        if len(a) >= MIN_AFFINE:
            solution = np.linalg.lstsq(np.column_stack([np.ones(len(a)), a]), b, rcond=None)[0]
            return solution[1:].T, solution[0]
        complex_plane = np.array([1, 1j])
        slope, constant = np.polyfit(a @ complex_plane, b @ complex_plane, 1)
    return np.array([[slope.real, -slope.imag], [slope.imag, slope.real]]), np.array([constant.real, constant.imag])


def _mapped(points: np.ndarray, matrix: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Points (n, 2) after an affine map."""
    return points @ matrix.T + shift


def _corrected(wcs: WCS, matrix: np.ndarray, shift: np.ndarray) -> WCS:
    """The WCS whose tangent-plane positions p become matrix @ p + shift."""
    moved = wcs.deepcopy()
    moved.wcs.crval = from_plane(shift, wcs.wcs.crval)
    linear = matrix @ wcs.pixel_scale_matrix
    if wcs.wcs.has_cd():
        moved.wcs.cd = linear
    else:
        moved.wcs.pc = linear / wcs.wcs.cdelt[:, None]
    return moved


def _chance(plane, sky, radius, n_matches, density) -> float:
    """Probability of as many matches by accident.

    The expected number is that of a uniform sky or of catalogues slightly displaced, whichever is larger.
    """
    turn = np.arange(8) * np.pi / 4
    aside = 4 * radius * np.column_stack([np.cos(turn), np.sin(turn)])
    displaced = np.mean([len(mutual_neighbours(plane + step, sky, radius)[0]) for step in aside])
    return gammainc(max(n_matches, 1), max(displaced, len(plane) * len(sky) * density))


def _is_small(wcs: WCS, moved: WCS, shape, max_offset: float, max_rotation_deg: float) -> bool:
    """Whether two WCS differ by a shift and rotation within the limits and by hardly any scale."""
    points = _detector_points(shape)
    before, after = (to_plane(*w.all_pix2world(*points, 0), wcs.wcs.crval) for w in (wcs, moved))
    with data_may_fail("comparison with the WCS of the header"):
        matrix = np.linalg.lstsq(before[1:] - before[0], after[1:] - after[0], rcond=None)[0].T
        scales = np.linalg.svd(matrix, compute_uv=False)
    rotation = np.rad2deg(np.arctan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))
    return bool(
        np.hypot(*(after[0] - before[0])) <= max_offset
        and np.abs(rotation) <= max_rotation_deg + np.rad2deg(TOLERANCE)
        and np.abs(scales - 1).max() <= MAX_SCALE_ERROR
    )


def _affordable_order(n_stars: int, highest: int) -> int:
    """Order of the polynomial that this many stars can carry; BadData where they carry none."""
    if n_stars < MIN_MATCHES:
        raise BadData(f"no WCS: only {n_stars} matched stars agree", Kind.MATCH)
    return polynomials.affordable(highest, n_stars, STARS_PER_TERM, lowest=1)


def _fit_plane(terms, ra, dec, root, crval) -> tuple[np.ndarray, np.ndarray]:
    """CRVAL and coefficients (n_terms, 2) [deg] of the polynomial whose constant vanishes there."""
    for _ in range(ROUNDS):
        plane = to_plane(ra, dec, crval)
        with data_may_fail("fit of the WCS"):
            coefficients = np.linalg.lstsq(terms * root[:, None], plane * root[:, None], rcond=None)[0]
        if np.abs(coefficients[0]).max() < NO_SHIFT:
            break
        crval = np.array(from_plane(coefficients[0], crval))
    return crval, coefficients
