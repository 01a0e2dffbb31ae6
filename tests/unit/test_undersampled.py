"""Images whose pixels are too large for their stars: calibrated from 1.6 pixels FWHM, and refused below by name."""

import numpy as np
import pytest
import starfield
from astropy.io import fits

from diaflow.calibrate import calexp
from diaflow.calibrate.stars import measure_image
from diaflow.errors import BadData
from diaflow.instruments.images import Pixels
from diaflow.measure import photometry, sources
from diaflow.psf.stampfield import fwhm
from diaflow.run import config

CONFIG = config.validated({"images": "simulated"})["calexp"]
HATP32 = ("013343", "030312", "033912")


def calibrated(width, seed=4):
    field = starfield.make(size=512, spacing=32, varying=False, fwhm=width, log_flux=(3.0, 5.0), seed=seed)
    header = starfield.wcs(512, offset=0.003).to_header()
    return field, *calexp.calibrate(Pixels(field.image, header), field.row, starfield.refcat(field), CONFIG)


def aperture_over_psf(exposure, table, radius):
    """Aperture over PSF flux of the PSF stars, over what the model has in the aperture."""
    stars = table[table["psfStar"] & sources.unflagged(table)]
    stamp = exposure.psf.centre()
    middle = len(stamp) // 2
    held, *_ = photometry.aperture_flux(stamp, np.ones_like(stamp), middle, middle, radius)
    flux, *_ = photometry.aperture_flux(exposure.image, exposure.variance, stars["x"], stars["y"], radius)
    return np.median(flux / stars["psfFlux"]) / held


@pytest.mark.parametrize("width", [1.5, 1.9])
def test_fluxes_and_positions_of_sharp_stars_are_right(width):
    field, exposure, table, summary = calibrated(width)
    seen = fwhm(starfield.moffat(0.0, 0.0, width, size=31)[0])
    assert summary["psf_fwhm"][0] == pytest.approx(seen, rel=0.015)
    assert summary["zero_point"][0] == pytest.approx(starfield.ZERO_POINT, abs=0.01)
    assert summary["psf_flux_ratio"][0] == pytest.approx(1, abs=0.02)
    assert aperture_over_psf(exposure, table, 4.0) == pytest.approx(1, abs=0.02)
    bright = table[sources.unflagged(table) & (table["psfFlux"] > 100 * table["psfFluxErr"])]
    distance = np.hypot(bright["x"][:, None] - field.x, bright["y"][:, None] - field.y)
    assert len(bright) > 30
    scale = 10 ** (0.4 * (31.4 - starfield.ZERO_POINT))
    ratio = bright["psfFlux"] / field.flux[distance.argmin(1)] / scale
    # 1 % of noise each, and what the phase in the pixel does.
    assert np.std(ratio) < 0.02 and np.median(distance.min(1)) < 0.03


def test_what_the_pixels_do_not_show_is_refused_with_its_width():
    with pytest.raises(BadData, match=r"PSF of 1\.\d\d pixel FWHM: below 1.6 the pixels do not show its shape"):
        calibrated(1.0)


@pytest.mark.parametrize("name", HATP32)
def test_frames_of_a_small_telescope_have_psf_fluxes(shared, name):
    counts = fits.getdata(shared / f"hatp32/HATP-32171220{name}.fits.gz").astype(np.float32)
    row = starfield.row(len(counts), gain=np.nan, read_noise=np.nan, bias=0.0, saturation=4095.0)
    measured = measure_image(Pixels(counts, starfield.wcs(len(counts)).to_header()), row, CONFIG)
    width = fwhm(measured.exposure.psf.centre())
    assert 1.6 < width < 2.6
    # Beyond 4 pixels there are neighbours.
    assert aperture_over_psf(measured.exposure, measured.table, 1.7 * width) == pytest.approx(1, abs=0.05)
