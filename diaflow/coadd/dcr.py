"""Coadd with a wavelength dimension: sub-bands of the sky that explain warps taken at different refraction.

Around bright sources the model of warp i is (P_i / P) * sum_f shift_if m_f, with P_i its PSF, P that of the coadd (the
mean of the P_i) and shift_if where the atmosphere put sub-band f in that visit.  What is solved for, frequency by
frequency, is the sum of the m_f and those other than the middle one, which a prior keeps as small as the data allow: a
source without a colour of its own is all in the middle sub-band, as the PSF and the WCS of a visit know the mean star.
Missing pixels are filled with what the model predicts, until it agrees with the pixels that are there (after LSST's
DcrAssembleCoadd, drp_tasks, which iterates on the sub-bands instead).  Elsewhere the coadd is `direct`.
"""

import numpy as np
from scipy import fft
from scipy.ndimage import uniform_filter

from diaflow.coadd import artefacts, direct, spectra, stack, subbands
from diaflow.coadd.cells import Node, Patch, cell_pixels
from diaflow.errors import InputError, data_may_fail
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import ExposureFile
from diaflow.pixels.growth import core_radius, grow
from diaflow.sky.refraction import Subbands

OPTIONS = {
    "dcr": {
        "type": "object",
        "default": {},
        "description": "where the observatory is, and where bands begin and end",
        "additionalProperties": False,
        "properties": {
            "latitude": {
                "type": ["number", "null"],
                "minimum": -90,
                "maximum": 90,
                "default": None,
                "description": "geodetic latitude of the observatory [deg]",
            },
            "longitude": {
                "type": ["number", "null"],
                "minimum": -180,
                "maximum": 360,
                "default": None,
                "description": "longitude of the observatory, east of Greenwich [deg]",
            },
            "altitude": {
                "type": "number",
                "minimum": -500,
                "maximum": 9000,
                "default": 0,
                "description": "altitude of the observatory [m]",
            },
            "subbands": {"enum": [3, 5, 7], "default": 3, "description": "parts that each band is divided into"},
            "bands": {
                "type": "object",
                "default": {},
                "description": "first and last wavelength of each band [nm]",
                "additionalProperties": {
                    "type": "array",
                    "items": {"type": "number", "minimum": 230.2, "maximum": 2058.6},
                    "minItems": 2,
                    "maxItems": 2,
                },
            },
        },
    },
}

# Pixels of the coadd above this many sigma are bright, and worth sub-bands; these reach this many radii of the core of
# the PSF beyond them.
N_SIGMA, REACH = 10.0, 2
# Refraction may change the image of a star by this fraction of its peak; what does not is no artefact of a warp.
AMPLITUDE = 0.2

# Inverse power of the prior of each sub-band but the middle one, in units of S / |P|^2: what it costs in noise and what
# it leaves of stars of other colours is in docs/templates.md.
PRIOR = 1e-3
# |P|^2 below which warps are added as they are, whatever their PSFs.
FLOOR = 1e-4

# Iterations end when the mean relative deviation from the bright pixels changes by less, or after this many: those that
# DcrAssembleCoadd takes for three sub-bands.
CONVERGENCE, MAX_ITERATIONS = 1e-3, 9

# Of the frequencies of `spectra.GRID` along each axis every fourth is stored of the covariance: a sixteenth of it.
THINNING = 4


def combine(warps: list[ExposureFile], matched: list[ExposureFile], dcr: dict) -> Exposure:
    """Weighted mean of direct warps, with sub-bands of bright sources.

    Parameters
    ----------
    warps, matched : lists of ExposureFile
        Direct and PSF-matched warps of the same visits, in the same order.
    dcr : dict
        Section `template.dcr` of the configuration.

    Returns
    -------
    Exposure
        Its image is the sum of the sub-bands, without refraction between them; ``extra`` holds them, from blue to red,
        and the covariance of the solution; ``metadata["dcr_residual"]`` is the mean over warps of
        sum |warp - model| / sum (|warp + model| / 2) over bright pixels.

    Raises
    ------
    InputError
        When a warp has no date, or the field is not above the horizon then.
    BadData
        When no warp has a PSF on the patch, or the sub-bands cannot be solved for.
    """
    model = Subbands.from_config(dcr, warps[0].metadata["band"])
    offsets = np.array([model.offsets(_date(warp), warp.wcs, warp.shape) for warp in warps])
    patch, weights = Patch(warps), stack.warp_weights(warps)
    limit = min(artefacts.BRIGHT_N_SIGMA, artefacts.THRESHOLD * np.sqrt(len(warps)) / AMPLITUDE)
    coadd, clipped = direct.clean_mean(warps, matched, psf_jumps=False, bright=limit)
    has_data = ~coadd.flagged("NO_DATA")
    fill = np.where(has_data, coadd.image, np.float32(0))
    bright = has_data & (fill > N_SIGMA * np.sqrt(coadd.variance))
    parts, total = np.zeros((model.n, *coadd.shape), np.float32), np.zeros(coadd.shape, np.float32)
    residuals, covariances = [], []
    for node in patch.nodes():
        box, taper = patch.box(node), patch.taper(node)
        if bright[box].any():
            cell = _Cell(patch, node, offsets, weights)
            planes, residual = cell.solve(*cell_pixels(patch, node, clipped, fill), bright[box])
            parts[:, *box] += taper * planes
            total[box] += taper
            residuals.append(residual)
            covariances.append(cell.covariance())
    if residuals:
        near = _around(bright, patch) * (has_data & (total > 0))
        parts *= near / np.where(total > 0, total, 1)
        coadd.metadata |= model.metadata() | {"dcr_residual": float(np.mean(residuals))}
        _store(coadd, parts, near, np.mean(covariances, axis=0))
    return coadd


def _date(warp: ExposureFile) -> float:
    if "mjd" not in warp.metadata:
        raise InputError(f"{warp.path}: no MJD in its header, which refraction depends on")
    return warp.metadata["mjd"]


class _Cell:
    """The equations of the warps that are present in a cell.

    Parameters
    ----------
    patch, node
    offsets : (n, n_subbands, 2) array
        Of the sub-bands in all warps of the patch [pixel].
    weights : (n,) array
    """

    def __init__(self, patch: Patch, node: Node, offsets: np.ndarray, weights: np.ndarray):
        use = patch.present(node)
        self.stamps, self.offsets, self.weights = patch.stamps[node][use], offsets[use], weights[use]

    def design(self, shape: tuple[int, int]) -> tuple[list[np.ndarray], np.ndarray]:
        """Transforms P_i / P of the warps, and P, on images of a shape."""
        stamps = [spectra.transform(stamp, shape).astype(np.complex64) for stamp in self.stamps]
        psf = sum(w * stamp for w, stamp in zip(self.weights, stamps)) / self.weights.sum()
        power = np.abs(psf) ** 2 + np.float32(FLOOR)
        return [(stamp * psf.conj() + np.float32(FLOOR)) / power for stamp in stamps], psf

    def equations(self, ratios: list[np.ndarray], shape: tuple[int, int]):
        """Of each warp: its weight and what the unknowns are multiplied with, (n, ny, nx // 2 + 1)."""
        return ((w, r * subbands.terms(o, shape)) for w, r, o in zip(self.weights, ratios, self.offsets))

    def inverse(self, ratios: list[np.ndarray], psf: np.ndarray, shape: tuple[int, int]):
        """Inverse of the normal equations, and the equations without the prior: (n, n, ny, nx // 2 + 1) each."""
        information = sum(w * a.conj()[:, None] * a.astype(complex) for w, a in self.equations(ratios, shape))
        normal = information.copy()
        prior = PRIOR * self.weights.sum() / (np.abs(psf) ** 2 + FLOOR)
        for k in range(1, len(normal)):
            normal[k, k] += prior
        with data_may_fail("solution for the sub-bands"):
            inverse = np.linalg.inv(normal.transpose(2, 3, 0, 1))
        return inverse.transpose(2, 3, 0, 1), information

    def solve(
        self, images: np.ndarray, used: np.ndarray, inner: tuple[slice, slice], bright: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """The sum and the sub-bands but the middle one in the box of the cell, and the residual.

        Parameters
        ----------
        images, used, inner
            See `diaflow.coadd.cells.cell_pixels`; pixels that are not used are overwritten.
        bright : bool array
            Pixels of the box that convergence is judged by.
        """
        shape = images.shape[1:]
        ratios, psf = self.design(shape)
        inverse = self.inverse(ratios, psf, shape)[0].astype(np.complex64)
        residual = np.inf
        for _ in range(MAX_ITERATIONS):
            seen = sum(
                np.float32(w) * a.conj() * fft.rfft2(z) for (w, a), z in zip(self.equations(ratios, shape), images)
            )
            found = np.einsum("abyx,byx->ayx", inverse, seen)
            previous, residual = residual, self._fill(images, used, inner, bright, ratios, found)
            if abs(previous - residual) < CONVERGENCE:
                break
        return np.array([fft.irfft2(part, shape)[inner] for part in found]), residual

    def _fill(self, images, used, inner, bright, ratios, found) -> float:
        """Put the model where pixels are missing; its mean relative deviation from the known bright ones."""
        shape, deviations = images.shape[1:], []
        for image, known, (_, a) in zip(images, used, self.equations(ratios, shape)):
            model = fft.irfft2((a * found).sum(0), shape)
            judged = known[inner] & bright
            data, predicted = image[inner][judged], model[inner][judged]
            if len(data):
                deviations.append(np.abs(data - predicted).sum() / np.abs(data + predicted).sum() * 2)
            image[~known] = model[~known]
        return float(np.mean(deviations)) if deviations else 0.0

    def covariance(self) -> np.ndarray:
        """Covariance of the unknowns over that of the mean of all, see `diaflow.coadd.subbands.noise_factor`."""
        shape = (spectra.GRID,) * 2
        ratios, psf = self.design(shape)
        inverse, information = self.inverse(ratios, psf, shape)
        covariance = np.einsum("abyx,bcyx,cdyx->adyx", inverse, information, inverse) * self.weights.sum()
        power = np.abs(psf) ** 2
        covariance *= power / spectra.mean(power, shape)
        thin = covariance[..., ::THINNING, ::THINNING]
        return np.array([thin.real, thin.imag])


def _around(bright: np.ndarray, patch: Patch) -> np.ndarray:
    """Weight of the sub-bands: 1 around bright pixels, falling to 0 farther away."""
    reach = REACH * core_radius(patch.stamps.sum((0, 1, 2)))
    grown = grow(bright.astype(np.int32), reach).astype(np.float32)
    return uniform_filter(grown, reach + 1, mode="nearest")


def _store(coadd: Exposure, parts: np.ndarray, near: np.ndarray, covariance: np.ndarray) -> None:
    """Put the solution into the coadd: where it counts, its noise instead of that of the mean."""
    coadd.image += parts[0] - near * coadd.image
    size = covariance.shape[-2]
    factor = spectra.mean(covariance[0, 0, 0], (size, size))
    coadd.variance *= 1 + near * np.float32(factor - 1)
    others = list(np.where(near > 0, parts[1:], 0))
    others.insert(len(others) // 2, coadd.image - sum(others))
    coadd.extra = dict(zip(subbands.names(len(others)), others))
    coadd.extra[subbands.COVARIANCE] = covariance.astype(np.float32)
