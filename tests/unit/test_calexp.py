"""Calibration of one detector: fluxes, positions, zero point and status, with and without references."""

import importlib.util
import re
from dataclasses import replace

import numpy as np
import pytest
import starfield
from astropy.io import fits
from builders import constant_psf, gaussian
from scipy.spatial import cKDTree

from diaflow.calibrate import calexp, psf_check, psf_stamp
from diaflow.errors import BadData, Kind
from diaflow.instruments.images import Pixels
from diaflow.measure import photometry, sources
from diaflow.refcat import store
from diaflow.run import config
from diaflow.store import tables

SIZE = 768
CONFIG = config.validated({"images": "simulated"})["calexp"]
SCALE = 10 ** (0.4 * (31.4 - starfield.ZERO_POINT))  # nJy per DN


@pytest.fixture(scope="module")
def field():
    return starfield.make(size=SIZE, spacing=44, log_flux=(2.8, 5.3))


def calibrate(field, reference=None, first_visit=None, seed=None, **row):
    image = field.image if seed is None else starfield.observed(field.noiseless + starfield.SKY, seed)
    header = starfield.wcs(len(image), offset=0.003).to_header()
    return calexp.calibrate(Pixels(image, header), starfield.row(len(image), **row), reference, CONFIG, first_visit)


@pytest.fixture(scope="module")
def calibrated(field):
    return calibrate(field, starfield.refcat(field))


def matched(table, field, snr=(0, np.inf)):
    """Unflagged sources of the field with the index of their star."""
    distance, star = cKDTree(np.column_stack([field.x, field.y])).query(np.column_stack([table["x"], table["y"]]))
    measured = table["psfFlux"] / table["psfFluxErr"]
    good = (distance < 1.5) & sources.unflagged(table) & (measured > snr[0]) & (measured < snr[1])
    return table[good], star[good]


def test_zero_point_error_includes_what_the_reference_stars_share(field, calibrated):
    reference = starfield.refcat(field)
    reference["mag_common_err"] = 0.004
    alone, tied = calibrated[2]["zero_point_err"][0], calibrate(field, reference)[2]["zero_point_err"][0]
    assert tied == pytest.approx(np.hypot(alone, 0.004), rel=1e-4)


def test_summary_tells_what_was_done(calibrated):
    exposure, table, summary = calibrated
    assert len(summary) == 1
    row = summary[0]
    assert (row["status"], row["astrometry"], row["photometry"]) == ("ok", "refcat", "refcat")
    assert row["n_sources"] == len(table) and row["n_psf_stars"] == table["psfStar"].sum() > 60
    assert row["sky"] == pytest.approx(starfield.SKY, abs=0.3)
    # The smallest pixel noise of the image is its sky noise.
    noise = np.sqrt(starfield.SKY / starfield.GAIN + (starfield.READ_NOISE / starfield.GAIN) ** 2) * SCALE
    assert row["sky_rms"] == pytest.approx(noise, rel=0.02)
    assert row["seeing"] == pytest.approx(row["psf_fwhm"] * starfield.PIXEL_SCALE, rel=1e-3)
    # The pixels broaden a FWHM of 3.5 by 1.8 %; the Gaussian of the same adaptive size is 1.10 times as broad.
    assert row["psf_fwhm"] == pytest.approx(1.018 * starfield.FWHM, rel=0.015)
    assert row["psf_sigma"] == pytest.approx(1.10 * row["psf_fwhm"] / 2.3548, rel=0.015)
    assert (row["psf_stamp_size"], row["psf_missing_light"]) == (31, pytest.approx(5e-4, abs=5e-4))
    assert row["psf_flux_ratio"] == pytest.approx(1, abs=0.01) and row["psf_chi2"] < 2
    assert exposure.metadata["zero_point"] == pytest.approx(row["zero_point"])
    assert exposure.metadata["gain"] * SCALE == pytest.approx(starfield.GAIN, rel=0.01)
    assert {"visit", "detector", "band", "mjd", "exptime", "psf_fwhm", "aperture_correction"} <= set(exposure.metadata)


def test_a_psf_that_does_not_fit_its_stars_is_refused_with_the_figures(field, monkeypatch):
    fit = psf_stamp.fit

    def too_broad(exposure, *arguments):
        psf, used, chi2 = fit(exposure, *arguments)
        return psf.convolved(constant_psf(gaussian(1.5, 21), exposure.shape)), used, chi2

    monkeypatch.setattr(psf_stamp, "fit", too_broad)
    with pytest.raises(
        BadData, match=r"the PSF, \d.\d\d pixel FWHM, does not fit its own stars: .* is 0.\d\d of .* chi2"
    ):
        calibrate(field)


def test_reserved_stars_are_no_psf_stars_and_agree_with_the_model(calibrated):
    _, table, summary = calibrated
    row = summary[0]
    assert not (table["psfStar"] & table["psfReserved"]).any()
    n = row["n_reserved_stars"]
    assert 40 < 4 * n < 1.5 * row["n_psf_stars"]
    # stars of S/N 100 on the average: 2 / 100 / sqrt(n) each, three of those
    error = 3 * 0.02 / np.sqrt(n)
    assert abs(row["psf_size_residual"]) < error < 0.02
    assert abs(row["psf_e1_residual"]) < error and abs(row["psf_e2_residual"]) < error


def test_a_wrong_psf_shows_in_the_reserved_stars(calibrated):
    exposure, table, summary = calibrated
    broader = exposure.psf.convolved(constant_psf(gaussian(0.5, 21), exposure.shape))
    judged = summary.copy()
    psf_check.judge(replace(exposure, psf=broader), table[table["psfReserved"]], judged)
    size = 2 * (starfield.FWHM / 2.355) ** 2
    # the model is larger by twice 0.25 pixel**2, about as much for a Moffat profile
    assert judged["psf_size_residual"][0] == pytest.approx(-0.5 / size, rel=0.3)


def test_depth_is_where_the_error_is_a_fifth_of_the_flux(calibrated):
    table, summary = calibrated[1:]
    faint = table["psfFlux"] < 20 * table["psfFluxErr"]
    depth = 31.4 - 2.5 * np.log10(5 * np.median(table["psfFluxErr"][faint]))
    assert summary["depth"][0] == pytest.approx(depth, abs=0.1)


def test_zero_point_and_bright_fluxes_are_right(calibrated, field):
    _, table, summary = calibrated
    # Total flux lies in the aperture but for the outermost wings: Moffat 3.5 has 0.1 % outside 12 pixels.
    assert summary["zero_point"][0] == pytest.approx(starfield.ZERO_POINT, abs=0.005)
    bright, star = matched(table, field, snr=(200, np.inf))
    for name in ("psfFlux", "apFlux"):
        ratio = bright[name] / (field.flux[star] * SCALE)
        assert np.median(ratio) == pytest.approx(1, abs=0.004) and starfield.robust(ratio)[1] < 0.008


def test_psf_flux_on_the_calibrated_pixels_needs_no_correction(calibrated, field):
    exposure, table, _ = calibrated
    bright, star = matched(table, field, snr=(200, np.inf))
    good = ~exposure.flagged(*photometry.UNUSABLE)
    fit = photometry.psf_flux(exposure.image, exposure.variance, good, exposure.psf, bright["x"], bright["y"])
    np.testing.assert_allclose(fit.flux, bright["psfFlux"], rtol=1e-4)
    np.testing.assert_allclose(fit.err, bright["psfFluxErr"], rtol=1e-3)


@pytest.mark.slow
def test_flux_and_position_errors_pass_the_pull_test(field, calibrated):
    """At the true positions, over several noise realisations, for stars too faint to feel errors of the PSF."""
    pulls, position_pulls = [], []
    for seed in range(11, 15):
        exposure, table, _ = calibrate(field, starfield.refcat(field), seed=seed)
        good = ~exposure.flagged(*photometry.UNUSABLE)
        fit = photometry.psf_flux(exposure.image, exposure.variance, good, exposure.psf, field.x, field.y)
        faint = np.isfinite(fit.flux) & (field.flux * SCALE < 50 * fit.err)
        pulls.append(((fit.flux - field.flux * SCALE) / fit.err)[faint])
        found, star = matched(table, field, snr=(15, 60))
        position_pulls.append((found["x"] - field.x[star]) / found["xErr"])
    pulls, position_pulls = np.concatenate(pulls), np.concatenate(position_pulls)
    # A median of n normal values scatters by 1.25 / sqrt(n), a MAD width by 1.17 / sqrt(n).
    n = len(pulls)
    middle, width = starfield.robust(pulls)
    assert n > 400
    assert abs(middle) < 0.05 + 2.5 / np.sqrt(n) and abs(width - 1) < 0.05 + 2.3 / np.sqrt(n)
    middle, width = starfield.robust(position_pulls)
    assert abs(middle) < 0.25 and abs(width - 1) < 0.2


def test_a_vignetted_detector_is_flattened_by_the_zero_point(field):
    """20 % less light at one side, as an illumination that the flat field did not know."""
    u = 2 * np.arange(SIZE) / (SIZE - 1) - 1
    throughput = 1 - 0.1 * (1 + u)
    image = starfield.observed(field.noiseless * throughput + starfield.SKY, 21)
    pixels = Pixels(image, starfield.wcs(SIZE, offset=0.003).to_header())
    scatter = {}
    for order in (0, 2):
        settings = CONFIG | {"zero_point_order": order}
        exposure, table, summary = calexp.calibrate(pixels, field.row, starfield.refcat(field), settings)
        bright, star = matched(table, field, snr=(200, np.inf))
        for name in ("psfFlux", "apFlux"):
            scatter[order, name] = np.std(bright[name] / (field.flux[star] * SCALE))
    assert scatter[0, "psfFlux"] > 0.05
    # 250 stars of 10 mmag tell six terms to 1.5 mmag; the stars themselves scatter by less than 0.8 %
    assert scatter[2, "psfFlux"] < 0.01 and scatter[2, "apFlux"] < 0.01
    good = ~exposure.flagged(*photometry.UNUSABLE)
    fit = photometry.psf_flux(exposure.image, exposure.variance, good, exposure.psf, bright["x"], bright["y"])
    np.testing.assert_allclose(fit.flux, bright["psfFlux"], rtol=2e-3)


def test_wcs_is_corrected_to_the_reference(calibrated, field):
    exposure, table, summary = calibrated
    bright, star = matched(table, field, snr=(200, np.inf))
    ra, dec = starfield.wcs(SIZE).all_pix2world(field.x[star], field.y[star], 0)
    separation = np.hypot((bright["ra"] - ra) * np.cos(np.deg2rad(dec)), bright["dec"] - dec) * 3600
    # The header was wrong by 10.8 arcsec; centroids of these stars have 0.01 pixel.
    assert np.median(separation) < 0.01
    assert summary["astrom_scatter"][0] < 0.03
    bright_error = np.median(bright["raErr"] / bright["xErr"]) * 3600
    assert bright_error == pytest.approx(starfield.PIXEL_SCALE, rel=0.01)
    lower_left = starfield.wcs(SIZE).all_pix2world(-0.5, -0.5, 0)
    np.testing.assert_allclose([summary["ra_1"][0], summary["dec_1"][0]], lower_left, atol=0.1 / 3600)


def test_stars_are_point_like_and_galaxies_extended(field):
    rng = np.random.default_rng(8)
    x, y = rng.uniform(20, SIZE - 20, (2, 40))
    x[:], y[:] = np.round(x / 44) * 44, np.round(y / 44) * 44  # between the stars
    galaxies = starfield.painted((SIZE, SIZE), x, y, np.full(40, 2e4), 7.0)
    image = starfield.observed(field.noiseless + galaxies + starfield.SKY, 21)
    header = starfield.wcs(SIZE).to_header()
    table = calexp.calibrate(Pixels(image, header), starfield.row(SIZE), starfield.refcat(field), CONFIG)[1]
    bright, _ = matched(table, field, snr=(30, np.inf))
    assert np.mean(bright["extendedness"] == 0) > 0.98
    to_galaxy = cKDTree(np.column_stack([x, y])).query(np.column_stack([table["x"], table["y"]]))[0]
    assert np.mean(table["extendedness"][to_galaxy < 2] == 1) > 0.95
    assert not table["psfStar"][to_galaxy < 2].any()


def test_flags_follow_the_mask(field):
    image = field.image.copy()
    i = int(np.argmin(np.hypot(field.x - 384, field.y - 384)))
    x, y = round(field.x[i]), round(field.y[i])
    image[y - 2 : y + 3, x - 2 : x + 3] = starfield.SATURATION + 10
    header = starfield.wcs(SIZE).to_header()
    exposure, table, _ = calexp.calibrate(Pixels(image, header), starfield.row(SIZE), starfield.refcat(field), CONFIG)
    hit = table[np.hypot(table["x"] - x, table["y"] - y) < 5]
    assert len(hit) and hit["pixelFlags_saturatedCenter"].any() and hit["pixelFlags_interpolated"].any()
    at_edge = (table["x"] < 4) | (table["y"] < 4)
    assert table["pixelFlags_edge"][at_edge].all()
    inner = np.min([table["x"], table["y"], SIZE - table["x"], SIZE - table["y"]], axis=0) > 60
    assert not table["pixelFlags_edge"][inner].any() and table["pixelFlags_saturated"][inner].sum() <= len(hit)
    centres = exposure.flagged("DETECTED")[np.rint(table["y"]).astype(int), np.rint(table["x"]).astype(int)]
    assert centres.mean() > 0.99


def test_every_flaw_of_a_detector_is_interpolated_and_flagged_in_the_sources(field):
    """A dead column, a bleed trail, a cosmic ray and a vignetted corner, each on stars of its own."""
    t = np.arange(SIZE)
    light = np.where(np.hypot(t - 0.0, t[:, None]) > 130, 1.0, 0.0)
    image = starfield.observed((field.noiseless + starfield.SKY) * light, 21)
    inner = np.flatnonzero((field.flux > 5e4) & (np.abs(field.x - SIZE / 2) < 200) & (np.abs(field.y - SIZE / 2) < 200))
    dead, bleeding, hit = inner[np.argsort(field.x[inner])[[0, len(inner) // 2, -1]]]
    x, y = np.rint(field.x).astype(int), np.rint(field.y).astype(int)
    image[:, x[dead]] = 0
    image[y[bleeding] - 40 : y[bleeding] + 41, x[bleeding]] = starfield.SATURATION + 10
    image[y[hit] + 4, x[hit] - 3 : x[hit] + 4] += 3000
    pixels = Pixels(image, starfield.wcs(SIZE).to_header())
    exposure, table, _ = calexp.calibrate(pixels, starfield.row(SIZE), starfield.refcat(field), CONFIG)

    flawed = exposure.flagged("BAD", "SAT", "CR")
    np.testing.assert_array_equal(exposure.flagged("INTRP"), flawed)
    assert exposure.flagged("BAD")[:, x[dead]].all() and exposure.flagged("BAD")[light == 0].all()
    assert exposure.flagged("SAT")[y[bleeding] - 40 : y[bleeding] + 41, x[bleeding] - 1 : x[bleeding] + 2].all()
    assert exposure.flagged("CR")[y[hit] + 4, x[hit] - 2 : x[hit] + 3].all()
    # Interpolated pixels hold the sky, or the star at their rim; dead and saturated ones were hundreds of sigma off.
    assert np.median(np.abs(exposure.image[flawed]) / np.sqrt(exposure.variance[flawed])) < 3

    def flags(star):
        nearest = np.argmin(np.hypot(table["x"] - field.x[star], table["y"] - field.y[star]))
        return {
            name.removeprefix("pixelFlags_")
            for name in table.dtype.names
            if name.startswith("pixelFlags") and table[name][nearest]
        }

    assert flags(dead) == {"bad", "interpolated", "interpolatedCenter"}
    assert flags(bleeding) == {"saturated", "saturatedCenter", "interpolated", "interpolatedCenter"}
    assert flags(hit) == {"cr", "interpolated"}
    far = np.hypot(table["x"], table["y"]) > 165
    clear = far & (np.abs(table["x"] - x[dead]) > 20) & (np.abs(table["x"] - x[bleeding]) > 20)
    clear &= np.hypot(table["x"] - x[hit], table["y"] - y[hit]) > 20
    clear &= np.min([table["x"], table["y"], SIZE - table["x"], SIZE - table["y"]], axis=0) > 20
    # A few noise peaks pass for cosmic rays.
    assert clear.sum() > 150 and table["pixelFlags_interpolated"][clear].mean() < 0.02
    # In the dark there is nothing; stars at its rim are flagged.
    distance = np.hypot(table["x"], table["y"])
    assert not (distance < 125).any() and table["pixelFlags_bad"][distance < 130].all()


def test_products_survive_the_disk(calibrated, tmp_path):
    exposure, table, summary = calibrated
    exposure.write(tmp_path / "calexp.fits")
    again = type(exposure).read(tmp_path / "calexp.fits")
    assert again.metadata["band"] == "r" and again.psf.order == exposure.psf.order
    tables.write("source", table, tmp_path / "source.parquet")
    tables.write("visit_summary", summary, tmp_path / "summary.parquet")
    assert len(np.unique(table["sourceId"])) == len(table)


def test_first_visit_ties_another_visit_of_its_band(calibrated, field):
    first = calibrated[1]
    _, table, summary = calibrate(field, first_visit=first, seed=31)
    assert (summary["astrometry"][0], summary["photometry"][0]) == ("relative", "relative")
    assert summary["zero_point"][0] == pytest.approx(starfield.ZERO_POINT, abs=0.006)
    mine, star = matched(table, field, snr=(200, np.inf))
    ra, _ = starfield.wcs(SIZE).all_pix2world(field.x[star], field.y[star], 0)
    assert abs(np.median(mine["ra"] - ra)) * 3600 < 0.01


def test_first_visit_of_another_band_gives_positions_only(calibrated, field):
    first = calibrated[1].copy()
    first["band"] = "g"
    summary = calibrate(field, first_visit=first, zero_point=27.0)[2]
    assert (summary["astrometry"][0], summary["photometry"][0]) == ("relative", "header")
    assert summary["zero_point"][0] == 27.0


def test_a_reference_with_two_stars_of_the_band_gives_no_zero_point_and_says_so(calibrated, field):
    first = calibrated[1].copy()
    first["band"][np.argsort(-first["psfFlux"])[2:]] = "g"
    reason = r"no zero point: of \d+ matched stars \d+ look like stars on the image and 2 are stars of its band in the"
    with pytest.raises(BadData, match=reason):
        calibrate(field, first_visit=first, zero_point=27.0)


def test_without_any_reference_counts_are_kept(field):
    exposure, table, summary = calibrate(field)
    assert (summary["astrometry"][0], summary["photometry"][0]) == ("header", "none")
    bright, star = matched(table, field, snr=(200, np.inf))
    assert np.median(bright["psfFlux"] / field.flux[star]) == pytest.approx(1, abs=0.006)


def test_unusable_images_say_why(field):
    blank = starfield.observed(np.full((256, 256), starfield.SKY), 1)
    header, row = starfield.wcs(256).to_header(), starfield.row(256)
    with pytest.raises(BadData, match="no stars for the PSF"):
        calexp.calibrate(Pixels(blank, header), row, None, CONFIG)
    with pytest.raises(BadData, match="saturated"):
        calexp.calibrate(Pixels(np.full_like(blank, 65535), header), row, None, CONFIG)


@pytest.fixture(scope="module")
def script(root):
    spec = importlib.util.spec_from_file_location("calexp_script", root / "scripts/calexp.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scattered(n, east=0.0):
    """Reference stars at random over a detector of 512 pixels and two arcminutes around it, or degrees off."""
    rng = np.random.default_rng(1)
    ra, dec = starfield.wcs(512, offset=east).all_pix2world(*rng.uniform(-240, 752, (2, n)), 0)
    return tables.from_columns("refcat", id=np.arange(n), ra=ra, dec=dec, mag=rng.uniform(15.5, 21, n), star=True)


def three_stars():
    x, y = np.array([[100.0, 300.2, 400.4], [150.0, 350.3, 90.8]])
    return starfield.painted((512, 512), x, y, np.full(3, 1e5), starfield.FWHM)


def only_galaxies():
    rng = np.random.default_rng(2)
    x, y = rng.uniform(20, 492, (2, 80))
    flux, fwhm, e = 10 ** rng.uniform(3.5, 5, 80), rng.uniform(5, 14, 80), rng.normal(0, 0.2, (2, 80))
    return starfield.painted((512, 512), x, y, flux, fwhm, *e)


FAILURES = {
    "catalogue of elsewhere": (
        {"reference": scattered(500, east=5.0)},
        r"no match .*\(1\d\d sources and 0 reference stars in reach\)",
    ),
    "wrong field": ({"reference": scattered(500)}, r"no match to the reference catalogue \(best \d+ of \d+ sources"),
    "wrong pixel scale": ({"scale": 1.05}, r"no match to the reference catalogue \(best \d+ of \d+ sources"),
    "three stars": ({"noiseless": three_stars()}, r"no match .*\(3 sources and \d+ reference stars in reach\)"),
    "galaxies": ({"noiseless": only_galaxies()}, r"the PSF, .* does not fit its own stars"),
    "blank sky": ({"noiseless": np.zeros((512, 512))}, "only 0 sources detected: no stars for the PSF"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", [*FAILURES, "none"])
def test_what_cannot_be_calibrated_is_a_row_with_status_and_reason(case, script, tmp_path):
    given, reason = FAILURES.get(case, ({}, ""))
    field = starfield.make(size=512, spacing=40)
    reference = given.get("reference", starfield.refcat(field))
    names = {"r_mag": "mag", "r_mag_err": "mag_err"} | {name: name for name in ("id", "ra", "dec", "star")}
    rows = tables.from_columns(store.TABLE, ["r"], **{name: reference[known] for name, known in names.items()})
    store.write([rows], ["r"], tmp_path / "refcat")
    wcs = starfield.wcs(512, offset=0.003)
    wcs.wcs.cd = wcs.wcs.cd * given.get("scale", 1.0)
    image = starfield.observed(given.get("noiseless", field.noiseless) + starfield.SKY, 9)
    fits.writeto(tmp_path / "image.fits", image, wcs.to_header())
    row = starfield.row(512, path=str(tmp_path / "image.fits"), ra=150.0, dec=2.0)
    table, summary = script.calibrate(row, "generic", None, CONFIG, tmp_path / "refcat", [], None, {7: tmp_path}, False)
    assert summary["status"][0] == ("failed" if reason else "ok")
    assert (tmp_path / "3.fits").exists() == (not reason) and (len(table) == 0) == bool(reason)
    assert re.fullmatch(reason + ".*" if reason else "", summary["reason"][0])


def test_failed_images_keep_their_place_in_the_summary():
    row = starfield.row(100, ra=10.0, dec=-5.0)
    summary = calexp.failed(row, BadData("clouds", Kind.ZERO_POINT))
    assert (summary["status"][0], summary["reason"][0], summary["visit"][0]) == ("failed", "clouds", 7)
    assert summary["kind"][0] == "zero_point"
    assert summary["ra"][0] == 10 and np.isnan(summary["zero_point"][0])


def test_same_input_gives_the_same_bytes(field, calibrated):
    exposure, table, _ = calibrate(field, starfield.refcat(field))
    for column in table.dtype.names:
        np.testing.assert_array_equal(table[column], calibrated[1][column])
    np.testing.assert_array_equal(exposure.image, calibrated[0].image)
