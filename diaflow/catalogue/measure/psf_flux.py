"""PSF fluxes: of a source by itself, of stars that overlap together, and of each at a position of its own.

The fluxes f of point sources minimise sum (I - sum_j f_j P_j)**2 with equal weights of pixels, as forced photometry has
them (`diaflow.measure.photometry`): A f = b, A_ij = sum P_i P_j and b_i = sum P_i I over usable pixels, with every
pair whose stamps overlap.  A is sparse and is factorised; the joint fit of stars in crowded fields is that of DAOPHOT's
NSTAR (Stetson 1987, PASP 99, 191).  Galaxies are no PSFs: their deblended pixels are taken out of I before, and they
are, as parents are, measured by themselves, on an image from which the deblended pixels of all others are taken out.
"""

import math

import numpy as np
from numba import njit
from scipy import sparse
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from diaflow.catalogue.measure.scene import Scene, put_back, room, take_away, take_out
from diaflow.jit import EXACT, FAST
from diaflow.measure import kernels
from diaflow.measure.kernels import MIN_WEIGHT
from diaflow.measure.subpixel import TAPS, move

# Of the diagonal of A: two sources at one place share their flux instead of having none.
RIDGE = 1e-9
# Correlation of two stamps from which a neighbour adds to the error of a flux: below, it adds its square, 4e-4.
COUPLED = 0.02
MAX_COUPLED = 24  # neighbours that are looked at for an error, of which a stamp has no more in all but hopeless fields
MAX_SHIFT = 2.0  # of a position of its own, as of sources of calexps [sigma of the PSF]


class PsfFluxes:
    """PSF fluxes of the sources of a scene.

    Parameters
    ----------
    scene : Scene

    Attributes
    ----------
    flux, err : (n,) arrays
        Of each source by itself [nJy]; NaN where (almost) none of the PSF is on usable pixels.  Errors of all fluxes
        are those of the noise of the coadd.
    """

    def __init__(self, scene: Scene):
        self.scene = scene
        self._noise = scene.exposure.noise.psf_flux_error(1.0)
        # Pixels on which the sources are, which may be off the image.
        self._ix, self._iy = (np.floor(np.nan_to_num(p, nan=-1e6) + 0.5).astype(np.int64) for p in (scene.x, scene.y))
        self._placed = np.zeros_like(scene.stamps)
        _place(scene.stamps, scene.x, scene.y, scene.image.shape, self._placed)
        n = len(scene.x)
        self._power, self._variance = np.full((2, n), np.nan)
        places = self._placed, self._ix, self._iy
        _weigh(scene.variance, scene.usable, *places, self._power, self._variance)
        projection = np.zeros(n)
        _project_alone(scene.rest, scene.usable, *scene.pixels, *places, scene.order, projection)
        self.flux = projection / self._power
        self.err = np.sqrt(self._variance / self._power) * self._noise

    def columns(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """PSF fluxes at the reference positions, and at those that fit best.

        Parameters
        ----------
        points : (n,) bool array
            Sources that are fitted together, as points; no parent is one.

        Returns
        -------
        dict of (n,) arrays
            psfFlux, free_psfFlux with Err and flag [nJy]; centroid_x, centroid_y with Err [pixel] and centroid_flag.
        """
        scene = self.scene
        points = np.flatnonzero(points & np.isfinite(self._power))
        image = scene.image.copy()
        others = np.asarray(scene.blends.n_child) == 0
        others[points] = False
        take_out(image, *scene.pixels, others)
        flux, inverse = self.flux.copy(), 1 / self._power
        flux[points], inverse[points] = self._joint(image, points)
        x, y, x_err, y_err, free, free_err, failed = self._free(image, flux, points, scene.order)
        blended = np.sqrt(inverse * self._power)
        return {
            "psfFlux": flux,
            "psfFluxErr": self.err * blended,
            "psfFlux_flag": ~np.isfinite(flux),
            "free_psfFlux": free,
            "free_psfFluxErr": free_err * blended * self._noise,
            "free_psfFlux_flag": failed,
            "centroid_x": x,
            "centroid_y": y,
            "centroid_xErr": x_err * self._noise,
            "centroid_yErr": y_err * self._noise,
            "centroid_flag": failed,
        }

    def together(self) -> np.ndarray:
        """Fluxes of all sources as points.

        Returns
        -------
        (n,) array
            [nJy]; 0 where there is none.
        """
        points = np.flatnonzero(np.isfinite(self._power))
        flux = np.zeros(len(self._power))
        flux[points], _ = self._joint(self.scene.image, points)
        return flux

    def without(self, flux: np.ndarray, which: np.ndarray) -> np.ndarray:
        """The coadd without the models of some points.

        Parameters
        ----------
        flux : (n,) array
            Of `together` [nJy].
        which : (n,) bool array

        Returns
        -------
        (ny, nx) float32 array
        """
        image = self.scene.image.copy()
        _add_models(image, self._placed, self._ix, self._iy, np.flatnonzero(which & (flux != 0)), flux, -1.0)
        return image

    def positions(self, flux: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions of sources that are all points, each fitted on the image without the models of the others.

        Parameters
        ----------
        flux : (n,) array
            Of `together` [nJy].
        which : (n,) bool array
            Sources whose positions are fitted.

        Returns
        -------
        x, y : (n,) arrays
            [pixel]; as they were where none is fitted, or the fit fails.
        error : (n,) array
            In one coordinate [pixel]; NaN there.
        """
        order = self.scene.order[which[self.scene.order]]
        x, y, x_err, y_err, *_ = self._free(self.scene.image.copy(), flux, np.flatnonzero(flux), order)
        return x, y, np.hypot(x_err, y_err) / np.sqrt(2)

    def _joint(self, image: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fluxes of points (m,) on an image, and the diagonal of the inverse of A."""
        if not len(points):
            return np.empty(0), np.empty(0)
        placed, ix, iy = self._placed, self._ix, self._iy
        tree = cKDTree(np.column_stack([ix[points], iy[points]]))
        pairs = np.sort(tree.query_pairs(placed.shape[-1] - 1, p=np.inf, output_type="ndarray"), axis=1)
        first, second = pairs[np.lexsort(pairs.T[::-1])].T
        products, projection = np.zeros(len(first)), np.zeros(len(points))
        _overlap(self.scene.usable, placed, ix, iy, points[first], points[second], products)
        _project(image, self.scene.usable, placed, ix, iy, points, projection)
        diagonal = np.arange(len(points))
        values = np.r_[products, products, self._power[points] * (1 + RIDGE)]
        places = np.r_[first, second, diagonal], np.r_[second, first, diagonal]
        matrix = sparse.csc_array((values, places), shape=(len(points),) * 2)
        matrix.sort_indices()
        inverse = np.empty(len(points))
        _inverse_diagonal(matrix.indptr, matrix.indices, matrix.data, matrix.diagonal(), inverse)
        return splu(matrix).solve(projection), inverse

    def _free(
        self, image: np.ndarray, flux: np.ndarray, points: np.ndarray, order: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Position and its error, flux and its white-noise error, and where the fit failed (n,), of those in `order`.

        The image becomes what the fluxes of the points leave over.
        """
        scene, n = self.scene, len(flux)
        places = self._placed, self._ix, self._iy
        x, y, failed, (x_err, y_err, free, err, chi2) = (
            scene.x.copy(), scene.y.copy(), np.ones(n, bool), np.full((5, n), np.nan)
        )  # fmt: skip
        fit = x, y, x_err, y_err, failed
        measured = free, err, chi2, np.zeros(n, np.int64), np.zeros(n, bool)
        is_point = np.zeros(n, bool)
        is_point[points] = True
        _add_models(image, *places, points, flux, -1.0)
        common = scene.variance, scene.usable, scene.stamps, scene.psf_sigma
        _fit(image, scene.rest, *common, *scene.pixels, *places, flux, is_point, order, fit, measured)
        free[failed], err[failed] = np.nan, np.nan
        return x, y, x_err, y_err, free, err, failed | ~np.isfinite(free)


@njit(**EXACT)
def _place(stamps, x, y, shape, placed):
    """Stamps (n, k, k) moved to the sub-pixel phase of positions on an image, into zeros (n, k, k)."""
    k = stamps.shape[1]
    width = kernels.row_length(k)
    padded = np.zeros((k + 2 * TAPS, width + 2 * TAPS))
    rows, p, stamp = np.empty((k + 2 * TAPS, width)), np.empty((1, k, width)), np.empty((k, k))
    for n in range(len(stamps)):
        on_image = -0.5 <= x[n] < shape[1] - 0.5 and -0.5 <= y[n] < shape[0] - 0.5
        if on_image and math.isfinite(stamps[n, k // 2, k // 2]):
            stamp[:] = stamps[n]
            move(stamp, x[n] - math.floor(x[n] + 0.5), y[n] - math.floor(y[n] + 0.5), padded, rows, p)
            placed[n] = p[0, :, :k]


@njit(**EXACT)
def _weigh(variance, usable, placed, ix, iy, power, mean):
    """Set sum P**2 and sum P**2 V / sum P**2 of sources (n,) that have enough of it on usable pixels."""
    ny, nx = variance.shape
    k = placed.shape[1]
    h = k // 2
    for n in range(len(placed)):
        everything, pp, ppv = 0.0, 0.0, 0.0
        for j in range(k):
            everything += _dot(placed[n, j], placed[n, j])
        first, last = max(0, ix[n] - h), min(nx, ix[n] + h + 1)
        for row in range(max(0, iy[n] - h), min(ny, iy[n] + h + 1)):
            p = placed[n, row - iy[n] + h, first - ix[n] + h : last - ix[n] + h]
            of_row, variance_of_row = _usable_squares(p, variance[row, first:last], usable[row, first:last])
            pp += of_row
            ppv += variance_of_row
        if pp > MIN_WEIGHT * everything:
            power[n], mean[n] = pp, ppv / pp


@njit(**FAST)
def _dot(a, b):
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(**FAST)
def _usable_squares(p, variances, usable):
    """Sums of squares, and of these times variances, over usable pixels of a row."""
    pp, ppv = 0.0, 0.0
    for i in range(len(p)):
        square = p[i] * p[i] if usable[i] else np.float32(0)
        pp += square
        ppv += square * (variances[i] if usable[i] else np.float32(0))
    return pp, ppv


@njit(**FAST)
def _usable_dot(p, values, usable):
    """Sum of products over usable pixels of a row."""
    total = 0.0
    for i in range(len(p)):
        total += p[i] * (values[i] if usable[i] else np.float32(0))
    return total


@njit(**EXACT)
def _product(image, usable, p, ix, iy):
    """Sum of P I over usable pixels."""
    ny, nx = image.shape
    h, total = p.shape[0] // 2, 0.0
    first, last = max(0, ix - h), min(nx, ix + h + 1)
    for row in range(max(0, iy - h), min(ny, iy + h + 1)):
        p_of_row = p[row - iy + h, first - ix + h : last - ix + h]
        total += _usable_dot(p_of_row, image[row, first:last], usable[row, first:last])
    return total


@njit(**EXACT)
def _project(image, usable, placed, ix, iy, sources, out):
    """Set sum P I of the sources (m,)."""
    for at in range(len(sources)):
        n = sources[at]
        out[at] = _product(image, usable, placed[n], ix[n], iy[n])


@njit(**EXACT)
def _project_alone(rest, usable, boxes, offsets, pixels, placed, ix, iy, order, out):
    """Set sum P I of each source (n,) with its own deblended pixels."""
    saved = room(offsets)
    for n in order:
        put_back(rest, boxes, offsets, pixels, n, saved)
        out[n] = _product(rest, usable, placed[n], ix[n], iy[n])
        take_away(rest, boxes, n, saved)


@njit(**FAST)
def _overlap(usable, placed, ix, iy, first, second, products):
    """Set sum P_i P_j over usable pixels for the pairs (m,) of sources."""
    ny, nx = usable.shape
    k = placed.shape[1]
    h = k // 2
    for pair in range(len(first)):
        a, b = first[pair], second[pair]
        dx, dy = ix[b] - ix[a], iy[b] - iy[a]
        total = 0.0
        for j in range(max(0, dy, h - iy[a]), min(k, k + dy, ny - iy[a] + h)):
            for i in range(max(0, dx, h - ix[a]), min(k, k + dx, nx - ix[a] + h)):
                if usable[iy[a] - h + j, ix[a] - h + i]:
                    total += placed[a, j, i] * placed[b, j - dy, i - dx]
        products[pair] = total


@njit(**EXACT)
def _inverse_diagonal(start, columns, values, diagonal, out):
    """Set the diagonal of the inverse of a sparse matrix, from the sources coupled to each."""
    rows = np.empty(MAX_COUPLED + 1, np.int64)
    for n in range(len(diagonal)):
        count = 1
        rows[0] = n
        for at in range(start[n], start[n + 1]):
            m = columns[at]
            coupled = m != n and values[at] > COUPLED * math.sqrt(diagonal[n] * diagonal[m])
            if coupled and count <= MAX_COUPLED:
                rows[count] = m
                count += 1
        if count == 1:
            out[n] = 1 / diagonal[n]
            continue
        block = np.zeros((count, count))
        for a in range(count):
            for at in range(start[rows[a]], start[rows[a] + 1]):
                for b in range(count):
                    if rows[b] == columns[at]:
                        block[a, b] = values[at]
            block[a, a] = diagonal[rows[a]] * (1 + RIDGE)
        unit = np.zeros(count)
        unit[0] = 1.0
        out[n] = np.linalg.solve(block, unit)[0]


@njit(**EXACT)
def _add_models(image, placed, ix, iy, sources, flux, sign):
    """Add sign times flux (n,) times the stamps of the sources (m,) to an image."""
    ny, nx = image.shape
    k = placed.shape[1]
    h = k // 2
    for n in sources:
        factor, first, last = sign * flux[n], max(0, ix[n] - h), min(nx, ix[n] + h + 1)
        for row in range(max(0, iy[n] - h), min(ny, iy[n] + h + 1)):
            pixels, p = image[row, first:last], placed[n, row - iy[n] + h, first - ix[n] + h : last - ix[n] + h]
            for i in range(len(pixels)):
                pixels[i] += factor * p[i]


@njit(**EXACT)
def _fit(
    residual, rest, variance, usable, stamps, sigma, boxes, offsets, pixels, placed, ix, iy, flux, is_point, order,
    fit, measured,
):  # fmt: skip
    """Position and flux of points on the residuals of the joint fit, and of others by themselves."""
    x, y, x_err, y_err, failed = fit
    free, err, chi2, n_data, edge = measured
    k, saved = stamps.shape[1], room(offsets)
    stamp, one = np.empty((1, k, k)), np.empty(1, np.int64)
    for n in order:
        stamp[0], one[0] = stamps[n], n
        if is_point[n]:
            image = residual
            _add_models(residual, placed, ix, iy, one, flux, 1.0)
        else:
            image = rest
            put_back(rest, boxes, offsets, pixels, n, saved)
        kernels.psf_centroid(
            image, variance, usable, stamp, one, sigma, MAX_SHIFT * sigma, x, y, x_err, y_err, failed
        )  # fmt: skip
        kernels.psf_flux(image, variance, usable, stamp, one, x, y, free, err, chi2, n_data, edge)
        if is_point[n]:
            _add_models(residual, placed, ix, iy, one, flux, -1.0)
        else:
            take_away(rest, boxes, n, saved)
