"""Removal of the instrument signature from a raw science frame: what the sky put on the detector, with its variance.

In come the assembled frame and the masters, out goes an image as a flat-fielding camera would have delivered it, with
variance and mask, that `detrend.detrend` takes.
"""

import numpy as np
from astropy.wcs import WCS

from diaflow.errors import BadData, Kind
from diaflow.image.exposure import Exposure
from diaflow.image.noise import WHITE
from diaflow.image.planes import bits
from diaflow.isr import noise
from diaflow.isr.assemble import Frame
from diaflow.isr.masters import subtract


def remove(frame: Frame, bias: Exposure | None, dark: Exposure | None, flat: Exposure | None) -> Exposure:
    """Take bias and dark off a frame, divide it by the flat, and tell the variance of every pixel.

    The variance is that of the photons of the smooth sky and of significant sources, of the read noise of each
    amplifier, and of the masters; where it does not predict the scatter of the sky, the whole is scaled to it.

    Parameters
    ----------
    frame : Frame
        Its image and mask are changed.
    bias, dark, flat : Exposure or None
        Masters of the same detector.

    Returns
    -------
    Exposure
        [DN, DN**2]; planes BAD and SAT, whose pixels hold the sky; no WCS on the sky.  metadata: gain [electron/DN],
        noise_model (predicted, or scaled to the sky), noise_excess, the variance of the sky over the predicted one, and
        saturation [DN of the frame].

    Raises
    ------
    BadData
        When hardly any pixel is usable, the sky has no noise, or a master has another shape.
    """
    for master in (bias, dark, flat):
        if master and master.shape != frame.image.shape:
            raise BadData(
                f"master {master.metadata['imagetype']} of {master.shape} pixels for {frame.image.shape}",
                Kind.CALIBRATION,
            )
    floor = frame.floor() + subtract(frame, bias, dark)
    response, uncertainty = (flat.image, flat.variance) if flat else (np.float32(1), np.float32(0))
    frame.image /= response
    frame.mask |= flat.mask if flat else 0
    photon_gain = np.float32(frame.gain) * response
    model = noise.NoiseModel(photon_gain, floor / response**2, "predicted", uncertainty / response**2)
    sky = noise.fill_with_sky(frame.image, frame.mask, (frame.mask & bits("SAT")) != 0)
    variance = noise.variance_plane(frame.image, sky, model)
    gain, source = frame.gain, "predicted"
    residual = frame.image - sky
    quiet = noise.quiet_pixels(residual, noise.unusable(frame.mask))
    excess = noise.robust_variance(residual[quiet] / np.sqrt(variance[quiet]))
    if not 1 / noise.TRUSTED < excess < noise.TRUSTED:
        variance *= np.float32(excess)
        gain, source = gain / excess, "sky"
    metadata = {"gain": gain, "noise_model": source, "noise_excess": excess, "saturation": frame.saturation}
    return Exposure(frame.image, variance, frame.mask, WCS(naxis=2), noise=WHITE, metadata=metadata)
