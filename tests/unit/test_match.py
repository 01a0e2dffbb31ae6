"""Matching to a catalogue: pointing errors recovered, false solutions refused, and said what was tried."""

import numpy as np
import pytest
import starfield
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from pointings import COARSE, SCALE, SHAPE, SMALL, mispointed, separation, sky, sky_wcs

from diaflow.calibrate import astrometry, chance
from diaflow.calibrate.chance import mutual_neighbours
from diaflow.calibrate.match import match
from diaflow.errors import BadData
from diaflow.instruments import pointing, translate
from diaflow.sky.localplane import from_plane, to_plane
from diaflow.sky.wcs import central_pixel_scale, header_wcs, image_centre, read_wcs


def distance(centre, wcs, shape):
    """Of a position from the centre of a detector [pixel]."""
    return np.hypot(*to_plane(*centre, image_centre(wcs, shape))) * 3600 / central_pixel_scale(wcs, shape)


def check_match(x, y, flux, star, reference, wcs, header, shape, tolerance_pixels):
    i, j, centre = match(x, y, flux, header, shape, reference, 120.0, 1.0)
    assert len(np.unique(i)) == len(i) == len(np.unique(j))
    assert np.all(np.diff(i) > 0)
    common = np.isin(star, reference["id"])
    right = star[i] == reference["id"][j]
    assert right.sum() >= 0.97 * common.sum()
    # Wrong ones are accidents within 2 pixels, or a spurious source nearer than the star: a few per cent if crowded.
    assert (~right).sum() <= max(1, 0.03 * len(i))
    assert distance(centre, wcs, shape) < tolerance_pixels


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
    # 15 or more stars of 0.1 pixel: the centre of an affine fit errs by 0.1 sqrt(2 / 15) = 0.04 pixel; 6 sigma.
    check_match(*data, wcs, header, SMALL, 0.25)


@pytest.mark.parametrize("seed", range(10))
def test_fifteen_reference_stars_suffice(seed):
    rng = np.random.default_rng(seed)
    wcs = sky_wcs(SHAPE, SCALE)
    x, y, flux, star, reference = sky(rng, wcs, SHAPE, 400, SCALE)
    on_detector = np.flatnonzero(np.isin(reference["id"], star))
    reference = reference[np.sort(rng.permutation(on_detector)[:15])]
    header = mispointed(wcs, rng.uniform(-80, 80, 2), rng.uniform(-1, 1))
    check_match(x, y, flux, star, reference, wcs, header, SHAPE, 0.25)


@pytest.mark.parametrize("n_stars", [100, 2000])
def test_distortion_unknown_to_the_header_does_not_lose_the_corners(n_stars):
    wcs = sky_wcs(SHAPE, SCALE, corner=5.0)
    x, y, flux, star, reference = sky(np.random.default_rng(2), wcs, SHAPE, n_stars, SCALE)
    header = mispointed(wcs, (70, -60), 0.7)
    check_match(x, y, flux, star, reference, wcs, header, SHAPE, 4.0)


def test_distortion_of_the_header_is_made_use_of():
    wcs = sky_wcs(SHAPE, SCALE, corner=20.0)
    data = sky(np.random.default_rng(2), wcs, SHAPE, 300, SCALE)
    header = wcs.deepcopy()
    header.wcs.crval = wcs.wcs.crval + np.array([0.02, -0.01])
    # 20 pixels in the corners are ten times the largest matching radius.
    check_match(*data, wcs, header, SHAPE, 0.1)


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
    centre = match(x, y, flux, mispointed(wcs, (50, 50), 0.05), SMALL, reference, 120.0, 0.0)[2]
    assert distance(centre, wcs, SMALL) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("shape, scale", [(SHAPE, SCALE), (SMALL, COARSE)])
@pytest.mark.parametrize("n_stars", [20, 100, 500, 2000])
def test_wrong_field_gives_no_match(shape, scale, n_stars):
    wcs = sky_wcs(shape, scale)
    for seed in range(5):
        x, y, flux, *_ = sky(np.random.default_rng(seed), wcs, shape, n_stars, scale)
        reference = sky(np.random.default_rng(seed + 100), wcs, shape, n_stars, scale)[-1]
        with pytest.raises(BadData, match=r"no match to the reference catalogue \(best \d+ of \d+ sources"):
            match(x, y, flux, wcs, shape, reference, 120.0, 1.0)


@pytest.mark.parametrize("n_stars", [20, 100, 2000])
@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_wrong_scale_gives_no_match(n_stars, factor):
    wcs = sky_wcs()
    x, y, flux, _, reference = sky(np.random.default_rng(9), wcs, SMALL, n_stars, COARSE)
    with pytest.raises(BadData, match="no match"):
        match(x, y, flux, mispointed(wcs, (0, 0), 0, factor), SMALL, reference, 120.0, 1.0)


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_a_percent_of_scale_is_forgiven(factor):
    wcs = sky_wcs()
    for n_stars in (30, 200):
        data = sky(np.random.default_rng(9), wcs, SMALL, n_stars, COARSE)
        check_match(*data, wcs, mispointed(wcs, (50, 20), 0.3, factor), SMALL, 0.5)


def test_pointing_error_beyond_the_limit_gives_no_match():
    wcs = sky_wcs()
    x, y, flux, _, reference = sky(np.random.default_rng(9), wcs, SMALL, 300, COARSE)
    with pytest.raises(BadData, match="no match .* match at an offset of 100 arcsec: raise"):
        match(x, y, flux, mispointed(wcs, (100, 0), 0), SMALL, reference, 60.0, 1.0)
    with pytest.raises(BadData, match="no match .* mirrored$"):
        match(x, y, flux, mispointed(wcs, (200, 0), 0), SMALL, reference, 60.0, 1.0)
    with pytest.raises(BadData, match="no match"):
        match(x, y, flux, mispointed(wcs, (0, 0), 3.0), SMALL, reference, 60.0, 1.0)


@pytest.mark.parametrize("n_sources, n_references", [(3, 500), (500, 3), (3, 3), (0, 500), (500, 0), (0, 0)])
def test_three_stars_or_none_give_no_match(n_sources, n_references):
    wcs = sky_wcs()
    x, y, flux, _, reference = sky(np.random.default_rng(1), wcs, SMALL, 500, COARSE, missing=0, spurious=0)
    with pytest.raises(BadData, match="no match"):
        few = slice(n_sources)
        match(x[few], y[few], flux[few], wcs, SMALL, reference[:n_references], 120.0, 1.0)


def test_sources_without_a_position_are_passed_over():
    wcs = sky_wcs()
    x, y, flux, star, reference = sky(np.random.default_rng(1), wcs, SMALL, 200, COARSE)
    x[::7], flux[::5] = np.nan, np.nan
    i, j, _ = match(x, y, flux, mispointed(wcs, (50, 0), 0.2), SMALL, reference, 120.0, 1.0)
    assert np.isfinite(x[i]).all()
    assert (star[i] == reference["id"][j]).mean() > 0.95


def test_a_star_without_a_place_has_no_neighbours_but_a_reason():
    points = np.array([[0.0, 0.0], [1.0, 1.0]])
    with pytest.raises(BadData, match="neighbours"):
        mutual_neighbours(points, np.vstack([points, [np.nan, 0.0]]), 0.5)


def from_afar(true, shape, away):
    """The TAN WCS whose reference point is `away` degrees north of the centre of the detector, by the same pixels."""
    ny, nx = shape
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(0, nx - 1, 9), np.linspace(0, ny - 1, 9)))
    ra, dec = image_centre(true, shape)
    crval = from_plane(np.array([0.0, away]), (ra, dec))
    plane = to_plane(*true.all_pix2world(x, y, 0), crval)
    constant, *cd = np.linalg.lstsq(np.column_stack([np.ones(81), x + 1, y + 1]), plane, rcond=None)[0]
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], ["deg", "deg"], crval
    wcs.wcs.cd = np.transpose(cd)
    wcs.wcs.crpix = -np.linalg.solve(np.transpose(cd), constant)
    wcs.wcs.set()
    return wcs


@pytest.mark.parametrize("dec", [0.0, -30.0, -60.0, 75.0, 89.95, -90.0])
@pytest.mark.parametrize("away", [0.1, 0.75, 1.75, 2.5])
def test_reference_points_far_from_the_detector_are_as_good_as_near_ones(dec, away):
    true = sky_wcs(centre=(150.0, dec))
    header = from_afar(true, SMALL, -np.sign(dec or 1) * away)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x, y, flux, star, reference = sky(rng, true, SMALL, 200, COARSE)
        off = header.deepcopy()
        off.wcs.crpix += rng.uniform(-16, 16, 2)
        check_match(x, y, flux, star, reference, true, off, SMALL, 0.2)


PROJECTIONS = (
    "AZP SZP TAN STG SIN ARC ZPN ZEA AIR CYP CEA CAR MER COP COE COD COO SFL PAR MOL AIT BON PCO "
    "TSC CSC QSC HPX XPH TPV"
)
NEEDED = {
    "CYP": {"PV2_1": 1.0, "PV2_2": 1.0},
    "ZPN": {"PV2_1": 1.0, "PV2_3": 0.3},
    "TPV": {"PV1_1": 1.0, "PV2_1": 1.0},
} | dict.fromkeys(("COP", "COE", "COD", "COO", "BON", "AIR"), {"PV2_1": 45.0})


def projected(code, crval, centre, shift=(0.0, 0.0)):
    """The WCS of a projection about `crval` that has the centre of a small detector at `centre`, and off by pixels."""
    header = fits.Header({"CTYPE1": f"RA---{code}", "CTYPE2": f"DEC--{code}", "CRVAL1": crval[0], "CRVAL2": crval[1]})
    header.update(
        {"CD1_1": -COARSE / 3600, "CD2_2": COARSE / 3600, "CRPIX1": 0.0, "CRPIX2": 0.0} | NEEDED.get(code, {})
    )
    x, y = read_wcs(header).wcs_world2pix(*centre, 0)
    header["CRPIX1"], header["CRPIX2"] = 511.5 - float(x) + shift[0], 511.5 - float(y) + shift[1]
    return header_wcs(header)


@pytest.mark.parametrize("crval", [(150.0, 30.0), (148.0, 33.0), (150.0, 0.0)])
@pytest.mark.parametrize("code", PROJECTIONS.split())
def test_every_projection_is_matched_or_named(code, crval):
    true = projected(code, crval, (150.0, 30.0))
    x, y, flux, star, reference = sky(np.random.default_rng(1), true, SMALL, 200, COARSE)
    header = projected(code, crval, (150.0, 30.0), shift=(60.0, -90.0))
    try:
        i, j, centre = match(x, y, flux, header, SMALL, reference, 120.0, 1.0)
    except BadData as reason:
        # Their facets have edges, on the detector here.
        assert code in ("QSC", "XPH") and f"RA---{code} is off by" in str(reason)
        return
    stars = x[i], y[i], reference["ra"][j], reference["dec"][j]
    fitted = astrometry.fit_wcs(*stars, centre, central_pixel_scale(header, SMALL), SMALL, 3)[0]
    assert len(i) > 0.97 * np.isin(star, reference["id"]).sum()
    # Ten terms, 130 stars of 0.1 pixel: 0.1 sqrt(10 / 130) = 0.03 pixel, in the corners three times that; 3 sigma.
    assert separation(true, fitted, SMALL) < 0.3 * COARSE


def test_a_shallow_catalogue_is_matched_to_a_deep_image():
    # The 30 brightest stars within reach, half of them on the detector, and 10,000 sources, one on every 100 pixels.
    for seed in range(3):
        rng = np.random.default_rng(seed)
        wcs = sky_wcs()
        *sources, reference = sky(rng, wcs, SMALL, 7000, COARSE, missing=0.1)
        reference = reference[np.argsort(reference["mag"])[:30]]
        check_match(*sources, reference, wcs, mispointed(wcs, rng.uniform(-80, 80, 2), rng.uniform(-1, 1)), SMALL, 0.5)


def test_unrelated_catalogues_of_any_depth_look_like_accidents():
    # A figure that is none of chance would fall below 1e-3 in more than one of a hundred pairs.
    smallest = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        n, m = rng.integers(6, 400, 2)
        smallest.append(chance.accidents(rng.random((n, 2)), rng.random((m, 2)), 0.02, np.pi * 0.02**2))
    assert np.sum(np.array(smallest) < 1e-3) <= 1


def test_bright_matches_are_no_accident_because_of_faint_sources():
    rng = np.random.default_rng(2)
    stars = rng.random((20, 2))
    sources = np.vstack([stars + rng.normal(0, 0.002, stars.shape), rng.random((2000, 2))])
    # With all sources every star has a neighbour by accident: 2000 pi 0.02**2 = 2.5 of them.
    assert chance.accidents(sources, stars, 0.02, np.pi * 0.02**2) < 1e-12
    assert chance.accidents(sources[20:], stars, 0.02, np.pi * 0.02**2) > 0.01


def test_a_lattice_of_stars_does_not_match_itself_turned():
    # Stars within 4 pixels of nodes that are 42 pixels apart: turned, all of them have a neighbour nearer than any
    # displacement would give, and as far away as accidents are.
    for seed in range(3):
        field = starfield.make(256, 42, seed=seed)
        turned = starfield.wcs(256)
        turned.wcs.cd = -turned.wcs.cd
        reference = starfield.refcat(field)
        with pytest.raises(BadData, match=r"no match .*\(pointing: rotation 0.0, flipped false\)"):
            match(field.x, field.y, field.flux, turned, (256, 256), reference, 120.0, 1.0)


def test_accidents_fill_the_matching_radius_and_right_matches_its_middle():
    rng = np.random.default_rng(4)
    nodes = np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), -1).reshape(-1, 2)
    length, angle = 0.1 * np.sqrt(rng.random(36)), rng.uniform(0, 2 * np.pi, 36)
    off = np.column_stack([length * np.cos(angle), length * np.sin(angle)])
    assert chance.accidents(nodes, nodes + off, 0.1, np.pi * 0.1**2 / 36) > 0.01
    assert chance.accidents(nodes, nodes + off / 4, 0.1, np.pi * 0.1**2 / 36) < 1e-6


@pytest.mark.parametrize("rotation, flipped", [(90.0, False), (180.0, True), (0.0, True), (270.0, False)])
def test_a_wrong_orientation_is_refused_and_the_right_one_named(rotation, flipped):
    image = translate.Image("", {"RA": 150.0, "DEC": 30.0}.get, 1024)
    rules = {"ra": {"key": "RA"}, "dec": {"key": "DEC"}, "pixel_scale": COARSE}
    size = fits.Header({"NAXIS1": 1024, "NAXIS2": 1024})
    right = {"rotation": rotation, "flipped": flipped}
    true, header = (header_wcs(pointing.located(size, image, rules | given)) for given in (right, {}))
    x, y, flux, _, reference = sky(np.random.default_rng(3), true, SMALL, 200, COARSE)
    named = rf"RA---TAN.*; but \d+ match .*\(pointing: rotation {rotation:.1f}, flipped {str(flipped).lower()}\)"
    with pytest.raises(BadData, match=named):
        match(x, y, flux, header, SMALL, reference, 120.0, 1.0)


def test_a_failed_match_says_what_was_tried():
    wcs = sky_wcs()
    x, y, flux, *_ = sky(np.random.default_rng(0), wcs, SMALL, 100, COARSE)
    reference = sky(np.random.default_rng(100), wcs, SMALL, 100, COARSE)[-1]
    tried = (
        rf"no match to the reference catalogue \(best \d+ of {len(x)} sources and \d+ reference stars in reach\); "
        "tried: offsets to 90 arcsec, rotations to 0.5 deg, the scale of RA---TAN to 1 %, "
        "all of this also turned by right angles and mirrored"
    )
    with pytest.raises(BadData, match=tried):
        match(x, y, flux, wcs, SMALL, reference, 90.0, 0.5)


def test_a_search_that_no_memory_holds_is_refused():
    wcs = sky_wcs()
    x, y, flux, _, reference = sky(np.random.default_rng(1), wcs, SMALL, 100, COARSE)
    with pytest.raises(
        BadData, match=r"3 rotations and \d+ x \d+ offsets are too many to search: lower calexp.max_off"
    ):
        match(x, y, flux, wcs, SMALL, reference, 36_000.0, 0.1)
