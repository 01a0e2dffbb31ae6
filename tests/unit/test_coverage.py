"""Coverage: cells of images against brute force, depth against its formula, MOCs that hold the same cells."""

import numpy as np
import pytest
from astropy.io import fits
from builders import exposure_table, tan_header
from hypothesis import given, settings
from hypothesis import strategies as st

from diaflow.sky import coverage, healpix, sphere
from diaflow.sky.wcs import header_wcs
from diaflow.store import tables


def summary(headers, **columns):
    """A "visit_summary" table of images with these headers."""
    table = exposure_table(headers)
    corners = {f"{axis}_{k}": table[f"{axis}_{k}"] for axis in ("ra", "dec") for k in (1, 2, 3, 4)}
    return tables.from_columns(
        "visit_summary", **{"visit": table["visit"], "status": "ok", "depth": 24.0} | corners | columns
    )


def corners_of(table):
    return (np.array([table[0][f"{axis}_{k}"] for k in (1, 2, 3, 4)]) for axis in ("ra", "dec"))


@pytest.mark.parametrize("place", [(0.0, 0.0), (150.0, 41.8), (10.0, 90.0), (200.0, -89.9), (359.99, -30.0)])
@pytest.mark.parametrize("parity", [-1.0, 1.0])
def test_cells_of_an_image_are_those_whose_centre_is_on_its_pixels(place, parity):
    header = tan_header(*place, 2.0, 30.0, parity)
    found = coverage.cells(*corners_of(summary([header])))
    around = np.radians(np.random.default_rng(1).uniform(-0.5, 0.5, (2, 100_000)))
    near = np.unique(healpix.nested(*sphere.from_gnomonic(*around, *place), 12))
    x, y = header_wcs(header).all_world2pix(*healpix.nested_centres(near, 12), 0)
    inside = (x > -0.5) & (x < 799.5) & (y > -0.5) & (y < 999.5)
    np.testing.assert_array_equal(found, near[inside])
    area = 800 * 1000 * 4 / 3600**2
    # The centres are a grid: of N of them, those at the border come and go, sqrt(N) or fewer.
    assert len(found) * np.degrees(coverage.SIDE) ** 2 == pytest.approx(area, rel=1 / np.sqrt(len(found)))


def test_visits_count_once_and_depths_add_by_their_variance():
    same = tan_header(10.0, 0.0, 1.0)
    table = summary([same] * 5, visit=[1, 1, 2, 3, 4], depth=[24.0, 23.0, 24.0, np.nan, 26.0])
    table["status"][4] = "failed"
    pixel, n_visits, depth = coverage.coverage(table)
    assert pixel.tolist() == coverage.cells(*corners_of(table)).tolist()
    assert set(n_visits.tolist()) == {3}
    sigma = 10 ** (-0.4 * np.array([24.0, 23.0, 24.0]))
    assert depth == pytest.approx(np.full(len(pixel), -2.5 * np.log10((1 / sigma**2).sum() ** -0.5)), abs=1e-5)
    # two alike are 1.25 log10(2) = 0.376 mag deeper than one
    twice = coverage.coverage(table[[0, 2]])[2]
    assert twice == pytest.approx(np.full(len(pixel), 24 + 1.25 * np.log10(2)), abs=1e-5)


def test_images_of_unknown_depth_have_visits_and_no_depth():
    _, n_visits, depth = coverage.coverage(summary([tan_header(10.0, 0.0, 1.0)], depth=np.nan))
    assert (n_visits == 1).all() and np.isnan(depth).all()


def test_no_images_have_no_cells():
    assert [len(column) for column in coverage.coverage(summary([tan_header()])[:0])] == [0, 0, 0]
    assert coverage.moc(np.empty(0, np.int64)).tolist() == []


def cells_of(uniq):
    """The cells of order 12 in a MOC."""
    order = (np.floor(np.log2(uniq)).astype(int) - 2) // 2
    first = (uniq - 4 ** (order + 1)) << 2 * (12 - order)
    return np.concatenate([np.arange(4 ** (12 - k)) + start for k, start in zip(order.tolist(), first.tolist())])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    ranges=st.lists(st.tuples(st.integers(0, 12 * 4**12 - 1), st.integers(1, 5000)), min_size=1, max_size=10),
)
def test_a_moc_holds_the_same_cells_in_the_largest_that_are_whole(ranges):
    pixel = np.unique(np.concatenate([np.arange(start, min(start + n, 12 * 4**12)) for start, n in ranges]))
    uniq = coverage.moc(pixel)
    np.testing.assert_array_equal(np.sort(cells_of(uniq)), pixel)
    assert (np.diff(uniq) > 0).all()
    siblings, count = np.unique(uniq >> 2, return_counts=True)
    assert not ((count == 4) & (siblings >= 4)).any()


def test_files_say_what_they_are(tmp_path):
    """Cards of the IVOA's MOC 2.0 and of HEALPix maps of a part of the sky."""
    pixel, n_visits, depth = coverage.coverage(summary([tan_header(10.0, 0.0, 1.0)]))
    coverage.write_moc(tmp_path / "moc.fits", pixel)
    coverage.write_map(tmp_path / "depth.fits", pixel, n_visits, depth)
    moc, header = fits.getdata(tmp_path / "moc.fits", header=True)
    assert moc["UNIQ"].tolist() == coverage.moc(pixel).tolist()
    cards = {
        "ORDERING": "NUNIQ",
        "COORDSYS": "C",
        "MOCDIM": "SPACE",
        "MOCORD_S": 12,
        "PIXTYPE": "HEALPIX",
        "TFORM1": "K",
    }
    assert {key: header[key] for key in cards} == cards
    cells, header = fits.getdata(tmp_path / "depth.fits", header=True)
    assert (header["NSIDE"], header["ORDERING"], header["INDXSCHM"]) == (4096, "NESTED", "EXPLICIT")
    assert cells["PIXEL"].tolist() == pixel.tolist() and cells["N_VISITS"].tolist() == n_visits.tolist()
