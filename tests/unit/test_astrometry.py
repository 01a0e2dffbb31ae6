"""Astrometry: pointing errors recovered, false solutions refused, distortion fitted to the last milliarcsecond."""

import numpy as np
import pytest
from astropy.io import fits
from builders import cubic, tan_wcs
from hypothesis import given, settings
from hypothesis import strategies as st

from diaflow.calibrate import astrometry, photocal
from diaflow.errors import BadData
from diaflow.refcat import store
from diaflow.refcat.convert import convert
from diaflow.run.config import validated
from diaflow.sky.wcs import read_wcs
from diaflow.store import tables

SHAPE, SCALE = (4096, 4096), 0.2  # a large detector: SIP, crowding
SMALL, COARSE = (1024, 1024), 0.5


def sky_wcs(shape=SMALL, scale=COARSE, centre=(150.0, 30.0), corner=0.0):
    """A TAN WCS, or a TAN-SIP one whose radial cubic distortion moves the corners by `corner` pixels."""
    sip = cubic(corner / (np.hypot(*shape) / 2) ** 3) if corner else None
    return tan_wcs(shape, scale, centre=centre, sip=sip)


def mispointed(wcs, offset, rotation, scale=1.0):
    """The WCS a telescope would report: shifted [arcsec], rotated [deg] and without distortion."""
    header = wcs.deepcopy()
    header.sip, header.wcs.ctype = None, ["RA---TAN", "DEC--TAN"]
    angle = np.deg2rad(rotation)
    header.wcs.cd = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ wcs.wcs.cd
    header.wcs.crval = astrometry.from_plane(np.array(offset) / 3600, wcs.wcs.crval)
    header.wcs.set()
    return header


def sky(rng, wcs, shape, n_stars, scale, missing=0.3, spurious=0.3):
    """Sources x, y, flux and their star (-1: none), and a refcat whose id is the star; centroids err by 0.1 pixel."""
    ny, nx = shape
    margin = 130 / scale
    n_all = int(n_stars * (nx + 2 * margin) * (ny + 2 * margin) / (nx * ny))
    x, y = rng.uniform(-margin, nx + margin, n_all), rng.uniform(-margin, ny + margin, n_all)
    ra, dec = wcs.all_pix2world(x, y, 0)
    mag = 22 - rng.exponential(1.5, n_all)
    star = np.flatnonzero((x > 0) & (x < nx - 1) & (y > 0) & (y < ny - 1))
    n_false = int(len(star) * spurious / (1 - spurious))
    x = np.append(x[star] + rng.normal(0, 0.1, len(star)), rng.uniform(0, nx - 1, n_false))
    y = np.append(y[star] + rng.normal(0, 0.1, len(star)), rng.uniform(0, ny - 1, n_false))
    flux = 10 ** (-0.4 * (mag[star] + rng.normal(0, 0.1, len(star))))
    flux = np.append(flux, rng.choice(flux, n_false))
    star = np.append(star, np.full(n_false, -1))
    mixed = rng.permutation(len(x))
    known = np.flatnonzero(rng.random(n_all) > missing)
    reference = tables.from_columns("refcat", id=known, ra=ra[known], dec=dec[known], mag=mag[known], star=True)
    return x[mixed], y[mixed], flux[mixed], star[mixed], reference


def separation(wcs, other, shape):
    """Largest distance between two WCS at the centre and corners [arcsec]."""
    ny, nx = shape
    x, y = np.array([[nx / 2, 0, nx, 0, nx], [ny / 2, 0, 0, ny, ny]])
    plane = [astrometry.to_plane(*w.all_pix2world(x, y, 0), wcs.wcs.crval) for w in (wcs, other)]
    return np.hypot(*(plane[1] - plane[0]).T).max() * 3600


def check_match(x, y, flux, star, reference, wcs, header, shape, tolerance_pixels):
    i, j, found = astrometry.match(x, y, flux, header, shape, reference, 120.0, 1.0)
    assert len(np.unique(i)) == len(i) == len(np.unique(j))
    assert np.all(np.diff(i) > 0)
    common = np.isin(star, reference["id"])
    right = star[i] == reference["id"][j]
    assert right.sum() >= 0.97 * common.sum()
    # Wrong ones are accidents within 2 pixels, or a spurious source nearer than the star: a few per cent if crowded.
    assert (~right).sum() <= max(1, 0.03 * len(i))
    scale = np.sqrt(np.abs(np.linalg.det(wcs.pixel_scale_matrix))) * 3600
    assert separation(wcs, found, shape) < tolerance_pixels * scale


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    n_stars=st.sampled_from([30, 100, 1000]),
    distance=st.floats(0, 118),
    direction=st.floats(0, 2 * np.pi),
    rotation=st.floats(-1, 1),
    dec=st.sampled_from([-60.0, 0.0, 30.0, 88.0]),
)
def test_pointing_and_rotation_are_recovered(seed, n_stars, distance, direction, rotation, dec):
    wcs = sky_wcs(centre=(0.01, dec))
    header = mispointed(wcs, (distance * np.cos(direction), distance * np.sin(direction)), rotation)
    data = sky(np.random.default_rng(seed), wcs, SMALL, n_stars, COARSE)
    # 15 or more stars of 0.1 pixel: the corners of an affine fit err by 0.1 sqrt(2 * 7 / 15) = 0.1 pixel; 6 sigma.
    check_match(*data, wcs, header, SMALL, 0.6)


@pytest.mark.parametrize("seed", range(10))
def test_fifteen_reference_stars_suffice(seed):
    rng = np.random.default_rng(seed)
    wcs = sky_wcs(SHAPE, SCALE)
    x, y, flux, star, reference = sky(rng, wcs, SHAPE, 400, SCALE)
    on_detector = np.flatnonzero(np.isin(reference["id"], star))
    reference = reference[np.sort(rng.permutation(on_detector)[:15])]
    header = mispointed(wcs, rng.uniform(-80, 80, 2), rng.uniform(-1, 1))
    check_match(x, y, flux, star, reference, wcs, header, SHAPE, 0.6)


@pytest.mark.parametrize("n_stars", [100, 2000])
def test_distortion_unknown_to_the_header_does_not_lose_the_corners(n_stars):
    wcs = sky_wcs(SHAPE, SCALE, corner=5.0)
    x, y, flux, star, reference = sky(np.random.default_rng(2), wcs, SHAPE, n_stars, SCALE)
    header = mispointed(wcs, (70, -60), 0.7)
    check_match(x, y, flux, star, reference, wcs, header, SHAPE, 4.0)


def test_distortion_of_the_header_is_kept():
    wcs = sky_wcs(SHAPE, SCALE, corner=20.0)
    x, y, flux, star, reference = sky(np.random.default_rng(2), wcs, SHAPE, 300, SCALE)
    header = wcs.deepcopy()
    header.wcs.crval = wcs.wcs.crval + np.array([0.02, -0.01])
    found = astrometry.match(x, y, flux, header, SHAPE, reference, 120.0, 1.0)[2]
    np.testing.assert_array_equal(found.sip.a, wcs.sip.a)
    np.testing.assert_array_equal(found.wcs.crpix, wcs.wcs.crpix)
    assert separation(wcs, found, SHAPE) < 0.1 * SCALE


@pytest.mark.parametrize("style", ["CD", "PC", "CROTA", "mirrored"])
def test_every_way_to_write_the_linear_terms_is_corrected(style):
    rotated = np.deg2rad(40)
    header = sky_wcs().to_header()
    for key in [key for key in header if key.startswith(("PC", "CDELT"))]:
        del header[key]
    turn = np.array([[np.cos(rotated), -np.sin(rotated)], [np.sin(rotated), np.cos(rotated)]])
    if style == "CROTA":
        header.update({"CDELT1": -COARSE / 3600, "CDELT2": COARSE / 3600, "CROTA2": 40.0})
    elif style == "PC":
        matrix = {f"PC{i + 1}_{j + 1}": turn[i, j] for i in (0, 1) for j in (0, 1)}
        header.update(matrix | {"CDELT1": -COARSE / 3600, "CDELT2": COARSE / 3600})
    else:
        parity = np.array([[0, 1], [1, 0]]) if style == "mirrored" else np.diag([-1, 1])
        matrix = turn @ parity * COARSE / 3600
        header.update({f"CD{i + 1}_{j + 1}": matrix[i, j] for i in (0, 1) for j in (0, 1)})
    wcs = read_wcs(header)
    data = sky(np.random.default_rng(4), wcs, SMALL, 100, COARSE)
    header["CRVAL1"] += 90 / 3600
    header["CRVAL2"] -= 60 / 3600
    check_match(*data, wcs, read_wcs(header), SMALL, 0.2)


def test_reference_stars_without_magnitudes_are_matched():
    wcs = sky_wcs()
    data = sky(np.random.default_rng(6), wcs, SMALL, 1000, COARSE)
    data[-1]["mag"] = np.nan
    check_match(*data, wcs, mispointed(wcs, (50, 50), 0.5), SMALL, 0.2)


def test_rotation_may_be_excluded_from_the_search():
    wcs = sky_wcs()
    x, y, flux, _, reference = sky(np.random.default_rng(6), wcs, SMALL, 100, COARSE)
    found = astrometry.match(x, y, flux, mispointed(wcs, (50, 50), 0.05), SMALL, reference, 120.0, 0.0)[2]
    assert separation(wcs, found, SMALL) < 0.2 * COARSE


@pytest.mark.slow
@pytest.mark.parametrize("shape, scale", [(SHAPE, SCALE), (SMALL, COARSE)])
@pytest.mark.parametrize("n_stars", [20, 100, 500, 2000])
def test_wrong_field_gives_no_match(shape, scale, n_stars):
    wcs = sky_wcs(shape, scale)
    for seed in range(5):
        x, y, flux, *_ = sky(np.random.default_rng(seed), wcs, shape, n_stars, scale)
        reference = sky(np.random.default_rng(seed + 100), wcs, shape, n_stars, scale)[-1]
        with pytest.raises(BadData, match=r"no match to the reference catalogue \(best \d+ of \d+ sources"):
            astrometry.match(x, y, flux, wcs, shape, reference, 120.0, 1.0)


@pytest.mark.parametrize("n_stars", [20, 100, 2000])
@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_wrong_scale_gives_no_match(n_stars, factor):
    wcs = sky_wcs()
    x, y, flux, _, reference = sky(np.random.default_rng(9), wcs, SMALL, n_stars, COARSE)
    with pytest.raises(BadData, match="no match"):
        astrometry.match(x, y, flux, mispointed(wcs, (0, 0), 0, factor), SMALL, reference, 120.0, 1.0)


def test_pointing_error_beyond_the_limit_gives_no_match():
    wcs = sky_wcs()
    x, y, flux, _, reference = sky(np.random.default_rng(9), wcs, SMALL, 300, COARSE)
    with pytest.raises(BadData, match="no match"):
        astrometry.match(x, y, flux, mispointed(wcs, (100, 0), 0), SMALL, reference, 60.0, 1.0)
    with pytest.raises(BadData, match="no match"):
        astrometry.match(x, y, flux, mispointed(wcs, (0, 0), 3.0), SMALL, reference, 60.0, 1.0)


@pytest.mark.parametrize("n_sources, n_references", [(3, 500), (500, 3), (3, 3), (0, 500), (500, 0), (0, 0)])
def test_three_stars_or_none_give_no_match(n_sources, n_references):
    wcs = sky_wcs()
    x, y, flux, _, reference = sky(np.random.default_rng(1), wcs, SMALL, 500, COARSE, missing=0, spurious=0)
    with pytest.raises(BadData, match="no match"):
        few = slice(n_sources)
        astrometry.match(x[few], y[few], flux[few], wcs, SMALL, reference[:n_references], 120.0, 1.0)


def test_sources_without_a_position_are_passed_over():
    wcs = sky_wcs()
    x, y, flux, star, reference = sky(np.random.default_rng(1), wcs, SMALL, 200, COARSE)
    x[::7], flux[::5] = np.nan, np.nan
    i, j, _ = astrometry.match(x, y, flux, mispointed(wcs, (50, 0), 0.2), SMALL, reference, 120.0, 1.0)
    assert np.isfinite(x[i]).all()
    assert (star[i] == reference["id"][j]).mean() > 0.95


def test_plane_and_sky_are_inverse_everywhere():
    rng = np.random.default_rng(0)
    for crval in [(0.0, 0.0), (359.99, 45.0), (120.0, 90.0), (10.0, -89.9)]:
        plane = rng.uniform(-2, 2, (100, 2))
        np.testing.assert_allclose(
            astrometry.to_plane(*astrometry.from_plane(plane, crval), crval), plane, rtol=0, atol=1e-12
        )


def pixels(rng, shape, n):
    return rng.uniform(0, shape[1] - 1, n), rng.uniform(0, shape[0] - 1, n)


@pytest.mark.parametrize("centre", [(0.0, 0.0), (150.0, 30.0), (10.0, 89.9)])
def test_exact_distorted_positions_are_fitted_exactly(centre):
    wcs = sky_wcs(SHAPE, SCALE, centre, corner=5.0)
    x, y = pixels(np.random.default_rng(1), SHAPE, 100)
    start = mispointed(wcs, (100, -50), 0.5)
    fitted, used, scatter = astrometry.fit_wcs(x, y, *wcs.all_pix2world(x, y, 0), start, SHAPE, 3)
    assert used.all()
    assert list(fitted.wcs.ctype) == ["RA---TAN-SIP", "DEC--TAN-SIP"]
    np.testing.assert_array_equal(fitted.wcs.crpix, [2048.5, 2048.5])
    # A cubic is in the span of the fit: only rounding remains, far below 1 mas.
    assert separation(wcs, fitted, SHAPE) < 1e-6
    assert scatter < 1e-6


def test_centroid_noise_is_reported_and_averaged_down():
    wcs = sky_wcs(SHAPE, SCALE, corner=5.0)
    rng = np.random.default_rng(5)
    x, y = pixels(rng, SHAPE, 600)
    noise = rng.normal(0, 0.015 / SCALE, (2, 600))
    fitted, used, scatter = astrometry.fit_wcs(x + noise[0], y + noise[1], *wcs.all_pix2world(x, y, 0), wcs, SHAPE, 3)
    # The median deviation of 1200 numbers errs by 1.17 / sqrt(1200) = 3.4 %.
    assert scatter == pytest.approx(0.015, rel=0.1)
    assert used.sum() >= 595
    # Ten terms: rms error 15 sqrt(10 / 600) = 2 mas per coordinate, several times that in the corners.
    gx, gy = (grid.ravel() for grid in np.meshgrid(np.linspace(0, 4095, 20), np.linspace(0, 4095, 20)))
    difference = astrometry.to_plane(*fitted.all_pix2world(gx, gy, 0), wcs.wcs.crval)
    difference -= astrometry.to_plane(*wcs.all_pix2world(gx, gy, 0), wcs.wcs.crval)
    assert np.sqrt(np.mean(difference**2)) * 3600 < 0.004


def test_pixel_to_sky_and_back_is_exact_and_the_inverse_polynomial_is_close():
    wcs = sky_wcs((2000, 4096), SCALE, corner=5.0)
    x, y = pixels(np.random.default_rng(1), (2000, 4096), 300)
    fitted = astrometry.fit_wcs(x, y, *wcs.all_pix2world(x, y, 0), wcs, (2000, 4096), 3)[0]
    back = fitted.all_world2pix(*fitted.all_pix2world(x, y, 0), 0)
    np.testing.assert_allclose(back, [x, y], rtol=0, atol=1e-6)
    flat = np.array(fitted.wcs_world2pix(*fitted.all_pix2world(x, y, 0), 0))
    u, v = flat + 1 - fitted.wcs.crpix[:, None]
    inverse = [np.polynomial.polynomial.polyval2d(u, v, terms) for terms in (fitted.sip.ap, fitted.sip.bp)]
    # The inverse series of a 5 pixel cubic leaves terms of fifth order: 5 * 3 * 5 / 2300 = 0.03 pixel, most of it
    # absorbed by the lower orders.
    np.testing.assert_allclose(flat + inverse, [x, y], rtol=0, atol=0.01)


def test_header_keeps_the_fit():
    wcs = sky_wcs(SHAPE, SCALE, corner=5.0)
    x, y = pixels(np.random.default_rng(1), SHAPE, 300)
    fitted = astrometry.fit_wcs(x, y, *wcs.all_pix2world(x, y, 0), wcs, SHAPE, 3)[0]
    again = read_wcs(fitted.to_header(relax=True))
    np.testing.assert_allclose(again.all_pix2world(x, y, 0), fitted.all_pix2world(x, y, 0), rtol=0, atol=1e-10)


@pytest.mark.parametrize("n_stars, order", [(6, 1), (17, 1), (18, 2), (29, 2), (30, 3), (44, 3), (45, 4)])
def test_order_follows_the_number_of_stars(n_stars, order):
    wcs = sky_wcs()
    x, y = pixels(np.random.default_rng(1), SMALL, n_stars)
    fitted = astrometry.fit_wcs(x, y, *wcs.all_pix2world(x, y, 0), wcs, SMALL, 4)[0]
    assert list(fitted.wcs.ctype) == (["RA---TAN", "DEC--TAN"] if order == 1 else ["RA---TAN-SIP", "DEC--TAN-SIP"])
    assert (fitted.sip.a_order if fitted.sip else 1) == order


def test_too_few_stars_for_a_wcs_are_bad_data():
    wcs = sky_wcs()
    x, y = pixels(np.random.default_rng(1), SMALL, 5)
    with pytest.raises(BadData, match="only 5 matched stars"):
        astrometry.fit_wcs(x, y, *wcs.all_pix2world(x, y, 0), wcs, SMALL, 3)


def test_wrong_matches_are_clipped_from_the_fit():
    wcs = sky_wcs()
    rng = np.random.default_rng(3)
    x, y = pixels(rng, SMALL, 100)
    ra, dec = wcs.all_pix2world(x, y, 0)
    wrong = np.arange(0, 100, 8)
    measured = x + rng.normal(0, 0.02, 100)
    measured[wrong] += 1.0
    fitted, used, scatter = astrometry.fit_wcs(measured, y + rng.normal(0, 0.02, 100), ra, dec, wcs, SMALL, 2)
    assert not used[wrong].any()
    assert used.sum() >= 85
    assert separation(wcs, fitted, SMALL) < 0.05 * COARSE
    assert scatter == pytest.approx(0.02 * COARSE, rel=0.25)


def test_a_star_without_a_place_has_no_neighbours_but_a_reason():
    points = np.array([[0.0, 0.0], [1.0, 1.0]])
    with pytest.raises(BadData, match="neighbours"):
        astrometry.mutual_neighbours(points, np.vstack([points, [np.nan, 0.0]]), 0.5)


def test_errors_make_the_fit_follow_the_good_stars():
    wcs = sky_wcs()
    rng = np.random.default_rng(3)
    x, y = pixels(rng, SMALL, 400)
    ra, dec = wcs.all_pix2world(x, y, 0)
    error = np.where(np.arange(400) < 100, 0.01, 0.3)
    measured = x + rng.normal(0, error), y + rng.normal(0, error)
    weighted, used, _ = astrometry.fit_wcs(*measured, ra, dec, wcs, SMALL, 2, error)
    equal = astrometry.fit_wcs(*measured, ra, dec, wcs, SMALL, 2)[0]
    # Clipping in units of each star's own error keeps the uncertain stars: 1 - exp(-8) of them are within 4 sigma.
    assert used.sum() >= 396
    assert separation(wcs, weighted, SMALL) < 0.01 * COARSE < separation(wcs, equal, SMALL)


def sdss_frame(shared, name):
    with fits.open(shared / "sdss_stripe82_r" / name) as hdus:
        return hdus[0].data.astype(np.float32) - 1000, read_wcs(hdus[0].header)


def test_real_sdss_frame_is_calibrated_through_an_error_of_two_arcminutes(shared, tmp_path):
    sep = pytest.importorskip("sep")
    image, wcs = sdss_frame(shared, "fpC-006377-r4-0399.fit.gz")
    noise = np.sqrt(np.maximum(image, 1) / 4.76 + 1.32)
    image = image - sep.Background(image, bw=128, bh=128).back()
    found = sep.extract(image, 5, err=noise)
    x, y, _ = sep.winpos(image, found["x"], found["y"], np.full(len(found), 1.6))
    stars = shared / "sdss_stripe82_r" / "refcat_stars.fits"
    columns = {"path": str(stars), "bands": {"r": "r"}, "errors": {"r": "r_err"}}
    convert([stars], validated({"images": "", "refcat": columns})["refcat"], tmp_path / "refcat.parquet")
    reference = store.read(tmp_path / "refcat.parquet", "r", *wcs.wcs.crval, 0.2, 53998.0)
    header = mispointed(wcs, (95, -70), 0.8)
    i, j, matched = astrometry.match(x, y, found["flux"], header, image.shape, reference, 120.0, 1.0)
    assert len(i) > 80
    star = reference[j]
    fitted, _, scatter = astrometry.fit_wcs(x[i], y[i], star["ra"], star["dec"], matched, image.shape, 3)
    assert scatter < 0.03  # catalogue and centroids together
    assert separation(wcs, fitted, image.shape) < 0.3  # what is known of the header: about 0.1 arcsec
    flux, error, _ = sep.sum_circle(image, x[i], y[i], 8.0, err=noise)
    fit = photocal.zero_point(flux, error, star["mag"], star["mag_err"])
    assert fit.scatter < 0.015
    assert fit.n_stars > 60
