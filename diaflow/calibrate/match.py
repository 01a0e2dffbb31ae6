"""Sources of an image and a reference catalogue in, out which are the same, whatever the WCS of the header is off by.

All is done on the plane that touches the sky where the header has the centre of the detector: a wrong pointing is a
shift and a turn there, whatever the projection is and however far its reference point.  Pair offsets of bright stars
pile up at the true shift for the true rotation; mutual neighbours and an affine map refine it, and the number of
matches is weighed against `chance`.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from astropy.wcs import WCS
from scipy.ndimage import uniform_filter

from diaflow import polynomials
from diaflow.calibrate import chance
from diaflow.calibrate.chance import MIN_MATCHES, mutual_neighbours
from diaflow.errors import BadData, Kind, data_may_fail
from diaflow.sky.localplane import from_plane, to_plane
from diaflow.sky.wcs import central_pixel_scale, image_centre, image_corners
from diaflow.statistics import SIGMA_PER_MEDIAN_LENGTH

N_BRIGHT = 200  # sources in the search for the shift, and as dense a sample of the reference stars: chosen
DEEPER = 4  # times as many of one of them in the next search, chosen
MIN_AFFINE = 12  # fewer stars do not tell shear from a wrong match
MAX_ACCIDENTS = 1e-4  # largest expected number of accidental matches as good as the best, chosen
# Error of the scale of the header that is accepted, chosen; and up to which the shift is sure to be found, measured.
MAX_SCALE_ERROR, FOUND_SCALE_ERROR = 0.02, 0.01
FINAL_RADIUS = 2.0  # smallest matching radius [pixel], chosen: many times the error of a centroid
REFINED_SIGMA = 4.0  # the matching radius shrinks to this many times the scatter of the matches
REFINED_STEP = 1e-3  # change of any position, in final matching radii, below which the refinement ends
ROUNDS = 8  # of the refinement at most, chosen
# Error of the header's linear terms that the search forgives, over the distance from the centre; least of it [pixel].
TOLERANCE, MIN_TOLERANCE = 0.003, 3.0
MAX_CELLS = 50_000_000  # of the search, chosen: five arrays of them are what a worker may use
SURROUNDINGS = 9  # side of the square of cells that a peak of pair offsets is compared with, chosen
SMOOTH_ORDER, SMOOTH_GRID = 5, 11  # of the polynomial that a WCS must be close to, and points along each axis: chosen
# How a detector may lie that the header has wrong, as maps of pixel offsets: right angles and their mirror images.
ORIENTATIONS = [np.linalg.matrix_power([[0, -1], [1, 0]], k) @ np.diag([p, 1]) for p in (1, -1) for k in range(4)][1:]


@dataclass(frozen=True)
class _Search:
    """What is searched, on the plane: lengths [deg], the largest rotation [rad]."""

    pixel: float
    n_pixels: int
    half: float  # from the centre of the detector to its farthest corner
    max_offset: float
    max_rotation: float

    @property
    def reach(self) -> float:
        """Distance from the centre within which stars may be on the detector."""
        return self.half + self.max_offset

    @property
    def tolerance(self) -> float:
        """By how much stars may be off after the right shift."""
        return max(TOLERANCE * self.half, MIN_TOLERANCE * self.pixel)

    @property
    def n_bright(self) -> int:
        """Stars in reach that are as dense as `N_BRIGHT` sources on the detector."""
        return int(N_BRIGHT * np.pi * self.reach**2 / (self.n_pixels * self.pixel**2))


@dataclass(frozen=True)
class _Candidate:
    """An affine map of the plane, what it matches, and how many as good ones would be found by accident."""

    matrix: np.ndarray
    shift: np.ndarray
    i: np.ndarray
    j: np.ndarray
    accidents: float

    @property
    def certain(self) -> bool:
        """Whether it is no accident."""
        return self.accidents <= MAX_ACCIDENTS


def match(
    x: np.ndarray,
    y: np.ndarray,
    flux: np.ndarray,
    wcs: WCS,
    shape: tuple[int, int],
    refcat: np.ndarray,
    max_offset_arcsec: float,
    max_rotation_deg: float,
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Match sources to reference stars through an unknown shift and rotation of the WCS.

    Parameters
    ----------
    x, y, flux : (n,) arrays
        Sources [pixel, any unit that ranks them].
    wcs : WCS
        Of the header, in any projection; parity, scale (to a percent) and distortion are taken from it.
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
    centre : (ra, dec)
        Where the centre of the detector is [deg], as the matches have it.

    Raises
    ------
    BadData
        When no match stands out against chance; the reason says what was tried, and how the detector would have to lie
        for a match where a right angle or a mirror image gives one.
    """
    centre = image_centre(wcs, shape)
    pixel = central_pixel_scale(wcs, shape) / 3600
    half = np.hypot(*to_plane(*image_corners(wcs, shape), centre).T).max()
    limits = max_offset_arcsec / 3600, np.deg2rad(max_rotation_deg)
    search = _Search(pixel, shape[0] * shape[1], half, *limits)

    departure = _departure(wcs, shape, centre)
    if not departure <= search.tolerance:
        raise BadData(
            f"the WCS of type {wcs.wcs.ctype[0]} is off by {departure / pixel:.3g} pixels from any smooth distortion",
            Kind.WCS,
        )

    plane = _on_plane(np.asarray(x, float), np.asarray(y, float), wcs, centre)
    sky = to_plane(refcat["ra"], refcat["dec"], centre)
    i_source = _ranked(plane, -np.asarray(flux, float))
    i_reference = _ranked(sky, refcat["mag"])
    i_reference = i_reference[np.hypot(*sky[i_reference].T) < search.reach]
    # Reference stars are taken as densely as sources: those much fainter than any source match by accident only.
    i_reference = i_reference[: max(search.n_bright, 2 * search.n_bright * len(i_source) // N_BRIGHT)]
    plane, sky = plane[i_source], sky[i_reference]
    stars = f"{len(plane)} sources and {len(sky)} reference stars in reach"
    tried = (
        f"tried: offsets to {max_offset_arcsec:g} arcsec, rotations to {max_rotation_deg:g} deg, "
        f"the scale of {wcs.wcs.ctype[0]} to {100 * FOUND_SCALE_ERROR:g} %"
    )
    if min(len(plane), len(sky)) < MIN_MATCHES:
        raise BadData(f"no match to the reference catalogue ({stars}); {tried}", Kind.MATCH)
    found = _best(plane, sky, search)
    if not found.certain:
        otherwise = _beyond(plane, sky, search) or _otherwise(plane, sky, search, _jacobian(wcs, shape, centre))
        raise BadData(
            f"no match to the reference catalogue (best {len(found.i)} of {stars}); {tried}{otherwise}", Kind.MATCH
        )
    i, j = i_source[found.i], i_reference[found.j]
    order = np.argsort(i)
    ra, dec = from_plane(found.shift, centre)
    return i[order], j[order], (float(ra), float(dec))


def _on_plane(x: np.ndarray, y: np.ndarray, wcs: WCS, centre: tuple[float, float]) -> np.ndarray:
    """Standard coordinates (n, 2) of pixel positions about a point [deg]."""
    with data_may_fail("projection by the WCS"):
        sky = wcs.all_pix2world(x, y, 0)
    return to_plane(*sky, centre)


def _departure(wcs: WCS, shape: tuple[int, int], centre: tuple[float, float]) -> float:
    """Largest distance on the plane from a polynomial in the position on the detector [deg]; facets have edges."""
    ny, nx = shape
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(0, nx - 1, SMOOTH_GRID), np.linspace(0, ny - 1, SMOOTH_GRID)))
    plane = _on_plane(x, y, wcs, centre)
    terms = polynomials.terms(*polynomials.centred(x, y, shape), SMOOTH_ORDER).T
    with data_may_fail("comparison of the WCS with a polynomial"):
        return float(np.hypot(*(plane - terms @ np.linalg.lstsq(terms, plane, rcond=None)[0]).T).max())


def _ranked(points: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Indices of the finite points (n, 2) by rank, those without a rank last."""
    order = np.argsort(rank, kind="stable")
    return order[np.isfinite(points[order]).all(1)]


def _jacobian(wcs: WCS, shape: tuple[int, int], centre: tuple[float, float]) -> np.ndarray:
    """Steps on the plane for one pixel in x and in y, the columns, at the centre of the detector [deg]."""
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    steps = _on_plane(x + np.array([-0.5, 0.5, 0, 0]), y + np.array([0, 0, -0.5, 0.5]), wcs, centre)
    return np.column_stack([steps[1] - steps[0], steps[3] - steps[2]])


def _beyond(plane: np.ndarray, sky: np.ndarray, search: _Search) -> str:
    """How far off the header is, if there is a match at an offset of up to twice the limit."""
    with suppress(BadData):  # too many offsets to search
        found = _best(plane, sky, replace(search, max_offset=2 * search.max_offset))
        if found.certain:
            offset = 3600 * np.hypot(*found.shift)
            return f"; but {len(found.i)} match at an offset of {offset:.0f} arcsec: raise calexp.max_offset"
    return ""


def _otherwise(plane: np.ndarray, sky: np.ndarray, search: _Search, jacobian: np.ndarray) -> str:
    """How the detector would have to lie for a match, if one of the right angles and mirror images gives one."""
    for orientation in ORIENTATIONS:
        turned = jacobian @ orientation @ np.linalg.inv(jacobian)
        found = _best(plane @ turned.T, sky, search)
        if found.accidents * len(ORIENTATIONS) <= MAX_ACCIDENTS:
            lies = found.matrix @ turned @ jacobian
            rotation, flipped = round(float(np.degrees(np.arctan2(*lies[:, 1]))), 1) % 360, np.linalg.det(lies) > 0
            mirrored = "mirrored" if flipped else "not mirrored"
            return (
                f"; but {len(found.i)} match where the y axis is at position angle {rotation:.1f} deg and the image "
                f"{mirrored} (pointing: rotation {rotation:.1f}, flipped {str(flipped).lower()})"
            )
    return ", all of this also turned by right angles and mirrored"


def _best(plane: np.ndarray, sky: np.ndarray, search: _Search) -> _Candidate:
    """The first candidate that is no accident among searches of ever fainter sources or stars, or the best of all."""
    best = None
    for number, (n, m) in enumerate(_depths(len(plane), len(sky), search), 1):
        found = _candidate(plane, sky, n, m, search)
        found = replace(found, accidents=number * found.accidents)
        if best is None or found.accidents < best.accidents:
            best = found
        if best.certain:
            break
    return best


def _depths(n_sources: int, n_stars: int, search: _Search) -> Iterator[tuple[int, int]]:
    """How many of the brightest sources and stars take part in a search.

    First both are as dense, as in catalogues of one depth.  Where one of them is short it may also be a sparse sample:
    then ever more of the other, up to as many pairs as in a search of long ones.
    """
    share = min(n_sources / N_BRIGHT, n_stars / search.n_bright, 1.0)
    n, m = (max(int(share * most), MIN_MATCHES) for most in (N_BRIGHT, search.n_bright))
    yield n, m
    while (n < n_sources or m < n_stars) and n * m < N_BRIGHT * search.n_bright:
        n, m = (DEEPER * n, m) if n / n_sources < m / n_stars else (n, DEEPER * m)
        yield n, m


def _candidate(plane: np.ndarray, sky: np.ndarray, n: int, m: int, search: _Search) -> _Candidate:
    """The shift and rotation at which most of the n brightest sources and m brightest stars agree, refined."""
    matrix, shift, n_trials = _shifted(plane[:n], sky[:m], search)
    final_radius = FINAL_RADIUS * search.pixel
    radius = 1.5 * search.tolerance
    matrix, shift, radius = _refined(plane[:n], sky[:m], matrix, shift, radius, final_radius)
    matrix, shift, radius = _refined(plane, sky, matrix, shift, radius, final_radius)
    placed = _mapped(plane, matrix, shift)
    i, j = mutual_neighbours(placed, sky, radius)
    accidents = np.inf
    if _is_small(matrix, shift, search):
        # Each of the three stars that define an affine map may be chosen among those within the tolerance.
        n_trials *= max(search.tolerance / radius, 1) ** 6
        accidents = chance.accidents(placed, sky, radius, (radius / search.reach) ** 2, n_trials)
    return _Candidate(matrix, shift, i, j, accidents)


def _shifted(plane: np.ndarray, sky: np.ndarray, search: _Search) -> tuple[np.ndarray, np.ndarray, int]:
    """Matrix and vector of the best rotation and shift of the sources, and the number of those tried."""
    # Neighbouring angles move the corners by the tolerance.
    n_steps = int(np.ceil(search.max_rotation * search.half / search.tolerance))
    angles = search.max_rotation * np.arange(-n_steps, n_steps + 1) / max(n_steps, 1)
    angle, shift, n_trials = _best_offset(plane, sky, angles, search.max_offset, search.tolerance)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), shift, n_trials


def _best_offset(plane, sky, angles, max_offset, cell) -> tuple[float, np.ndarray, int]:
    """Angle and shift at which the pair offsets sky - rotated(plane) are densest, and the number of cells."""
    i, j = np.nonzero(np.abs(sky - plane[:, None]).max(2) < max_offset + np.abs(plane).max() * np.abs(angles).max())
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    dx = sky[j, 0] - cosine * plane[i, 0] + sine * plane[i, 1]
    dy = sky[j, 1] - sine * plane[i, 0] - cosine * plane[i, 1]
    n = 2 * int(np.ceil(max_offset / cell)) + 2
    if len(angles) * n * n > MAX_CELLS:
        tried = f"{len(angles)} rotations and {n} x {n} offsets"
        raise BadData(f"{tried} are too many to search: lower calexp.max_offset or max_rotation", Kind.MATCH)
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


def _refined(plane, sky, matrix, shift, radius, final_radius) -> tuple[np.ndarray, np.ndarray, float]:
    """The map after linear fits to neighbours within a radius that shrinks to four times their scatter."""
    for _ in range(ROUNDS):
        placed = _mapped(plane, matrix, shift)
        i, j = mutual_neighbours(placed, sky, radius)
        if len(i) < MIN_MATCHES:
            break
        # The wrong star of a close pair is within any sensible radius, but far out of the scatter: fit without it.
        distance = np.hypot(*(sky[j] - _mapped(placed[i], *_linear_map(placed[i], sky[j]))).T)
        typical = REFINED_SIGMA * SIGMA_PER_MEDIAN_LENGTH * np.median(distance)
        good = distance <= typical
        turn, step = _linear_map(placed[i[good]], sky[j[good]])
        matrix, shift = turn @ matrix, turn @ shift + step
        radius = min(radius, max(typical, final_radius))
        if np.abs(_mapped(placed, turn, step) - placed).max() < REFINED_STEP * final_radius:
            break
    return matrix, shift, radius


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


def _is_small(matrix: np.ndarray, shift: np.ndarray, search: _Search) -> bool:
    """Whether a map is a shift and rotation within the limits and has hardly any scale."""
    with data_may_fail("comparison with the WCS of the header"):
        scales = np.linalg.svd(matrix, compute_uv=False)
    rotation = np.arctan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1])
    return bool(
        np.hypot(*shift) <= search.max_offset + search.tolerance
        and np.abs(rotation) <= search.max_rotation + TOLERANCE
        and np.abs(scales - 1).max() <= MAX_SCALE_ERROR
    )
