"""The side of the stamps of a PSF follows its light."""

import numpy as np
import pytest
import starfield
from builders import constant_psf, exposure

from diaflow.calibrate import psf_stamp
from diaflow.errors import BadData
from diaflow.psf.stampfield import resized


def moffat(fwhm, beta, size):
    t = np.arange(size) - size // 2
    return (1 + (t**2 + t[:, None] ** 2) * 4 * (2 ** (1 / beta) - 1) / fwhm**2) ** -beta


@pytest.mark.parametrize("beta", [2.5, 3.5, 5.0])
@pytest.mark.parametrize(("fwhm", "size"), [(4.0, 31), (6.5, 37), (10.0, 53), (10.0, 31)])
def test_light_outside_of_a_stamp_is_told_from_what_is_inside(beta, fwhm, size):
    whole = moffat(fwhm, beta, 601)
    inside = resized(whole, size)
    # Beyond 600 pixels a beta of 2.5 has 2e-4 of the light.
    missing = 1 - inside.sum() / whole.sum()
    assert psf_stamp.missing_light(inside / inside.sum()) == pytest.approx(missing, rel=0.15, abs=5e-4)


@pytest.mark.parametrize(
    ("fwhm", "beta", "given", "wanted"),
    [(4.0, 3.5, None, 31), (10.0, 3.5, None, 59), (10.0, 5.0, None, 51), (10.0, 2.5, None, 75), (10.0, 3.5, 49, 49)],
)
def test_stamps_hold_the_light_of_the_psf_where_no_size_is_given(monkeypatch, fwhm, beta, given, wanted):
    """The fit itself is that of `psf_model`: here it gives the true PSF on stamps of the size asked for."""

    def true_psf(image, x, y, size, order):
        stamp = moffat(fwhm, beta, size)
        return constant_psf(stamp / stamp.sum(), image.shape), np.ones(len(x), bool), 1.0

    monkeypatch.setattr(psf_stamp.psf_model, "fit", true_psf)
    psf, used, chi2 = psf_stamp.fit(exposure(np.zeros((100, 100))), np.ones(5), np.ones(5), fwhm, given, 2)
    assert psf.size == wanted and used.all() and chi2 == 1.0
    missing = psf_stamp.missing_light(psf.centre())
    assert (missing <= psf_stamp.MISSING_LIGHT) == (wanted not in (given, psf_stamp.LARGEST))


def test_a_size_that_misses_light_is_refused():
    """Stars of the field have 4 % of their light outside of 11 pixels."""
    field = starfield.make(size=256, spacing=42, log_flux=(4.0, 5.0), varying=False)
    image = exposure(field.image - starfield.SKY - starfield.BIAS, starfield.SKY / starfield.GAIN)
    with pytest.raises(
        BadData, match=r"[2-5]\.\d% of the light .* outside of PSF stamps of 11 pixels.*calexp\.psf_size"
    ):
        psf_stamp.fit(image, field.x, field.y, starfield.FWHM, 11, 0)
    assert psf_stamp.fit(image, field.x, field.y, starfield.FWHM, 21, 0)[0].size == 21


def test_the_stamps_of_the_starfield_stay_as_they_were():
    t = starfield.moffat(0.0, 0.0, starfield.FWHM, size=31)[0]
    assert psf_stamp.missing_light(t) < psf_stamp.MISSING_LIGHT
