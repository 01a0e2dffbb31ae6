"""Positions of sources before they are deblended: each by the fit of a PSF, its neighbours taken out by theirs.

Peaks of a filtered image are drawn to their neighbours and jump with the noise, and templates about a wrong place share
the light of a blend wrongly.  Fluxes of all are fitted together, then the position of each; those that have neighbours
need some rounds of it.
"""

import numpy as np
from scipy.spatial import cKDTree

from diaflow.catalogue.measure.psf_flux import MAX_SHIFT, PsfFluxes
from diaflow.catalogue.measure.scene import Scene
from diaflow.image.exposure import Exposure
from diaflow.psf.stampfield import FWHM_PER_SIGMA

NEAR = 3.0  # FWHM within which a neighbour matters: the slope of a Gaussian has fallen to 1e-4 there
MAX_ROUNDS = 8  # of those that have one; chosen: equal stars of 1.25 FWHM come within a tenth of their error
# FWHM within which a neighbour's PSF reaches a source: half of a stamp and the window that its position is told by.
SEEN = 8.0
STILL = 0.1  # movement at which a position is found [error]


def refined(
    exposure: Exposure, x: np.ndarray, y: np.ndarray, which: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions by fits of PSFs.

    Parameters
    ----------
    exposure : Exposure
        The coadd, with its PSF.
    x, y : (n,) arrays
        Peaks [pixel].
    which : (n,) bool array, optional
        Those that are fitted, all by default; the others are where they are.

    Returns
    -------
    x, y : (n,) arrays
        [pixel]; the peak where no fit succeeds within two sigma of the PSF.
    """
    scene = Scene.of_points(exposure, np.array(x, float), np.array(y, float))
    if not len(scene.x) or not np.isfinite(scene.psf_sigma):
        return scene.x, scene.y
    wanted = np.ones(len(scene.x), bool) if which is None else which
    reach = NEAR * FWHM_PER_SIGMA * scene.psf_sigma
    near = np.isin(np.arange(len(x)), cKDTree(np.column_stack([x, y])).query_pairs(reach, output_type="ndarray"))
    fluxes = PsfFluxes(scene)
    flux = fluxes.together()
    moved, still = _moved(scene, fluxes, flux, wanted, scene)
    image = fluxes.without(flux, ~near)
    start, part = scene.part(near, image), moved.part(near, image)
    wanted = (wanted & ~still)[near]
    for _ in range(MAX_ROUNDS):
        if not wanted.any():
            break
        fluxes = PsfFluxes(part)
        part, still = _moved(part, fluxes, fluxes.together(), wanted, start)
        wanted &= ~still
    x, y = moved.x.copy(), moved.y.copy()
    x[near], y[near] = part.x, part.y
    return x, y


def with_neighbours(x: np.ndarray, y: np.ndarray, which: np.ndarray, sigma: float) -> np.ndarray:
    """Sources that the positions of some of them depend on: these, and those whose PSFs reach them.

    Parameters
    ----------
    x, y : (n,) arrays
        [pixel]
    which : (n,) bool array
        Sources whose positions are wanted, one at least.
    sigma : float
        Radius of the PSF [pixel].

    Returns
    -------
    (n,) bool array
    """
    distance, _ = cKDTree(np.column_stack([x[which], y[which]])).query(np.column_stack([x, y]))
    return distance < SEEN * FWHM_PER_SIGMA * sigma


def _moved(
    scene: Scene, fluxes: PsfFluxes, flux: np.ndarray, wanted: np.ndarray, start: Scene
) -> tuple[Scene, np.ndarray]:
    """The scene with fitted positions, but where they are lost, and which of them (n,) hardly moved."""
    x, y, error = fluxes.positions(flux, wanted)
    lost = np.hypot(x - start.x, y - start.y) > MAX_SHIFT * scene.psf_sigma
    x, y = np.where(lost, start.x, x), np.where(lost, start.y, y)
    return scene.moved(x, y), ~(np.hypot(x - scene.x, y - scene.y) > STILL * error)
