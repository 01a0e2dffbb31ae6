"""The store of reference stars: sorted on the sky, read in parts, units of any file, positions at any date."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time

from diaflow.errors import InputError
from diaflow.refcat import standard, store
from diaflow.refcat.convert import check, convert
from diaflow.run.config import validated
from diaflow.sky import healpix, sphere
from diaflow.store import tables
from diaflow.units import ARCSEC

MAS = 1 / 3.6e6  # [deg]

# Identifiers of Gaia hold the nested pixel of order 12 in their upper bits; positions in tenths of a degree or better.
GAIA = {
    "Proxima Centauri": (5853498713190525696, 217.39, -62.676),
    "TRAPPIST-1": (2635476908753563008, 346.6265, -5.0435),
    "51 Pegasi": (2835207319109249920, 344.3687, 20.769),
    "HD 209458": (1779546757669063552, 330.795, 18.884),
    "Kapteyn's Star": (4810594479418041856, 77.96, -45.04),
    "Wolf 359": (3864972938605115520, 164.10, 7.0),
    "tau Ceti": (2452378776434477184, 26.0, -15.93),
    "Lalande 21185": (762815470562110464, 165.83, 35.95),
    "Groombridge 34": (385334230892516480, 4.6, 44.02),
    "WASP-12": (3435282862461427072, 97.64, 29.67),
    "GJ 1214": (4393265392168829056, 258.83, 4.96),
    "beta Pictoris": (4792774797545105664, 86.82, -51.066),
    "pi Mensae": (4623036865373793408, 84.3, -80.46),
}


def everywhere(n, seed=1):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def rows(ra, dec, **columns):
    return tables.from_columns(store.TABLE, ["r"], id=np.arange(len(ra)), ra=ra, dec=dec, **columns)


def settings(**section):
    return validated({"images": "x", "refcat": {"path": "x"} | section})["refcat"]


@pytest.mark.parametrize("name", GAIA)
def test_pixels_are_those_in_the_identifiers_of_gaia(name):
    identifier, ra, dec = GAIA[name]
    pixel = identifier >> 35
    assert healpix.nested(np.array([ra]), np.array([dec]), 8)[0] == pixel >> 2 * (12 - 8)


def test_pixels_of_a_real_gaia_shard_are_those_in_its_identifiers(shared):
    shard = fits.getdata(shared / "lsst_formats/refcat/gaia_dr2_189584.fits", 1)
    ra, dec, pixel = np.degrees(shard["coord_ra"]), np.degrees(shard["coord_dec"]), shard["id"] >> 35
    wrong = healpix.nested(ra, dec, 12) != pixel
    assert wrong.mean() < 0.01
    # Identifiers are older than positions: those that differ are close to the border.
    angle = np.linspace(0, 2 * np.pi, 32)[:, None]
    step = 2 / 3600 * np.array([np.cos(angle), np.sin(angle)])
    around = healpix.nested((ra[wrong] + step[0]).ravel(), (dec[wrong] + step[1]).ravel(), 12)
    assert (around.reshape(len(angle), -1) == pixel[wrong]).any(axis=0).all()


def test_pixels_have_equal_areas_and_nest():
    ra, dec = everywhere(500_000)
    fine = healpix.nested(ra, dec, 13)
    for order in range(13):
        np.testing.assert_array_equal(healpix.nested(ra, dec, order), fine >> 2 * (13 - order))
    counts = np.bincount(healpix.nested(ra, dec, 3), minlength=768)
    assert len(counts) == 768
    chi2 = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert abs(chi2 - 767) < 5 * np.sqrt(2 * 767)


def test_pixels_are_compact():
    ra, dec = everywhere(500_000)
    pixel = healpix.nested(ra, dec, 5)
    v = sphere.unit_vectors(ra, dec)
    centre = np.stack([np.bincount(pixel, component) for component in v.T], axis=1)
    centre /= np.linalg.norm(centre, axis=1)[:, None]
    side = np.sqrt(4 * np.pi / (12 * 4**5))
    # The longest half diagonal at the poles is 1.25 sides (Calabretta & Roukema 2007); centres are means of some 40.
    assert sphere.separation(v, centre[pixel]).max() < 1.45 * side


def test_poles_and_the_ends_of_right_ascension_have_a_pixel():
    ra = np.array([0, 45, 90, 180, 270, 359.999999999, 360, -1e-18])
    north = healpix.nested(ra, np.full(len(ra), 90.0), 0)
    south = healpix.nested(ra, np.full(len(ra), -90.0), 0)
    assert north[:-1].tolist() == [0, 0, 1, 2, 3, 3, 0] and (south == north + 8).all()
    assert north[-1] in (0, 3)  # a border
    assert healpix.nested(ra, np.zeros(len(ra)), 0).tolist() == [4, 5, 5, 6, 7, 4, 4, 4]


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(store, "GROUP_ROWS", 500)
    monkeypatch.setattr(store, "RUN_ROWS", 3000)


@pytest.mark.parametrize("circle", [(10.0, 20.0, 3.0), (0.01, -5.0, 4.0), (359.9, 60.0, 5.0), (200.0, 88.0, 5.0)])
def test_circle_holds_what_is_within_wherever_it_is(circle, small_groups, tmp_path):
    ra, dec = everywhere(40_000)
    blocks = np.array_split(rows(ra, dec), 23)
    assert store.write(blocks, ["r"], tmp_path / "store") == len(ra)
    found = store.read(tmp_path / "store", "r", *circle, 60000.0)
    distance = sphere.separation(sphere.unit_vectors(ra, dec), sphere.unit_vectors(*circle[:2]))
    np.testing.assert_array_equal(np.sort(found["id"]), np.flatnonzero(distance <= np.radians(circle[2])))
    assert len(found) > 10


def test_groups_are_healpix_pixels_smaller_where_stars_are_dense(small_groups, tmp_path):
    ra, dec = everywhere(30_000)
    dense = np.random.default_rng(2).normal(0, 0.1, (2, 5000)) + [[80.0], [10.0]]
    ra, dec = np.append(ra, dense[0]), np.append(dec, dense[1])
    store.write([rows(ra, dec)], ["r"], tmp_path / "store")
    with pq.ParquetFile(tmp_path / "store") as file:
        groups = [file.read_row_group(k) for k in range(file.num_row_groups)]
    assert sum(map(len, groups)) == len(ra)
    orders, seen = [], set()
    for group in groups:
        assert len(group) <= store.GROUP_ROWS
        pixel = healpix.nested(group["ra"].to_numpy(), group["dec"].to_numpy(), store.ORDER)
        # The finest pixel that holds the group; its four parts together would have been one group if they could.
        order = next(k for k in range(store.ORDER, -1, -1) if len(set(pixel >> 2 * (store.ORDER - k))) == 1)
        orders.append(order)
        assert not seen & {(order, int(pixel[0] >> 2 * (store.ORDER - order)))}
        seen.add((order, int(pixel[0] >> 2 * (store.ORDER - order))))
    assert min(orders) <= 2 and max(orders) >= 6


def test_few_groups_are_opened_around_an_image(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    monkeypatch.setattr(store, "GROUP_ROWS", 400)
    ra, dec = rng.uniform(0, 10, 100_000), rng.uniform(-5, 5, 100_000)
    store.write([rows(ra, dec)], ["r"], tmp_path / "store")
    with pq.ParquetFile(tmp_path / "store") as file:
        boxes = store.group_boxes(file)
    # 1000 stars per square degree fit into pixels of order 7, 0.21 deg2, whose box is a square on its tip.
    diagonal, radius = np.sqrt(2 * 4 * np.pi / (12 * 4**7)) * 180 / np.pi, 0.2
    touched = np.mean([store.touched(boxes, a, d, radius).sum() for a, d in rng.uniform([1, -4], [9, 4], (300, 2))])
    assert touched < 1.15 * (diagonal + 2 * radius) ** 2 / (diagonal**2 / 2)


def test_stored_rows_are_in_the_order_of_their_pixels_and_equal_ones_in_that_of_the_files(small_groups, tmp_path):
    ra, dec = everywhere(4000)
    ra, dec = np.tile(ra, 3), np.tile(dec, 3)
    store.write(np.array_split(rows(ra, dec), 7), ["r"], tmp_path / "store")
    stored = pq.read_table(tmp_path / "store")
    pixel = healpix.nested(stored["ra"].to_numpy(), stored["dec"].to_numpy(), store.ORDER)
    np.testing.assert_array_equal(
        stored["id"].to_numpy(), np.argsort(healpix.nested(ra, dec, store.ORDER), kind="stable")
    )
    assert (np.diff(pixel.astype(np.int64)) >= 0).all()


def test_store_is_the_same_bytes_however_the_input_is_cut(small_groups, tmp_path):
    ra, dec = everywhere(20_000)
    store.write([rows(ra, dec)], ["r"], tmp_path / "whole")
    store.write(np.array_split(rows(ra, dec), 40), ["r"], tmp_path / "cut")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "cut").read_bytes()


def test_stored_columns_are_those_of_the_schema(tmp_path):
    store.write([rows(*everywhere(100), r_mag=20.0, star=True)], ["r"], tmp_path / "store")
    table = tables.read(store.TABLE, tmp_path / "store")
    assert set(table.dtype.names) == set(tables.columns(store.TABLE, ["r"]))
    assert pq.read_schema(tmp_path / "store").field("pm_ra").metadata[b"unit"] == b"deg/d"


def test_nowhere_near_the_catalogue_there_are_no_stars(tmp_path):
    store.write([rows(np.array([10.0]), np.array([10.0]))], ["r"], tmp_path / "store")
    assert len(store.read(tmp_path / "store", "r", 200.0, -10.0, 1.0, 60000.0)) == 0
    assert len(store.read(tmp_path / "store", "r", 10.5, 10.5, 0.6, 60000.0)) == 0


def test_truncated_store_is_named(tmp_path):
    store.write([rows(*everywhere(1000))], ["r"], tmp_path / "store")
    (tmp_path / "store").write_bytes((tmp_path / "store").read_bytes()[:-100])
    with pytest.raises(InputError, match="store: not a readable"):
        store.read(tmp_path / "store", "r", 0.0, 0.0, 1.0, 60000.0)


@pytest.mark.slow
def test_a_store_is_written_without_holding_the_catalogue(tmp_path):
    ra, dec = everywhere(20_000)

    def peak(n_blocks):
        tracemalloc.start()
        store.write((rows(ra, dec) for _ in range(n_blocks)), ["r"], tmp_path / "store")
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    row = rows(ra, dec).dtype.itemsize
    n_runs = 3
    blocks = store.RUN_ROWS // len(ra)
    # Beyond the first run it is pixel numbers, and once more while they are sorted, that grow.
    growth = peak(n_runs * blocks) - peak(blocks)
    assert growth < 0.4 * row * (n_runs - 1) * store.RUN_ROWS


def test_stars_are_where_they_are_at_the_date(tmp_path):
    rng = np.random.default_rng(3)
    ra, dec = everywhere(300)
    dec[:3] = 89.99, -89.999, 89.9999
    pm = rng.normal(0, 2000, (2, len(ra)))  # [mas/yr]
    pm[:, :3] = 10_000
    block = {"ra": (ra, ""), "dec": (dec, ""), "id": (np.arange(len(ra)), ""), "m": (np.full(len(ra), 18.0), "")}
    block |= {"pm_a": (pm[0], ""), "pm_d": (pm[1], "")}
    config = settings(bands={"r": "m"}, pm=["pm_a", "pm_d"], epoch=2000.0)
    store.write([standard.rows(block, config)], ["r"], tmp_path / "store")
    date = Time(2025.0, format="jyear", scale="tai")
    found = store.read(tmp_path / "store", "r", 0.0, 90.0, 180.0, date.mjd)
    i = found["id"]
    start = Time(51544.5, format="mjd", scale="tai")
    motion = {"pm_ra_cosdec": pm[0, i] * u.mas / u.yr, "pm_dec": pm[1, i] * u.mas / u.yr, "distance": 1 * u.kpc}
    true = SkyCoord(ra[i] * u.deg, dec[i] * u.deg, **motion, obstime=start).apply_space_motion(date)
    apart = true.separation(SkyCoord(found["ra"] * u.deg, found["dec"] * u.deg)).to_value(u.mas)
    assert len(found) == len(ra) and np.hypot(*pm).max() * 25 > 1e5
    # float32 motions, 1.2e-7 of at most 350 arcsec; light travel time is within v/c of it, 1e-4 of some of them
    assert np.median(apart) < 0.05
    assert apart.max() < 1e-4 * np.hypot(*pm).max() * 25


def test_stars_without_motion_or_epoch_stay_where_they_are(tmp_path):
    ra, dec = everywhere(40)
    pm = np.where(np.arange(40) % 2, 1e-5, np.nan)
    epoch = np.where(np.arange(40) % 4 < 2, 57000.0, np.nan)
    store.write([rows(ra, dec, pm_ra=pm, pm_dec=pm, epoch=epoch)], ["r"], tmp_path / "store")
    found = store.read(tmp_path / "store", "r", 0.0, 90.0, 180.0, 60000.0)
    moved = (found["ra"] != ra[found["id"]]) & (found["dec"] != dec[found["id"]])
    np.testing.assert_array_equal(moved, found["id"] % 4 == 1)


def test_position_errors_are_in_mas_or_what_the_file_says(tmp_path):
    n = 10
    columns = {"id": (np.arange(n), ""), "ra": (np.arange(n, dtype=float), ""), "dec": (np.zeros(n), "")}
    columns |= {"m": (np.full(n, 18.0), ""), "a": (np.full(n, 3.0), ""), "d": (np.full(n, 4e-3), "arcsec")}
    columns["a"][0][:2] = np.nan, -9999
    for names, mas in ((["a", "d"], np.sqrt(12.5)), (["a"], 3.0)):
        table = standard.rows(columns, settings(bands={"r": "m"}, pos_err=names))
        np.testing.assert_allclose(table["pos_err"], [np.nan] * 2 + [mas * MAS] * (n - 2), rtol=1e-6)


# From the catalogue of SDSS to Hyper Suprime-Cam (LSST obs_subaru, colorterms).
SDSS_TO_HSC = {
    "g": {"secondary": "r", "coefficients": [-0.00816446, -0.08366937, -0.00726883]},
    "r": {"secondary": "i", "coefficients": [0.00231810, 0.01284177, -0.03068248]},
    "i": {"secondary": "z", "coefficients": [0.00130204, -0.16922042, -0.01374245]},
}


def sdss(**columns):
    """A block of one star of g, r, i, z = 20.0, 19.4, 19.2, 19.1, with errors of 10, 20, 30 and 40 mmag."""
    block = {"id": (np.array([1]), ""), "ra": (np.array([10.0]), ""), "dec": (np.array([0.0]), "")}
    for k, (band, mag) in enumerate({"g": 20.0, "r": 19.4, "i": 19.2, "z": 19.1}.items(), 1):
        block |= {band: (np.array([mag]), ""), f"{band}_err": (np.array([0.01 * k]), "")}
    return block | {name: (np.array([value]), "") for name, value in columns.items()}


def corrected(block, bands="griz", errors="griz", terms=SDSS_TO_HSC):
    section = {"bands": {b: b for b in bands}, "errors": {b: f"{b}_err" for b in errors}, "colour_terms": terms}
    return standard.rows(block, settings(**section))[0]


def test_colour_terms_bring_sdss_magnitudes_to_those_of_hsc():
    row = corrected(sdss())
    # By hand: p + c0 + c1 (p - s) + c2 (p - s)**2 of the catalogue's magnitudes, whichever band is brought over first.
    assert row["g_mag"] == pytest.approx(20.0 - 0.00816446 - 0.08366937 * 0.6 - 0.00726883 * 0.36, abs=3e-6)
    assert row["r_mag"] == pytest.approx(19.4 + 0.00231810 + 0.01284177 * 0.2 - 0.03068248 * 0.04, abs=3e-6)
    assert row["i_mag"] == pytest.approx(19.2 + 0.00130204 - 0.16922042 * 0.1 - 0.01374245 * 0.01, abs=3e-6)
    assert row["z_mag"] == pytest.approx(19.1, abs=3e-6) and row["z_mag_err"] == pytest.approx(0.04)
    # LSST's error, hypot((1 + c1) e_p, c1 e_s), is that of a star without colour, where c2 has no slope.
    grey = corrected(sdss(i=19.1))
    assert grey["i_mag_err"] == pytest.approx(np.hypot((1 - 0.16922042) * 0.03, 0.16922042 * 0.04), rel=1e-5)


def test_errors_through_a_colour_term_are_the_scatter_of_noisy_magnitudes():
    rng, n = np.random.default_rng(5), 20_000
    p, s = rng.normal(19.4, 0.02, n), rng.normal(17.9, 0.03, n)
    mag, err = standard.colour_corrected(p, np.full(n, 0.02), s, np.full(n, 0.03), (0.01, -0.17, 0.05))
    # a width of n values is known to 1 / sqrt(2 n) = 0.5 %
    assert np.std(mag) == pytest.approx(np.median(err), rel=0.02)
    # without the slope of c2 it would be hypot(0.83 * 0.02, 0.17 * 0.03), 5 % less than hypot(0.98 * 0.02, 0.02 * 0.03)
    assert np.median(err) == pytest.approx(np.hypot(0.98 * 0.02, 0.02 * 0.03), rel=0.005)


def test_stars_without_the_second_band_have_a_position_but_no_magnitude():
    row = corrected(sdss(i=-9999.0))
    assert np.isnan(row["r_mag"]) and np.isnan(row["i_mag"])
    assert np.isfinite(row["g_mag"]) and row["ra"] == 10.0
    unknown = corrected(sdss(), errors="gr")
    assert np.isfinite(unknown["r_mag"]) and np.isnan(unknown["r_mag_err"]) and np.isfinite(unknown["g_mag_err"])


def test_colour_term_of_a_band_without_a_column_is_named():
    section = {"bands": {"g": "g", "r": "r"}, "colour_terms": {"r": {"secondary": "i", "coefficients": [0, 0, 0]}}}
    with pytest.raises(InputError, match=r"refcat.colour_terms.r: refcat.bands names no column for band i"):
        check(settings(**section), ["r"])
    section["colour_terms"] = {"z": {"secondary": "r", "coefficients": [0, 0, 0]}}
    with pytest.raises(InputError, match=r"refcat.colour_terms.z: .* band z"):
        check(settings(**section), ["r"])


def test_units_of_a_parquet_file_are_read(tmp_path):
    ra, dec = everywhere(50)
    flux = np.geomspace(10, 1e5, 50)
    units = {"id": "", "ra": "rad", "dec": "rad", "f": "uJy", "f_err": "nJy", "when": "d"}
    values = [np.arange(50), np.radians(ra), np.radians(dec), flux, 10 * flux, np.full(50, 59000.0)]
    fields = [pa.field(n, pa.from_numpy_dtype(v.dtype), metadata={"unit": units[n]}) for n, v in zip(units, values)]
    pq.write_table(pa.table(values, schema=pa.schema(fields)), tmp_path / "a.parquet")
    config = settings(bands={"r": "f"}, errors={"r": "f_err"}, pm=["ra", "dec"], epoch="when")
    convert([tmp_path / "a.parquet"], config, tmp_path / "store")
    table = tables.read(store.TABLE, tmp_path / "store")
    i = table["id"]
    np.testing.assert_allclose(table["ra"], ra[i], rtol=1e-14)
    np.testing.assert_allclose(table["dec"], dec[i], rtol=1e-14)
    np.testing.assert_allclose(table["r_mag"], 23.9 - 2.5 * np.log10(flux[i]), rtol=1e-6)  # AB: 23.9 is 1 uJy
    np.testing.assert_allclose(table["r_mag_err"], 0.01 * 2.5 / np.log(10), rtol=1e-5)
    assert (table["epoch"] == 59000.0).all()


def test_lsst_shards_of_gaia_and_ps1_are_read_as_they_are(shared, tmp_path):
    folder = shared / "lsst_formats/refcat"
    place = {"ra": "coord_ra", "dec": "coord_dec"}
    motion = {"pos_err": ["coord_raErr", "coord_decErr"], "pm": ["pm_ra", "pm_dec"], "epoch": "epoch"}
    keep = {"phot_variable_flag": "NOT_AVAILABLE"}
    fluxes = {"bands": {"r": "phot_g_mean_flux"}, "errors": {"r": "phot_g_mean_fluxErr"}}
    convert([folder / "gaia_dr2_189584.fits"], settings(**place, **fluxes, **motion, keep=keep), tmp_path / "gaia")
    fluxes = {"bands": {"r": "r_flux"}, "errors": {"r": "r_fluxErr"}}
    convert([folder / "ps1_pv3_3pi_20170110_189584_refcats.fits"], settings(**place, **fluxes), tmp_path / "ps1")
    circle = (321.0, -0.3, 0.25)
    raw = fits.getdata(folder / "gaia_dr2_189584.fits", 1)
    epoch = raw["epoch"][0]
    gaia = store.read(tmp_path / "gaia", "r", *circle, epoch)
    assert len(gaia) > 500 and gaia["star"].mean() > 0.9
    row = raw[np.flatnonzero(raw["id"] == gaia["id"][0])[0]]
    assert gaia["ra"][0] == pytest.approx(np.degrees(row["coord_ra"]), abs=1e-12)
    assert gaia["mag"][0] == pytest.approx(31.4 - 2.5 * np.log10(row["phot_g_mean_flux"]), abs=1e-5)
    assert gaia["pos_err"][0] == pytest.approx(
        np.degrees(np.hypot(row["coord_raErr"], row["coord_decErr"]) / np.sqrt(2)), rel=1e-5
    )
    # The yearly motion of the catalogue, in radians, over ten Julian years.
    later = store.read(tmp_path / "gaia", "r", *circle, epoch + 3652.5)
    pm = dict(zip(raw["id"].tolist(), np.degrees(raw["pm_dec"]).tolist()))
    expected = np.nan_to_num([10 * pm[i] for i in later["id"].tolist()])
    np.testing.assert_allclose(later["dec"] - gaia["dec"], expected, rtol=1e-6, atol=1e-12)

    # PS1 was calibrated to Gaia: bright stars of the two are within a fifth of an arcsecond of each other.
    ps1 = store.read(tmp_path / "ps1", "r", *circle, epoch)
    bright = gaia[gaia["mag"] < 19]
    v, w = (sphere.unit_vectors(table["ra"], table["dec"]) for table in (bright, ps1))
    distance = np.linalg.norm(v[:, None] - w[None], axis=2)
    nearest = distance.argmin(1)
    matched = distance.min(1) < 1 * ARCSEC
    assert matched.mean() > 0.9
    assert np.median(distance.min(1)[matched]) < 0.2 * ARCSEC
    assert abs(np.nanmedian(ps1["mag"][nearest[matched]] - bright["mag"][matched])) < 0.3
