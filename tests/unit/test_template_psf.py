"""The smooth PSF field of a template, and what stars leave where its PSF is another because an input ends."""

import numpy as np
import pytest
from builders import constant_psf, gaussian, tan_wcs

from diaflow.errors import BadData
from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.psf.stampfield import moments_sigma
from diaflow.subtract.template_psf import TemplatePsf

SHAPE = (300, 300)


def coadd_psf(extent, first=0):
    """A sharp input everywhere from `first` on and a broad one for x up to `extent`."""
    wcs = tan_wcs(SHAPE)
    rows = [
        PsfInput(1, 0, 1.0, constant_psf(gaussian(1.6), SHAPE), wcs, (first, 0, 299, 299)),
        PsfInput(2, 0, 1.0, constant_psf(gaussian(2.4), SHAPE), wcs, (first, 0, extent, 299)),
    ]
    return CoaddPsf(rows, wcs)


def mixed():
    """The PSF where both inputs are."""
    return coadd_psf(299)(150, 150)[0]


@pytest.mark.parametrize("extra", [0.0, 1.5])
def test_jumps_are_where_an_input_ends_and_of_the_flux_a_star_leaves(extra):
    """Matched by a Gaussian of `extra` pixels: a star of the sharp input, less one of the mixture, in a PSF fit."""
    wider = gaussian(extra, 31) if extra else np.eye(31)[15][:, None] * np.eye(31)[15]
    kernel = constant_psf(wider, SHAPE)
    seen, sharp = (constant_psf(psf, SHAPE).convolved(kernel).centre() for psf in (mixed(), gaussian(1.6)))
    found = TemplatePsf.of(coadd_psf(250), SHAPE)
    jumps = found.jumps(seen)
    assert jumps[:, :24].max() < 1e-3
    expected = (sharp * seen).sum() / (seen**2).sum() - 1
    assert jumps[:, 26:] == pytest.approx(expected, rel=0.05)
    assert expected > 0.05


def test_the_field_is_the_psf_of_most_of_the_image():
    """The strip of another PSF, a sixth of the image, does not change it; a polynomial through all would."""
    found = TemplatePsf.of(coadd_psf(250), SHAPE)
    for x in (20, 150, 230, 280):
        assert moments_sigma(found.field(x, 150)[0]) == pytest.approx(moments_sigma(mixed()), rel=1e-3)
    assert found.field(20, 150).sum() == pytest.approx(1)


def test_where_there_is_no_psf_the_largest_jump_counts():
    jumps = TemplatePsf.of(coadd_psf(250, first=50), SHAPE).jumps(mixed())
    assert jumps[:, :4] == pytest.approx(jumps.max())
    with pytest.raises(BadData, match="defined nowhere"):
        TemplatePsf.of(coadd_psf(350, first=400), SHAPE)
    with pytest.raises(BadData, match="no PSF"):
        TemplatePsf.of(None, SHAPE)


def test_a_smooth_psf_has_no_jumps():
    plain = constant_psf(gaussian(2.0), SHAPE)
    found = TemplatePsf.of(plain, SHAPE)
    assert found.field is plain and found.jumps(gaussian(2.0)).max() == 0
    assert TemplatePsf.of(coadd_psf(299), SHAPE).jumps(gaussian(2.0)).max() < 1e-3
