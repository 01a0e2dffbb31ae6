"""The template of one science image: coadd patches brought onto its pixels.

Patches of a tract share its WCS, so they are pasted in the frame of the tract and resampled once; tracts are then
averaged on the science grid.  Overlaps are averaged with weights variance**-0.5, the variance too: patches that
overlap were made of the same warps, so their noise does not average down (LSST's GetTemplateTask, ip_diffim).
"""

from itertools import groupby

import numpy as np
from astropy.wcs import WCS
from numba import njit

from diaflow.coadd import subbands
from diaflow.errors import BadData, InputError, Kind
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import ExposureFile
from diaflow.image.noise import Noise
from diaflow.image.planes import bits
from diaflow.jit import EXACT
from diaflow.psf.coadd import EVERYWHERE, CoaddPsf, PsfInput
from diaflow.sky.wcs import sky_to_pixel
from diaflow.warp import warp

# Pixels around the science image that the resampling kernel and the curvature of its edges need.
MARGIN = 8

# Points along each edge of the science image from which the part of the tract that it needs is found.
EDGE_POINTS = 33

# HIGH_VARIANCE is set where the smoothed variance is above this multiple of its median, in bins of this side [pixel],
# and nowhere when fewer pixels than this fraction can be used; as in GetTemplateTask (ip_diffim).
HIGH_VARIANCE_RATIO = 4.0
VARIANCE_BIN = 32
MIN_UNMASKED_FRACTION = 0.1

NO_DATA = bits("NO_DATA")


def assemble(paths: list[str], wcs: WCS, shape: tuple[int, int], mjd: float | None = None) -> Exposure:
    """The template on the grid of a science image.

    Parameters
    ----------
    paths : list of str
        Patch coadds that may overlap the image; any number of tracts.
    wcs, shape
        Grid of the science image.
    mjd : float, optional
        Its date, TAI [d], from which coadds with sub-bands (method dcr) take the refraction.

    Returns
    -------
    Exposure
        NO_DATA where there is no template, HIGH_VARIANCE where it is much shallower than elsewhere; `psf` is the
        nested `CoaddPsf` of the patches, metadata band.

    Raises
    ------
    BadData
        When no coadd overlaps the image, or the date is needed and unknown.
    InputError
        When a coadd is unreadable or of another band than the first, or the field is not above the horizon then.
    """
    tracts = [_resampled_tract(patches, wcs, shape, mjd) for patches in _tracts(paths)]
    tracts = [tract for tract in tracts if tract is not None and not (tract.mask & NO_DATA).all()]
    if not tracts:
        raise BadData("no template: no coadd overlaps the image", Kind.TEMPLATE)
    template = tracts[0] if len(tracts) == 1 else _mean(tracts, wcs, shape)
    _flag_high_variance(template)
    return template


def _tracts(paths: list[str]) -> list[list[ExposureFile]]:
    """The coadds that have data, by tract, that is by WCS but for its origin."""
    files = [ExposureFile(path) for path in paths]
    files = [file for file in files if file.metadata.get("status") != "failed"]
    for file in files[1:]:
        if file.metadata.get("band") != files[0].metadata.get("band"):
            raise InputError(f"{file.path}: band {file.metadata.get('band')}, not that of {files[0].path}")

    def frame(file):
        return (*file.wcs.wcs.crval, *file.wcs.wcs.ctype, *file.wcs.pixel_scale_matrix.ravel().round(12))

    return [list(patches) for _, patches in groupby(sorted(files, key=frame), key=frame)]


def _resampled_tract(
    patches: list[ExposureFile], wcs: WCS, shape: tuple[int, int], mjd: float | None
) -> Exposure | None:
    """The patches of one tract on the science grid, or None when none overlaps it."""
    origin = patches[0].wcs
    boxes = [_box(patch, origin) for patch in patches]
    needed = _box_of_image(wcs, shape, origin)
    overlapping = [(patch, box) for patch, box in zip(patches, boxes) if _intersect(box, needed) is not None]
    if not overlapping:
        return None
    # Of the frame of the first patch: the part that patches cover and the image needs.
    region = np.array([box for _, box in overlapping])
    region = _intersect((*region[:, :2].min(0), *region[:, 2:].max(0)), needed)
    mosaic_wcs = origin.deepcopy()
    mosaic_wcs.wcs.crpix -= region[:2]
    mosaic = _mosaic(overlapping, region, mosaic_wcs, mjd)
    resampled = warp(mosaic, wcs, shape)
    total = resampled.noise.covariance_factor
    excess = mosaic.noise.excess_variance(total / mosaic.noise.covariance_factor)
    resampled.variance *= np.float32(excess)
    resampled.noise = Noise(total / excess)
    return resampled


def _box(patch: ExposureFile, origin: WCS) -> tuple[int, int, int, int]:
    """Pixels x0, y0, x1, y1 (exclusive) of a patch in the frame of another patch of the tract."""
    x0, y0 = np.round(origin.wcs.crpix - patch.wcs.wcs.crpix).astype(int)
    ny, nx = patch.shape
    return x0, y0, x0 + nx, y0 + ny


def _box_of_image(wcs: WCS, shape: tuple[int, int], frame: WCS) -> tuple[int, int, int, int]:
    """Pixels of a tract that an image needs, in the same form; none when the projection does not reach it."""
    ny, nx = shape
    x, y = (np.linspace(0, n - 1, EDGE_POINTS) for n in (nx, ny))
    border_x = np.concatenate([x, x, np.zeros_like(y), np.full_like(y, nx - 1)])
    border_y = np.concatenate([np.zeros_like(x), np.full_like(x, ny - 1), y, y])
    position = np.stack(sky_to_pixel(frame, *wcs.all_pix2world(border_x, border_y, 0), EVERYWHERE))
    if not np.isfinite(position).all():
        return 0, 0, 0, 0
    low, high = np.floor(position.min(1)).astype(int), np.ceil(position.max(1)).astype(int)
    return *(low - MARGIN), *(high + MARGIN + 1)


def _intersect(a: tuple, b: tuple) -> tuple[int, int, int, int] | None:
    """Common part of two boxes x0, y0, x1, y1 (exclusive)."""
    x0, y0, x1, y1 = (*np.maximum(a[:2], b[:2]), *np.minimum(a[2:], b[2:]))
    return (int(x0), int(y0), int(x1), int(y1)) if x0 < x1 and y0 < y1 else None


@njit(**EXACT)
def _add(image, variance, mask, sum_image, sum_variance, sum_weight, all_mask, x, y, first):
    """Add planes to running sums; without a branch, so that it is done for several pixels at once.

    Parameters
    ----------
    image, variance, mask : (n, m) arrays
        Pixels with NO_DATA, of no positive finite variance or no finite value do not count.
    sum_image, sum_variance, sum_weight, all_mask : (ny, nx) arrays
        Changed in place: sums with weights variance**-0.5, and the OR of the masks.
    x, y : int
        Column and row of the sums in which the planes begin; what is beyond their edge is left out.
    first : int
        Column of the planes from which they are taken.
    """
    nx = min(image.shape[1] - first, sum_image.shape[1] - x)
    columns, place = slice(first, first + nx), slice(x, x + nx)
    for j in range(min(image.shape[0], sum_image.shape[0] - y)):
        values, variances, planes = image[j, columns], variance[j, columns], mask[j, columns]
        row_image, row_variance = sum_image[y + j, place], sum_variance[y + j, place]
        row_weight, row_mask = sum_weight[y + j, place], all_mask[y + j, place]
        for i in range(nx):
            v = variances[i]
            good = (planes[i] & NO_DATA == 0) & (v > 0) & (v < np.inf) & (np.abs(values[i]) < np.inf)
            weight = (np.float32(1) if good else np.float32(0)) / np.sqrt(v if good else np.float32(1))
            row_image[i] += weight * (values[i] if good else np.float32(0))
            row_variance[i] += weight * (v if good else np.float32(0))
            row_weight[i] += weight
            row_mask[i] |= planes[i] if good else np.int32(0)


class _Mean:
    """Running mean with weights variance**-0.5 of image and variance, and OR of the masks."""

    def __init__(self, shape: tuple[int, int]):
        self.image, self.variance, self.weight = (np.zeros(shape, np.float32) for _ in range(3))
        self.mask = np.zeros(shape, np.int32)

    def add(
        self, image: np.ndarray, variance: np.ndarray, mask: np.ndarray, x: int = 0, y: int = 0, first: int = 0
    ) -> None:
        """Add planes of some rows, from a column on, to the rows and columns of the area from x, y on."""
        _add(image, variance, mask, self.image, self.variance, self.weight, self.mask, x, y, first)

    def exposure(self, wcs: WCS, noise: Noise) -> Exposure:
        """The mean; NaN, infinity and NO_DATA where nothing was added."""
        covered = self.weight > 0
        for plane, nothing in ((self.image, np.nan), (self.variance, np.inf)):
            np.divide(plane, self.weight, where=covered, out=plane)
            plane[~covered] = nothing
        self.mask[~covered] |= NO_DATA
        return Exposure(self.image, self.variance, self.mask, wcs, noise=noise)


def _mosaic(
    patches: list[tuple[ExposureFile, tuple]], region: tuple[int, int, int, int], wcs: WCS, mjd: float | None
) -> Exposure:
    """Part of a tract from its patches, read row by row where they have it."""
    x0, y0, x1, y1 = region
    mean, used = _Mean((y1 - y0, x1 - x0)), []
    for patch, box in patches:
        common = _intersect(box, region)
        if common is None:
            continue
        cx0, cy0, cx1, cy1 = common
        rows = [np.empty((cy1 - cy0, patch.shape[1]), dtype) for dtype in (np.float32, np.float32, np.int32)]
        for name, plane in zip(("IMAGE", "VARIANCE", "MASK"), rows):
            patch.read_rows(name, cy0 - box[1], plane)
        subbands.refract(patch, cy0 - box[1], *rows[:2], mjd)
        mean.add(*rows, x=cx0 - x0, y=cy0 - y0, first=cx0 - box[0])
        used.append((patch, (cx1 - cx0) * (cy1 - cy0)))
    # That a PSF flux feels less of smoothed noise is not known any more after the resampling that follows.
    noise = Noise.mean([Noise(patch.noise.covariance_factor) for patch, _ in used], [n for _, n in used])
    mosaic = mean.exposure(wcs, noise)
    mosaic.metadata = {"band": used[0][0].metadata.get("band", "")}
    mosaic.psf = CoaddPsf([_psf_input(patch) for patch, _ in used], wcs)
    return mosaic


def _psf_input(patch: ExposureFile) -> PsfInput:
    ny, nx = patch.shape
    return PsfInput(-1, -1, 1.0, patch.psf, patch.wcs, (0, 0, nx - 1, ny - 1))


def _mean(tracts: list[Exposure], wcs: WCS, shape: tuple[int, int]) -> Exposure:
    """Tracts on one grid averaged where they overlap."""
    mean = _Mean(shape)
    for tract in tracts:
        mean.add(tract.image, tract.variance, tract.mask)
    covered = [np.count_nonzero(tract.mask & NO_DATA == 0) for tract in tracts]
    template = mean.exposure(wcs, Noise.mean([tract.noise for tract in tracts], covered))
    template.metadata = tracts[0].metadata
    template.psf = CoaddPsf([source for tract in tracts for source in tract.psf.inputs], wcs)
    return template


def _flag_high_variance(template: Exposure) -> None:
    """Set HIGH_VARIANCE where the smoothed variance is far above its median."""
    masked = template.flagged("NO_DATA", "BAD", "SAT")
    if masked.mean() > 1 - MIN_UNMASKED_FRACTION:
        return
    bins = _binned_median(np.where(masked, np.inf, template.variance))
    limit = HIGH_VARIANCE_RATIO * np.median(bins[np.isfinite(bins)])
    bins[~np.isfinite(bins)] = 0
    if (bins > limit).any():
        template.mask[_interpolated(bins, template.shape) > limit] |= bits("HIGH_VARIANCE")


def _binned_median(values: np.ndarray) -> np.ndarray:
    """Medians of the finite values in square bins, from every second row and column; infinity where there is none."""
    half = VARIANCE_BIN // 2
    coarse = values[::2, ::2]
    ny, nx = (-(-n // half) for n in coarse.shape)
    coarse = np.pad(
        coarse, [(0, ny * half - coarse.shape[0]), (0, nx * half - coarse.shape[1])], constant_values=np.inf
    )
    pixels = np.sort(coarse.reshape(ny, half, nx, half).swapaxes(1, 2).reshape(ny, nx, -1), axis=-1)
    n_finite = np.isfinite(pixels).sum(-1)
    middle = np.maximum(n_finite - 1, 0) // 2
    return np.take_along_axis(pixels, middle[..., None], -1)[..., 0]


def _interpolated(bins: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Linear interpolation between the centres of bins at every pixel."""
    y, x = (np.clip((np.arange(n) + 0.5) / VARIANCE_BIN - 0.5, 0, m - 1) for n, m in zip(shape, bins.shape))
    iy, ix = (np.minimum(p.astype(int), max(m - 2, 0)) for p, m in zip((y, x), bins.shape))
    fy, fx = (y - iy)[:, None], x - ix
    right, up = np.minimum(ix + 1, bins.shape[1] - 1), np.minimum(iy + 1, bins.shape[0] - 1)
    columns = (1 - fx) * bins[:, ix] + fx * bins[:, right]
    return (1 - fy) * columns[iy] + fy * columns[up]
