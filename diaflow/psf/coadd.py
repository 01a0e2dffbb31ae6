"""PSF of a warp, coadd or resampled template: the weighted mean of its inputs' PSFs at the position asked for.

Every input keeps its own PSF and WCS; at a point, the PSFs of the inputs that contain it are evaluated where
they were measured, resampled by the local affine map, normalised and averaged with the inputs' weights (the
CoaddPsf of LSST's meas_algorithms).  Coadds of coadds nest, and are evaluated with the one map from the innermost
pixels to the outermost, so that no PSF is resampled twice.  A coadd whose PSF is no such mean (see
`diaflow.coadd.likelihood`) brings it as a grid of stamps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area

from diaflow.psf.grid import StampGrid
from diaflow.psf.stampfield import StampField, resized
from diaflow.sky.wcs import read_wcs, sky_to_pixel

# The position itself and the four from which the local affine map is taken [pixel].
OFFSETS = np.array([(0, 0), (0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)])

# Displacement of a stamp's edge [pixel] up to which the mean affine map of an input stands for those of its positions.
MAP_TOLERANCE = 0.1

# By which a position in a box may seem to be outside, after a way through the sky [pixel].
ROUNDING = 1e-4

# The box of a PSF that is defined wherever it is asked for.
EVERYWHERE = (-np.inf, -np.inf, np.inf, np.inf)

# Displacement of a stamp's edge [pixel] below which a map is none, and the stamp is taken as it is.
NO_DISPLACEMENT = 1e-6

# WCS that are kept after they were parsed: those of the inputs of a template, which its patches share.
N_PARSED = 4096


@dataclass(frozen=True)
class PsfInput:
    """One image that went into a coadd.

    Attributes
    ----------
    visit, detector : int
        Data ID of the image.
    weight : float
        Its weight in the sum.
    psf : callable (x, y) -> (n, k, k)
        PSF in the image's own pixels.
    wcs : astropy.wcs.WCS
        WCS of the image.
    box : (x0, y0, x1, y1)
        Pixels of the image that contribute, x0 <= x <= x1.
    aperture_correction : float
        Flux of stars in the calibration aperture over their PSF flux, on the image; NaN where it is not known.
    """

    visit: int
    detector: int
    weight: float
    psf: Callable
    wcs: WCS
    box: tuple[float, float, float, float]
    aperture_correction: float = float("nan")

    def positions(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sky positions on the image.

        Parameters
        ----------
        ra, dec : (m, n) arrays
            [deg]

        Returns
        -------
        x, y : (m, n) arrays
            [pixel]
        rows : (k,) int array
            Which of the first n positions the image contains.
        """
        x, y = sky_to_pixel(self.wcs, ra, dec, self.box)
        x0, y0, x1, y1 = self.box
        within_x = (x[0] > x0 - ROUNDING) & (x[0] < x1 + ROUNDING)
        within_y = (y[0] > y0 - ROUNDING) & (y[0] < y1 + ROUNDING)
        return x, y, np.flatnonzero(within_x & within_y)

    @classmethod
    def whole(cls, psf: Callable, wcs: WCS, shape: tuple[int, int], metadata: dict) -> "PsfInput":
        """An image that contributes all of its pixels, with weight 1.

        Parameters
        ----------
        psf, wcs, shape, metadata
            As of an exposure.

        Returns
        -------
        PsfInput
        """
        told = {"visit": -1, "detector": -1, "aperture_correction": np.nan} | metadata
        box = (0, 0, shape[1] - 1, shape[0] - 1)
        return cls(told["visit"], told["detector"], 1.0, psf, wcs, box, told["aperture_correction"])

    def stamps(self, ra: np.ndarray, dec: np.ndarray, wcs: WCS) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """The PSF at sky positions, in the pixels of another image.

        Parameters
        ----------
        ra, dec : (5, n) arrays
            Sky positions of `OFFSETS` about each of n pixels of the other image [deg].
        wcs : astropy.wcs.WCS
            WCS of the other image.

        Returns
        -------
        rows : (m,) int array
            Which of the n positions this input contains.
        factors : (m, t) array or None
            Of the stamps of each sum; None where every position has a stamp of its own.
        stamps : (t, k, k) or (m, k, k) array
            Terms of the unit-sum PSFs there, or these.
        """
        x, y, rows = self.positions(ra, dec)
        if not len(rows):
            return rows, None, np.empty((0, 1, 1))
        if isinstance(self.psf, CoaddPsf):
            return rows, None, self.psf.mean(ra[:, rows], dec[:, rows], wcs)
        x, y = x[:, rows], y[:, rows]
        jacobian = np.array([[x[1] - x[2], x[3] - x[4]], [y[1] - y[2], y[3] - y[4]]]).transpose(2, 0, 1)
        scale = np.sqrt(proj_plane_pixel_area(wcs) / proj_plane_pixel_area(self.wcs))
        return rows, *_psf_through_map(self.psf, x[0], y[0], jacobian, scale)


class CoaddPsf:
    """Weighted mean of warped input PSFs, evaluated when it is called.

    Parameters
    ----------
    inputs : list of PsfInput
    wcs : astropy.wcs.WCS
        WCS of the image whose PSF this is.
    grid : StampGrid, optional
        The PSF in the image's own pixels where it is not the mean of those of the inputs, which are then only a record.
    """

    def __init__(self, inputs: list[PsfInput], wcs: WCS, grid: StampGrid | None = None):
        self.inputs, self.wcs, self.grid = inputs, wcs, grid

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The PSF at some positions.

        Parameters
        ----------
        x, y : (n,) arrays or floats
            Positions [pixel].

        Returns
        -------
        (n, k, k) array
            Of unit sum; NaN where no input contains the position.
        """
        x, y = np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float))
        ra, dec = self.wcs.all_pix2world((x + OFFSETS[:, :1]).ravel(), (y + OFFSETS[:, 1:]).ravel(), 0)
        return self.mean(ra.reshape(len(OFFSETS), -1), dec.reshape(len(OFFSETS), -1), self.wcs)

    def mean(self, ra: np.ndarray, dec: np.ndarray, wcs: WCS) -> np.ndarray:
        """The PSF at sky positions, in the pixels of any image.

        Parameters
        ----------
        ra, dec, wcs
            As in `PsfInput.stamps`.

        Returns
        -------
        (n, k, k) array
            Of unit sum; NaN where no input contains the position.
        """
        n = ra.shape[1]
        if self.grid is not None:
            rows, _, stamps = PsfInput(-1, -1, 1.0, self.grid, self.wcs, EVERYWHERE).stamps(ra, dec, wcs)
            out = np.full((n, *stamps.shape[1:]), np.nan)
            out[rows] = stamps
            return out
        total, stack, factors, terms = np.zeros(n), np.zeros((n, 1, 1)), [], []
        for source in self.inputs:
            rows, of_terms, stamps = source.stamps(ra, dec, wcs)
            if of_terms is None:
                size = max(stack.shape[-1], stamps.shape[-1])
                stack, stamps = resized(stack, size), resized(stamps, size)
                finite = np.isfinite(stamps).all((1, 2))
                rows = rows[finite]
                stack[rows] += source.weight * stamps[finite]
            else:
                factors.append(np.zeros((n, len(stamps))))
                factors[-1][rows] = source.weight * of_terms
                terms.append(stamps)
            total[rows] += source.weight
        total = np.where(total > 0, total, np.nan)
        if not terms:
            return stack / total[:, None, None]
        # Those of all inputs together, so that the stamps are written once.
        size = max(stamps.shape[-1] for stamps in [stack, *terms])
        every_term = np.concatenate([resized(stamps, size) for stamps in terms])
        fields = np.tensordot(np.hstack(factors) / total[:, None], every_term, 1)
        return fields + resized(stack, size) / total[:, None, None] if stack.any() else fields

    def to_hdus(self) -> list:
        """What the PSF is stored as.

        Returns
        -------
        list of HDUs
            The table INPUTS and, where the PSF has one, the grid.
        """
        return [self.to_hdu()] + ([self.grid.to_hdu()] if self.grid is not None else [])

    @classmethod
    def from_hdus(cls, hdus: fits.HDUList, wcs: WCS) -> "CoaddPsf":
        """The inverse of `to_hdus`.

        Parameters
        ----------
        hdus : fits.HDUList
        wcs : astropy.wcs.WCS
            WCS of the image.

        Returns
        -------
        CoaddPsf

        Raises
        ------
        KeyError
            When there is no INPUTS, or a column of it is missing.
        """
        psf = cls.from_hdu(hdus["INPUTS"], wcs)
        psf.grid = StampGrid.from_hdu(hdus["PSF_GRID"]) if "PSF_GRID" in hdus else None
        return psf

    def to_hdu(self) -> fits.BinTableHDU:
        """The inputs as a table.

        Returns
        -------
        fits.BinTableHDU
            INPUTS: a row for each input, with weight, box, aperture correction, PSF coefficients and WCS header.  Of
            nested inputs the innermost are listed, once each.
        """
        rows = _innermost(self.inputs)
        terms = [row.psf.terms.astype(np.float32).ravel() for row in rows]
        headers = [row.wcs.to_header_string(relax=True) for row in rows]
        values = {
            "visit": ("K", [row.visit for row in rows]),
            "detector": ("J", [row.detector for row in rows]),
            "weight": ("D", [row.weight for row in rows]),
            "box": ("4D", [row.box for row in rows]),
            "aperture_correction": ("D", [row.aperture_correction for row in rows]),
            "psf_order": ("J", [row.psf.order for row in rows]),
            "psf_size": ("J", [row.psf.size for row in rows]),
            "psf_shape": ("2J", [row.psf.shape for row in rows]),
            "psf_terms": ("PE()", np.array([*terms, None], dtype=object)[:-1]),
            "wcs": (f"{max(map(len, headers), default=1)}A", headers),
        }
        columns = [fits.Column(name, code, array=array if rows else None) for name, (code, array) in values.items()]
        return fits.BinTableHDU.from_columns(columns, name="INPUTS")

    @classmethod
    def from_hdu(cls, hdu: fits.BinTableHDU, wcs: WCS) -> "CoaddPsf":
        """The inverse of `to_hdu`.

        Parameters
        ----------
        hdu : fits.BinTableHDU
        wcs : astropy.wcs.WCS
            WCS of the image.

        Returns
        -------
        CoaddPsf
            Without a grid.

        Raises
        ------
        KeyError
            When a column is missing.
        """
        inputs = []
        for row in hdu.data:
            size, order = int(row["psf_size"]), int(row["psf_order"])
            terms = np.asarray(row["psf_terms"], np.float32).reshape(-1, size, size)
            inputs.append(
                PsfInput(
                    visit=int(row["visit"]),
                    detector=int(row["detector"]),
                    weight=float(row["weight"]),
                    psf=StampField(terms, order, tuple(int(n) for n in row["psf_shape"])),
                    wcs=_parsed_wcs(row["wcs"]),
                    box=tuple(float(edge) for edge in row["box"]),
                    aperture_correction=float(row["aperture_correction"]),
                )
            )
        return cls(inputs, wcs)


def resample_stamps(stamps: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
    """Stamps seen through affine maps, normalised to unit sum.

    Parameters
    ----------
    stamps : (n, k, k) array
        PSFs in source pixels, centred.
    jacobian : (n, 2, 2) array
        d(source x, y) / d(output x, y).

    Returns
    -------
    (n, k, k) array
        Cubic-spline resampled stamps of unit sum.
    """
    out = _resample(stamps, jacobian, stamps.shape[-1])
    return out / out.sum((1, 2), keepdims=True)


def _psf_through_map(
    psf: Callable, x: np.ndarray, y: np.ndarray, jacobian: np.ndarray, scale: float
) -> tuple[np.ndarray | None, np.ndarray]:
    """Unit-sum PSFs at source positions x, y (n,) seen through affine maps (n, 2, 2): factors of terms, or stamps.

    The map of a distorted detector changes so little over it that the terms of a `StampField` are resampled, once,
    instead of the stamps.  `scale` is the side of an output pixel in source pixels, which sets the output's size.
    """
    if not isinstance(psf, StampField):
        stamps = psf(x, y)
        stamps = _resample(stamps, jacobian, _scaled_size(stamps.shape[-1], scale))
        return None, stamps / stamps.sum((1, 2), keepdims=True)
    mean = jacobian.mean(0)
    if np.abs(jacobian - mean).max() * psf.size / 2 > MAP_TOLERANCE:
        return _psf_through_map(psf.__call__, x, y, jacobian, scale)
    terms = _resample(
        psf.terms.astype(float), np.broadcast_to(mean, (len(psf.terms), 2, 2)), _scaled_size(psf.size, scale)
    )
    factors = psf.polynomials(x, y).T
    return factors / (factors @ terms.sum((1, 2)))[:, None], terms


def _scaled_size(size: int, scale: float) -> int:
    """Odd side of a stamp after a change of pixel size."""
    return 2 * round(size // 2 / scale) + 1


def _resample(stamps: np.ndarray, jacobian: np.ndarray, size: int) -> np.ndarray:
    """Cubic-spline values of stamps (n, k, k) on centred grids (size, size) seen through maps (n, 2, 2)."""
    # Imported here because every step reads exposures and few evaluate the PSF of a coadd.
    from scipy.ndimage import map_coordinates

    k = stamps.shape[-1]
    if size == k and np.abs(jacobian - np.eye(2)).max() * k / 2 < NO_DISPLACEMENT:
        return stamps
    t = np.arange(size) - size // 2
    grid = np.stack(np.meshgrid(t, t))
    out = np.empty((len(stamps), size, size))
    for i, (stamp, matrix) in enumerate(zip(stamps, jacobian)):
        sx, sy = np.tensordot(matrix, grid, 1)
        out[i] = map_coordinates(stamp, [sy + k // 2, sx + k // 2], order=3, mode="constant")
    return out


def _innermost(inputs: list[PsfInput]) -> list[PsfInput]:
    found = {}
    for source in inputs:
        nested = _innermost(source.psf.inputs) if isinstance(source.psf, CoaddPsf) else [source]
        for item in nested:
            found.setdefault((item.visit, item.detector), item)
    return list(found.values())


@lru_cache(maxsize=N_PARSED)
def _parsed_wcs(header: str) -> WCS:
    """The WCS of a header; the patches of a template share those of their inputs."""
    return read_wcs(fits.Header.fromstring(header))
