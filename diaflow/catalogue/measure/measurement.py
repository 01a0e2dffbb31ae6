"""Everything that is measured of the Objects of a patch on the coadd of one band."""

import numpy as np

from diaflow.catalogue.blends import Blends
from diaflow.catalogue.measure import apertures, coadd_inputs, extended, gaap, kron, pixel_flags, shapes
from diaflow.catalogue.measure.psf_flux import PsfFluxes
from diaflow.catalogue.measure.scene import Scene
from diaflow.image.exposure import Exposure


def measure(exposure: Exposure, blends: Blends) -> np.ndarray:
    """Measure all sources of a patch on one coadd.

    Parameters
    ----------
    exposure : Exposure
        The coadd, with its PSF [nJy].
    blends : Blends
        n sources with their pixels in this band.

    Returns
    -------
    (n,) structured array
        A row for each source, with the columns of `psf_flux`, `apertures`, `kron`, `gaap`, `shapes`, `extended`,
        `coadd_inputs` and `pixel_flags`.  Zero points rest on PSF fluxes, so that psfFlux is the total flux of a star,
        and apCorr times it is what the calibration aperture catches.
    """
    scene = Scene(exposure, blends)
    alone, shape = PsfFluxes(scene), shapes.shapes(scene)
    before_psf, wide, wide_err = gaap.gaap_fluxes(scene, shape)
    kind = extended.star_or_galaxy(shape, alone.flux, alone.err, wide, wide_err)
    # Blended stars may look extended by one of the two, because of what deblending has left them.
    galaxy = (kind["extendedness"] == 1) & (kind["sizeExtendedness"] == 1)
    columns = alone.columns(~galaxy & (np.asarray(blends.n_child) == 0))
    columns |= kron.kron_fluxes(scene, shape) | apertures.aperture_fluxes(scene) | before_psf | shape | kind
    columns |= coadd_inputs.coadd_inputs(scene) | pixel_flags.pixel_flags(scene)
    out = np.empty(len(scene.x), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        out[name] = values
    return out
