"""Raw images: every source through the true WCS, then what a CCD does to it.

After the sources come sky, stray light, cosmic rays, Poisson noise, bleeding, read noise, bias, rounding to uint16,
and bad columns.
"""

from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.image.exposure_file import write_fits
from diaflow.simulate import background, camera, flaws, optics, pointing, sources
from diaflow.simulate.pointing import stream
from diaflow.simulate.sky import Survey
from diaflow.units import NANOJANSKY_ZERO_POINT

SOURCE_REACH = 60.0  # largest distance of a source that is drawn from the edge of the image [arcsec]
# Faintest stars with spikes and ghosts, in the last band [mag]: those of `sky.BRIGHT_MAGS`, which saturate.  Spikes of
# stars that are measured would be a part of the PSF, and in every star alike.
STRAY_LIMIT = 14.6


def render(survey: Survey, visit: int, detector: int) -> tuple[np.ndarray, fits.Header]:
    """One raw image.

    Parameters
    ----------
    survey : Survey
    visit, detector : int

    Returns
    -------
    image : (size, size) uint16 array
        Raw counts [DN].
    header : astropy.io.fits.Header
        What the `generic` instrument map reads; its WCS has no distortion and a pointing error.
    """
    config, epoch = survey.config, survey.visit(visit)
    seed, spoilt = config["seed"], config["flaws"]
    rng = stream(seed, "pixels", visit, detector)
    electrons = background.sky_image(config, epoch, detector) + scene(survey, visit, detector)
    _add_stray_light(electrons, survey, visit, detector)
    electrons *= pointing.GAIN
    flaws.add_cosmic_rays(electrons, rng)
    flaws.add_slow_tracks(electrons, spoilt["tracks"], stream(seed, "tracks", visit, detector))
    electrons = rng.poisson(electrons).astype(float)
    full_well = spoilt["full_well"] * pointing.SATURATION
    flaws.bleed(electrons, pointing.GAIN * (full_well - pointing.BIAS))
    electrons += rng.normal(0, pointing.READ_NOISE, electrons.shape)
    counts = electrons / pointing.GAIN + pointing.BIAS
    amplifiers = config["sky"]["amplifiers"], config["sky"]["amplifier_step"]
    counts += flaws.amplifier_levels(config["size"], *amplifiers, stream(seed, "amplifiers", visit, detector))
    image = np.clip(np.rint(counts), 0, flaws.ADC_MAX).astype(np.uint16)
    flaws.spoil_columns(image, *spoilt["columns"], stream(seed, "columns", detector))
    flaws.blank_corners(image, spoilt["corners"])
    return image, fits.Header([(key, *card) for key, card in pointing.header(config, epoch, detector).items()])


def write(survey: Survey, visit: int, detector: int, path: str | Path) -> None:
    """Render one raw image and write it.

    Parameters
    ----------
    survey : Survey
    visit, detector : int
    path : path
        A FITS file, which appears under its name only when it is complete.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    write_fits([fits.PrimaryHDU(*render(survey, visit, detector))], path)


def scene(survey: Survey, visit: int, detector: int) -> np.ndarray:
    """All objects on a detector without noise, sky or defects.

    Parameters
    ----------
    survey : Survey
    visit, detector : int

    Returns
    -------
    (size, size) array
        [DN]
    """
    config, epoch = survey.config, survey.visit(visit)
    size = config["size"]
    flux, x, y = _on_detector(survey, visit, detector)
    reach = SOURCE_REACH / config["pixel_scale"]
    near = (flux > 0) & (np.abs(x - size / 2) < size / 2 + reach) & (np.abs(y - size / 2) < size / 2 + reach)
    objects, flux, x, y = survey.objects[near], flux[near], x[near], y[near]
    image = np.zeros((size, size))
    sources.draw(image, config, epoch, detector, objects, flux, x, y)
    return image


def _on_detector(survey: Survey, visit: int, detector: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flux [DN] and position x, y [pixel] of all objects."""
    epoch = survey.visit(visit)
    flux = survey.flux[:, visit - 1] * 10 ** (0.4 * (epoch.zero_point - NANOJANSKY_ZERO_POINT))
    wcs = optics.true_wcs(survey.config, epoch, detector)
    return flux, *wcs.all_world2pix(*survey.positions(visit), 0)


def _add_stray_light(image: np.ndarray, survey: Survey, visit: int, detector: int) -> None:
    """Spikes, ghosts and trails of satellites [DN], where the configuration asks for them."""
    config, share = survey.config, survey.config["flaws"]
    if share["spikes"] or share["ghosts"]:
        flux, x, y = _on_detector(survey, visit, detector)
        mag = np.where(survey.objects["type"] == "star", survey.objects[f"{config['bands'][-1]}_mag"], np.inf)
        bright = mag <= STRAY_LIMIT
        flux, x, y = flux[bright], x[bright], y[bright]
        flaws.add_spikes(image, x, y, share["spikes"] * flux)
        axis = camera.centre(config, detector)
        flaws.add_ghosts(image, x, y, share["ghosts"] * flux, axis)
    flaws.add_satellites(image, config, survey.visit(visit), detector)
