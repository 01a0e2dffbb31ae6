"""Pixels that trip readers: undefined, filled in, in any unit, coarse, saturated early; none decides a statistic."""

import logging

import numpy as np
import pytest
import starfield
from astropy.io import fits
from astropy.io.fits.hdu.compressed import NO_DITHER, SUBTRACTIVE_DITHER_1, SUBTRACTIVE_DITHER_2
from test_awkward_headers import image_header, write

from diaflow.calibrate import calexp
from diaflow.errors import BadData
from diaflow.image.planes import bits
from diaflow.instruments.images import Pixels, read_image, read_raw
from diaflow.instruments.ingest import ingest_images
from diaflow.isr import flaws, saturation
from diaflow.isr.assemble import assemble
from diaflow.isr.detrend import detrend
from diaflow.pixels import background
from diaflow.run.config import validated

SKY_NOISE = np.sqrt(starfield.SKY / starfield.GAIN + (starfield.READ_NOISE / starfield.GAIN) ** 2)  # [DN]
UNUSABLE = bits("BAD", "NO_DATA")


@pytest.fixture(scope="module")
def field():
    return starfield.make(size=512)


def corner(shape, part):
    """A triangle that is a part of the image."""
    y, x = np.indices(shape)
    return x + y < np.sqrt(2 * part) * shape[0]


# --- undefined pixels of any type ---

# BITPIX, BZERO, BSCALE and a BLANK that the type can hold.
STORED = [
    (8, 0, 1, 255), (8, -128, 1, 7), (16, 0, 1, -32768), (16, 32768, 1, -32768), (16, 32768, 1, -30000),
    (16, 0, 0.5, 9), (16, 5, 2, 11),
    (16, 32768, 1000, 11), (32, 0, 1, -(2**31)), (32, 2**31, 1, 77), (64, 0, 1, -1), (64, 2**63, 1, 12),
]  # fmt: skip


def with_blank(path, bitpix, zero, scale, blank, compressed):
    """A file with a block of undefined pixels, written byte by byte as FITS says; the stored numbers."""
    stored = np.random.default_rng(1).integers(20, 100, (20, 30))
    stored[3:7, 10:20] = blank
    header = fits.Header([("SIMPLE", True), ("BITPIX", bitpix), ("NAXIS", 2), ("NAXIS1", 30), ("NAXIS2", 20)])
    header.update({"BSCALE": scale, "BZERO": zero, "BLANK": blank})
    header.extend(image_header(), unique=True)
    content = stored.astype("u1" if bitpix == 8 else f">i{bitpix // 8}").tobytes()
    path.write_bytes(header.tostring().encode() + content + bytes(-len(content) % 2880))
    if compressed:
        with fits.open(path, do_not_scale_image_data=True, memmap=False) as hdus:
            hdu = fits.CompImageHDU(hdus[0].data, image_header(), compression_type="GZIP_1")
        hdu.header.update({"BSCALE": scale, "BZERO": zero, "BLANK": blank})
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
    return stored


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "tiles"])
@pytest.mark.parametrize(("bitpix", "zero", "scale", "blank"), STORED)
def test_blank_is_undefined_in_every_type_of_integer(tmp_path, bitpix, zero, scale, blank, compressed):
    stored = with_blank(tmp_path / "a.fits", bitpix, zero, scale, blank, compressed)
    image = read_image(ingest_images(str(tmp_path / "a.fits"), "generic")[0]).image
    undefined = stored == blank
    assert np.isnan(image[undefined]).all() and undefined[3:7, 10:20].all()
    expected = stored[~undefined].astype(float) * scale + zero
    np.testing.assert_allclose(image[~undefined], expected, rtol=1e-6)


def test_blank_of_a_raw_frame_is_no_measurement(tmp_path):
    stored = with_blank(tmp_path / "a.fits", 16, 32768, 1, -30000, False)
    (tmp_path / "raw.yaml").write_text(
        "columns: {visit: {key: VISIT}, detector: 0, band: r, exptime: 30, mjd: {time: fits_start}, gain: 1.5, "
        "read_noise: 4, saturation: 60000}\nraw: {}\n"
    )
    row = ingest_images(str(tmp_path / "a.fits"), str(tmp_path / "raw.yaml"))[0]
    frame = assemble(read_raw(row, str(tmp_path / "raw.yaml")), row)
    assert np.array_equal(np.isnan(frame.image), stored == -30000)


def test_a_scale_that_is_no_number_is_named(tmp_path):
    path = tmp_path / "a.fits"
    with_blank(path, 16, 5, 2, 11, False)
    path.write_bytes(
        path.read_bytes().replace(b"BSCALE  =                    2", b"BSCALE  = 'two'                 "[:30], 1)
    )
    with pytest.raises(BadData, match="BSCALE 'two' is not a number"):
        read_image(ingest_images(str(path), "generic")[0])


# --- filled regions ---


@pytest.mark.parametrize("value", [0.0, -999.0, 1e30, -1e30, 3.4e38, 777.0, np.nan, np.inf])
@pytest.mark.parametrize("part", [0.1, 0.4])
def test_what_fills_a_region_is_bad_and_decides_nothing(field, value, part):
    """Of an image without its sky, where 0 is nothing special."""
    image = field.image - starfield.BIAS - starfield.SKY
    filled = corner(image.shape, part)
    image[filled] = value
    exposure = detrend(Pixels(image), starfield.row(512, bias=0.0, saturation=np.nan))
    bad = (exposure.mask & UNUSABLE) != 0
    assert bad[filled].mean() > 0.99 and bad[~filled].mean() < 1e-3
    assert np.isfinite(exposure.image).all() and np.abs(exposure.image[filled]).max() < 1000
    # The noise of 1e5 pixels is known to 0.3 %; the sky model and faint wings add a percent.
    assert np.sqrt(np.median(exposure.variance)) == pytest.approx(SKY_NOISE, rel=0.02)


@pytest.mark.parametrize("value", [0, 300, 777])
def test_a_filled_region_of_integers_is_bad(field, value):
    image = np.rint(field.image)
    image[100:160, 200:300] = value
    exposure = detrend(Pixels(image), field.row)
    bad = (exposure.mask & bits("BAD")) != 0
    assert bad[100:160, 200:300].all() and bad.mean() < 1.05 * 6000 / image.size
    assert np.sqrt(np.median(exposure.variance)) == pytest.approx(SKY_NOISE, rel=0.01)


@pytest.mark.parametrize("value", [-999.0, -9999.0, 1e30, -1e30])
def test_single_pixels_of_no_light_are_bad(field, value):
    image = field.image.copy()
    y, x = np.random.default_rng(3).integers(0, 512, (2, 500))
    image[y, x] = value
    exposure = detrend(Pixels(image), starfield.row(512, saturation=np.nan))
    dead = (exposure.mask & bits("BAD")) != 0
    assert dead[y, x].all() and dead.sum() <= len(x) and np.isfinite(exposure.variance).all()
    assert np.sqrt(np.median(exposure.variance)) == pytest.approx(SKY_NOISE, rel=0.02)


@pytest.mark.parametrize("value", [0.0, -999.0, 1e30])
def test_what_fills_an_image_that_has_its_variance_is_bad_too(field, value):
    image = field.image - starfield.BIAS - starfield.SKY
    variance = np.full_like(image, SKY_NOISE**2)
    image[200:300, 100:200] = value
    variance[10, 10:20] = 1e30
    exposure = detrend(Pixels(image, variance=variance), field.row)
    bad = (exposure.mask & UNUSABLE) != 0
    assert bad[200:300, 100:200].all() and bad[10, 10:20].all() and bad.mean() < 1.01 * 10010 / image.size
    assert exposure.variance.max() < 1e3


@pytest.mark.parametrize("scatter", [0.3, 0.5, 0.7, 1.0, 3.0, 16.0])
@pytest.mark.parametrize("seed", range(5))
def test_noise_of_integers_makes_no_filled_region(scatter, seed):
    """Chance is below 1e-3 for each image; here are thirty."""
    counts = np.rint(np.random.default_rng(seed).normal(100.2, scatter, (600, 500)))
    assert not flaws.constant(counts, np.zeros(counts.shape, bool)).any()


def test_small_filled_regions_are_seen_beside_large_ones():
    counts = np.random.default_rng(1).normal(0, 10, (600, 600)).astype(np.float32)
    counts[:300], counts[400:404, 100:110] = 0, 5
    found = flaws.constant(counts, np.zeros(counts.shape, bool))
    assert found[:300].all() and found[400:404, 100:110].all() and found.sum() == 300 * 600 + 40


@pytest.mark.parametrize("dither", [NO_DITHER, SUBTRACTIVE_DITHER_1, SUBTRACTIVE_DITHER_2])
def test_filled_regions_are_seen_through_a_lossy_compression(tmp_path, dither):
    """It rounds pixels by steps of each row's noise, so that those that were equal are so no more."""
    image = np.random.default_rng(1).normal(1200, 10, (300, 320)).astype(np.float32)
    filled = np.zeros(image.shape, bool)
    filled[40:130, 60:160], filled[:, 200:204] = True, True
    image[filled] = 1234
    fits.CompImageHDU(image, image_header(), quantize_method=dither).writeto(tmp_path / "lossy.fits.fz")
    row = ingest_images([str(tmp_path / "lossy.fits.fz")], "generic")[0]
    pixels = read_image(row)
    assert np.ptp(pixels.image[40:130, 60:160]) > 0
    bad = (detrend(pixels, row).mask & UNUSABLE) != 0
    assert bad[filled].all() and not bad[~filled].any()


@pytest.mark.parametrize(
    ("pedestal", "bias", "right"), [(0, 1e6, True), (0, 2**31, False), (2**31, 0, False), (1e5, 1e5, True)]
)
def test_counts_that_single_precision_cannot_hold_are_refused(field, pedestal, bias, right):
    """A bias of 2 billion DN, or counts on such a pedestal, would leave steps of 128 DN for noise."""
    row = field.row.copy()
    row["bias"] += bias
    row["saturation"] += pedestal
    image = (field.image + pedestal).astype(np.float32)
    if right:
        noise = np.sqrt(np.median(detrend(Pixels(image), row).variance))
        assert noise == pytest.approx(SKY_NOISE, rel=0.1)
    else:
        with pytest.raises(BadData, match="too far from 0 for their noise|too coarse"):
            detrend(Pixels(image), row)


# --- units ---


@pytest.fixture(scope="module")
def calibrated(field):
    """Zero point and noise [nJy] of the field in DN."""
    return calibrate(Pixels(field.image), starfield.row(512, gain=np.nan, read_noise=np.nan, saturation=np.nan), field)


def calibrate(pixels, row, field):
    pixels = Pixels(pixels.image, starfield.wcs(512).to_header(), pixels.variance, pixels.mask, pixels.unit)
    config = validated({"images": "x"})["calexp"]
    exposure, sources, summary = calexp.calibrate(pixels, row, starfield.refcat(field), config)
    return summary[0], np.sqrt(np.median(exposure.variance)), len(sources)


@pytest.mark.parametrize("power", [-30, -20, -18, -8, 8, 20, 25])
def test_any_unit_gives_the_same_fluxes(tmp_path, field, calibrated, power):
    """Numbers whose squares single precision cannot hold are scaled when they are read, and everything with them."""
    unit = 10.0**power
    data = (field.image.astype(float) * unit).astype(np.float32 if abs(power) < 30 else np.float64)
    header = starfield.wcs(512).to_header()
    header.update({key: value for key, value in image_header().items() if key not in header and "NAXIS" not in key})
    row = ingest_images(
        write(tmp_path / "a.fits", header, data),
        "generic",
        {"gain": starfield.GAIN / unit, "read_noise": starfield.READ_NOISE, "bias": starfield.BIAS * unit},
    )[0]
    row["saturation"] = 6e4 * unit
    pixels = read_image(row)
    summary, noise, n_sources = calibrate(pixels, row, field)
    expected, expected_noise, expected_sources = calibrated
    assert summary["zero_point"] == pytest.approx(expected["zero_point"] + 2.5 * power, abs=0.002)
    assert noise == pytest.approx(expected_noise, rel=0.02)
    assert n_sources == pytest.approx(expected_sources, abs=2)
    assert summary["sky"] == pytest.approx(expected["sky"] * unit, rel=1e-3)
    assert summary["saturation"] == pytest.approx(6e4 * unit, rel=1e-5)


def test_a_variance_is_in_the_unit_of_its_image(tmp_path, field):
    unit = 1e-22
    header = starfield.wcs(512).to_header()
    header.update({key: value for key, value in image_header().items() if key not in header and "NAXIS" not in key})
    hdus = [
        fits.PrimaryHDU(field.image.astype(float) * unit, header),
        fits.ImageHDU(np.full(field.image.shape, (SKY_NOISE * unit) ** 2), name="VAR"),
    ]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    columns = (
        "columns: {visit: {key: VISIT}, detector: 0, band: r, exptime: 30, mjd: {time: fits_start}, gain: null, "
        "read_noise: null, saturation: null}\n"
    )
    (tmp_path / "own.yaml").write_text(columns + "variance: {hdu: VAR}\n")
    row = ingest_images(str(tmp_path / "a.fits"), str(tmp_path / "own.yaml"))[0]
    pixels = read_image(row, str(tmp_path / "own.yaml"))
    assert np.sqrt(pixels.variance[0, 0]) * pixels.unit == pytest.approx(SKY_NOISE * unit, rel=1e-6)
    ratio = pixels.image / (field.image.astype(float) * unit)
    np.testing.assert_allclose(ratio, 1 / pixels.unit, rtol=1e-6)


# --- coarse counts ---


@pytest.mark.parametrize(
    ("sky", "read_noise", "gain"),
    [(20, 3.0, 4.0), (10, 3.0, 5.0), (5, 1.5, 4.0), (60, 6.0, 16.0), (8, 4.0, 10.0), (400, 6.0, 20.0), (3, 2.0, 2.0)],
)
@pytest.mark.parametrize("known", [True, False], ids=["header", "unknown gain"])
def test_noise_of_coarse_counts_is_right(sky, read_noise, gain, known):
    rng = np.random.default_rng(4)
    noiseless = starfield.make(size=512).noiseless
    electrons = rng.poisson(noiseless + sky) + rng.normal(0, read_noise, noiseless.shape)
    image = np.rint(electrons / gain + 100).astype(np.float32)
    values = {"gain": gain, "read_noise": read_noise} if known else {"gain": np.nan, "read_noise": np.nan}
    exposure = detrend(Pixels(image), starfield.row(512, bias=100.0, **values))
    expected = np.sqrt((sky + read_noise**2) / gain**2 + 1 / 12)
    # Faint wings of stars in what is taken for sky add some percent to a scatter that clips at 5 sigma.
    assert np.sqrt(np.median(exposure.variance)) == pytest.approx(expected, rel=0.03 if known else 0.08)
    assert (exposure.metadata["noise_model"] == "header") == known


@pytest.mark.parametrize("step", [4.0, 8.297535, 15.0, 24.928544, 34.0])  # [DN], of noise of 14.5
@pytest.mark.parametrize("phase", [0.0, 0.5])
def test_sky_of_coarse_counts_is_right_however_it_lies_between_two_of_them(step, phase):
    """Rounding leaves the mean of noise of 0.43 steps up to 0.01 of them off, and a cell knows it to 0.004."""
    field = starfield.make(size=256, spacing=42, log_flux=(3.3, 5.0), varying=False)
    image = np.rint(field.image.astype(float) / step + phase).astype(np.float32)
    row = starfield.row(256, bias=starfield.BIAS / step + phase, gain=starfield.GAIN * step)
    exposure = detrend(Pixels(image), row)
    variance = starfield.SKY / starfield.GAIN + (starfield.READ_NOISE / starfield.GAIN) ** 2 + step**2 / 12
    assert np.sqrt(np.median(exposure.variance)) * step == pytest.approx(np.sqrt(variance), rel=0.03)
    sky = background.subtract(exposure, 128)
    assert np.median(sky) == pytest.approx(starfield.SKY / step, abs=0.04)


@pytest.mark.parametrize("noise", [0.2, 0.28])
def test_counts_too_coarse_for_their_sky_are_refused(noise):
    image = np.rint(np.random.default_rng(2).normal(50.3, noise, (256, 256))).astype(np.float32)
    with pytest.raises(BadData, match=r"too coarse: the sky scatters by 0\.\d+ of their step of 1 DN"):
        detrend(Pixels(image), starfield.row(256, bias=0.0, gain=4.0, read_noise=0.0))


def test_noise_of_a_small_crowded_image_is_that_between_its_stars():
    """Stars cover half of it, and a ninth of its pixels are too few to measure the rest: a half to 4 %."""
    field = starfield.make(size=150, spacing=25, log_flux=(3.5, 5.0), varying=False)
    exposure = detrend(Pixels(field.image.astype(np.float32)), starfield.row(150, gain=np.nan, read_noise=np.nan))
    variance = starfield.SKY / starfield.GAIN + (starfield.READ_NOISE / starfield.GAIN) ** 2
    assert np.sqrt(np.median(exposure.variance)) == pytest.approx(np.sqrt(variance), rel=0.04)


# --- saturation below that of the header ---


def full(image, level, wells=0.0, seed=5):
    """Counts that stop at a level, which scatters from well to well."""
    limit = level * (1 + wells * np.random.default_rng(seed).normal(size=image.shape))
    return np.minimum(image, limit).astype(np.float32)


@pytest.mark.parametrize("wells", [0.0, 0.002, 0.02])
@pytest.mark.parametrize("header", [60000.0, np.nan])
def test_a_plateau_below_the_saturation_of_the_header_is_used(caplog, wells, header):
    field = starfield.make(size=512, log_flux=(3.0, 6.2))
    image = full(field.image, 20000.0, wells)
    with caplog.at_level(logging.INFO):
        exposure = detrend(Pixels(image), starfield.row(512, saturation=header))
    assert 0.88 * 20000 < exposure.metadata["saturation"] <= 20000 and "stars share that peak" in caplog.text
    lost = field.image > 20000 * (1 + 3 * wells)
    assert lost.sum() > 100 and ((exposure.mask[lost] & bits("SAT")) != 0).all()
    # Besides those only their neighbours, and where wells differ those within 10 %.
    assert ((exposure.mask & bits("SAT")) != 0).sum() < 6 * (field.image > 18000).sum()


def test_one_bright_star_shows_a_sharp_plateau():
    image = starfield.painted((300, 300), np.array([150.2]), np.array([149.7]), np.array([1e6]), 3.5)
    counts = full(starfield.observed(image + starfield.SKY, 6), 15000.0)
    assert saturation.plateau(counts, np.zeros(counts.shape, bool)) == pytest.approx(15000, rel=1e-4)


@pytest.mark.parametrize("fwhm", [1.8, 3.5, 8.0, 15.0])
@pytest.mark.parametrize("log_flux", [(3.0, 5.3), (5.0, 5.0), (4.0, 6.0)])
def test_stars_that_are_not_saturated_show_no_plateau(fwhm, log_flux):
    """Nor do stars of one brightness, whose peaks differ by where in a pixel they are."""
    field = starfield.make(size=512, log_flux=log_flux, varying=False, fwhm=fwhm, seed=7)
    assert np.isinf(saturation.plateau(field.image, np.zeros(field.image.shape, bool)))


def test_filled_rectangles_are_no_saturated_stars(field):
    image = field.image.copy()
    for x in (50, 200, 350):
        image[100:110, x : x + 20] = 50000
    exposure = detrend(Pixels(image), field.row)
    filled = exposure.mask[100:110, 50:70]
    assert ((filled & bits("BAD")) != 0).all() and exposure.metadata["saturation"] == 60000
