"""Instrument signature of one detector: pixels as read to an exposure with variance, mask and repaired pixels, in DN.

Raw frames go through `assemble` (amplifiers to one image), `masters` (bias, dark, flat from calibration frames) and
`signature` (their removal) first; `detrend` takes what they make, or flat-fielded images, to an `Exposure`.
"""

import numpy as np

from diaflow.image.exposure import Exposure
from diaflow.image.noise import WHITE
from diaflow.image.planes import bits
from diaflow.instruments.images import Pixels
from diaflow.isr import noise, repair
from diaflow.pixels import cosmicrays


def detrend(pixels: Pixels, row: np.void, edge: int = 5, cosmic_rays: bool = True) -> Exposure:
    """Make an exposure in DN of counts, or of an image that has its variance and mask.

    Parameters
    ----------
    pixels : Pixels
        Counts including sky and soft bias [DN], masked as their mask says and where they show it themselves; with a
        variance they are taken as they are, masked as their mask and variance say.
    row : row of the "exposure" table
        gain, read_noise, saturation and bias may be NaN (unknown).
    edge : int
        Width of the border masked as EDGE [pixel].
    cosmic_rays : bool
        Look for cosmic rays.

    Returns
    -------
    Exposure
        Without WCS and PSF.  Planes BAD, SAT, CR, EDGE; the first three are interpolated and INTRP.  metadata holds
        visit, detector, band, mjd, exptime, gain [electron/DN], saturation [DN, bias included] and noise_model: header,
        sky (gain and read noise do not predict the sky noise), estimated (gain unknown) or delivered (with the pixels).

    Raises
    ------
    BadData
        When hardly any pixel is usable, or the sky has no noise.
    """
    if pixels.variance is None:
        image, variance, mask, sky, model, saturation = noise.from_counts(pixels, row)
    else:
        image, variance, mask, sky, model, saturation = noise.as_delivered(pixels, row)
    bad = noise.unusable(mask)
    if cosmic_rays:
        hit = cosmicrays.find(image, variance, bad)
        mask[hit] |= bits("CR")
        bad |= hit
    repair.interpolate(image, bad, sky)
    repair.interpolate(variance, bad, variance)
    mask[bad] |= bits("INTRP")
    if edge:
        for border in (mask[:edge], mask[-edge:], mask[:, :edge], mask[:, -edge:]):
            border |= bits("EDGE")
    metadata = {name: row[name].item() for name in ("visit", "detector", "mjd", "exptime")}
    metadata |= {"band": row["band"], "gain": model.gain, "noise_model": model.source, "saturation": saturation}
    return Exposure(image, variance, mask, wcs=None, noise=WHITE, metadata=metadata)
