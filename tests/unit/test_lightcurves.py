"""Light curves for other programs: what is written is read back, by the programs themselves where they are there."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import parse
from astropy.table import Table
from astropy.time import Time

from diaflow.errors import InputError
from diaflow.lightcurves import ades, bands, curves, tns
from diaflow.run import methods
from diaflow.run.config import method_options, validated
from diaflow.simulate.lightcurves import supernova
from diaflow.sky import healpix
from diaflow.store import provenance, tables

AB20 = 36307.8055  # nJy
# Beyond 2**53, where neighbours are one number in double precision; the last one has no usable point.
IDS = 2**60 + np.array([1, 2, 3, 4])
RA, DEC = np.array([359.99, 35.0, 0.01, 35.1]), np.array([-89.9, -4.5, 12.0, -4.4])
MJD = 60400.12345678
POINT = ("midpointMjdTai", "psfFlux", "psfFluxErr")
NAMES = {"g": "lsstg", "r": "lsstr"}
CONFIG = {
    "sncosmo": {"bands": NAMES},
    "snana": {"bands": {"g": "g", "r": "r"}},
    "tns": {"objects": [IDS[0].item()], "reporter": "A. Observer", "reporting_group": 3, "data_source_group": 4}
    | {"instrument": 5, "at_type": 1, "bands": {"g": 21, "r": 22}},
}


def forced_sources() -> np.ndarray:
    """Four epochs of each object and band, in the order of time; some of them useless."""
    rows = []
    for i, identifier in enumerate(IDS):
        for epoch in range(4):
            for number, band in enumerate("gr"):
                flux = AB20 * (1 + i) if epoch else -321.0625
                rows.append((identifier, RA[i], DEC[i], 10 * epoch + number, band, MJD + epoch + number / 100, flux))
    columns = dict(zip(("diaObjectId", "ra", "dec", "visit", "band", "midpointMjdTai", "psfFlux"), zip(*rows)))
    table = tables.from_columns("dia_forced_source", **columns, psfFluxErr=100.5, detector=7)
    table["diaForcedSourceId"] = 2**61 + np.arange(len(table))
    of = [np.flatnonzero(table["diaObjectId"] == identifier) for identifier in IDS]
    table["psfFlux"][of[0][2]], table["psfFlux_flag"][of[0][2]] = np.nan, True
    table["psfFluxErr"][of[1][2]] = np.nan
    table["psfFluxErr"][of[1][3]] = 0
    table["pixelFlags"][of[1][4:6]] = True
    table["visitInTemplate"][of[2][0]] = True
    table["pixelFlags"][of[3]] = table["psfFlux_flag"][of[3]] = True
    return table


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> tuple[Path, Path]:
    """The two tables, rows in the order of visits."""
    folder = tmp_path_factory.mktemp("tables")
    objects = tables.from_columns("dia_object", ["g", "r"], diaObjectId=IDS, ra=RA, dec=DEC, patch="0_0", raErr=1e-5)
    objects["decErr"], objects["nDiaSources"], objects["firstDiaSourceMjdTai"] = 1e-5, 6, MJD + 1
    rows = forced_sources()
    tables.write("dia_object", objects, folder / "dia_object.parquet")
    tables.write("dia_forced_source", rows[np.argsort(rows["visit"], kind="stable")], folder / "forced.parquet")
    return folder / "dia_object.parquet", folder / "forced.parquet"


@pytest.fixture
def written(paths, tmp_path):
    """Write a format: ``written(name, options)`` gives the folder."""

    def write(name: str, keep: bool | None = None, **options) -> Path:
        section = {name: CONFIG.get(name, {}) | options} if name in CONFIG else {}
        config = validated({"images": "x", "lightcurves": {"formats": [name]} | section})
        room = methods.load("lightcurves", name)
        found = curves.read(*paths, room.HAS_FLAGS if keep is None else keep)
        room.write(found, tmp_path, method_options(config, "lightcurves", name))
        return tmp_path

    return write


def expected(identifier: int, keep_flagged: bool) -> np.ndarray:
    """The rows of an object that must be there."""
    rows = forced_sources()
    good = (rows["diaObjectId"] == identifier) & ~rows["psfFlux_flag"] & (rows["psfFluxErr"] > 0)
    rows = rows[good & (keep_flagged | ~rows["pixelFlags"])]
    return rows[np.argsort(rows["midpointMjdTai"])]


def same(rows: np.ndarray, mjd, flux, error, scale: float = 1.0) -> None:
    assert len(rows) == len(mjd)
    np.testing.assert_allclose(mjd, rows["midpointMjdTai"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(flux, rows["psfFlux"] * scale, rtol=1e-6)
    np.testing.assert_allclose(error, rows["psfFluxErr"] * scale, rtol=1e-6)


def same_table(table) -> None:
    """A table of all points, under their own names."""
    for identifier in IDS:
        rows = expected(identifier, keep_flagged=True)
        found = table[np.asarray(table["diaObjectId"]) == identifier]
        same(rows, found["midpointMjdTai"], found["psfFlux"], found["psfFluxErr"])
        for name in ("diaForcedSourceId", "visit", "detector", "band", "pixelFlags", "visitInTemplate", "ra"):
            assert list(found[name]) == list(rows[name]), name


def test_rows_that_tell_nothing_are_dropped_and_counted(paths):
    kept, dropped = (curves.read(*paths, keep) for keep in (True, False))
    assert [kept.without_flux.tolist(), kept.flagged.tolist()] == [[1, 2, 0, 8], [0] * 4]
    assert [dropped.without_flux.tolist(), dropped.flagged.tolist()] == [[1, 2, 0, 8], [0, 2, 0, 0]]
    assert np.diff(kept.first).tolist() == [7, 6, 8, 0] and np.diff(dropped.first).tolist() == [7, 4, 8, 0]
    assert [row["diaObjectId"] for row, _, _ in dropped] == list(IDS[:3])
    for row, points, metadata in dropped:
        same(
            expected(row["diaObjectId"], False), *(points[name] for name in ("midpointMjdTai", "psfFlux", "psfFluxErr"))
        )
        assert metadata["points"] + metadata["dropped_without_flux"] + metadata["dropped_flagged"] == 8
    assert (kept.points["psfFlux"] < 0).sum() == 6
    assert kept.metadata()["dropped_flags"] == "psfFlux_flag"
    assert dropped.metadata() | {"zero_point": 31.4, "time_scale": "TAI", "dropped_flagged": 2} == dropped.metadata()
    assert (dropped.metadata()["objects"], dropped.metadata()["objects_without_points"]) == (4, 1)


def test_a_row_of_no_object_is_an_error_that_names_it(paths, tmp_path):
    objects = tables.read("dia_object", paths[0])
    tables.write("dia_object", objects[1:], tmp_path / "fewer.parquet")
    with pytest.raises(InputError, match=f"forced.parquet: diaObjectId {IDS[0]} is not in .*fewer.parquet"):
        curves.read(tmp_path / "fewer.parquet", paths[1], True)


def test_positions_of_the_users_are_no_light_curves_of_objects(paths, tmp_path):
    rows = tables.read("dia_forced_source", paths[1])
    own = rows[:3].copy()
    own["diaObjectId"], own["positionId"] = 0, [1, 2, 3]
    tables.write("dia_forced_source", np.concatenate([own, rows]), tmp_path / "with_positions.parquet")
    found = curves.read(paths[0], tmp_path / "with_positions.parquet", True)
    np.testing.assert_array_equal(found.points, curves.read(*paths, True).points)


def test_without_objects_every_format_of_tables_is_written_empty(tmp_path):
    empty = [tmp_path / "o.parquet", tmp_path / "f.parquet"]
    for path, name in zip(empty, ("dia_object", "dia_forced_source")):
        tables.write(name, tables.empty(name), path)
    config = validated({"images": "x"})
    for name in set(methods.listed("lightcurves")) - {"tns"}:
        options = method_options(config, "lightcurves", name)
        (tmp_path / name).mkdir()
        methods.load("lightcurves", name).write(curves.read(*empty, True), tmp_path / name, options)
    assert (
        len(Table.read(tmp_path / "fits/light_curves.fits"))
        == len(Table.read(tmp_path / "votable/light_curves.vot"))
        == 0
    )
    assert pq.read_table(tmp_path / "nested_parquet/light_curves.parquet").num_rows == 0


def test_csv(written):
    path = written("csv") / "light_curves.csv"
    found = pd.read_csv(path)
    assert found["diaObjectId"].dtype == np.int64
    same_table(found)
    same_table(Table.read(path))
    said = json.loads((path.parent / "metadata.json").read_text())
    assert said["time_scale"] == "TAI" and said["dropped_without_flux"] == 11


def test_fits(written):
    path = written("fits") / "light_curves.fits"
    found = Table.read(path)
    found["band"] = found["band"].astype(str)
    same_table(found)
    assert found["psfFlux"].unit == "nJy" and found["psfFlux"].dtype.itemsize == 4
    header = fits.getheader(path, 1)
    assert [header[key] for key in ("TIMESYS", "ZEROPNT", "DROPPED", "NDROPNOF")] == ["TAI", 31.4, "psfFlux_flag", 11]


def test_votable(written):
    path = written("votable") / "light_curves.vot"
    found = Table.read(path)
    same_table(found)
    assert found["psfFlux"].unit == "nJy" and found["diaObjectId"].dtype == np.int64
    document = parse(path)
    assert document.resources[0].time_systems[0].timescale == "TAI"
    table = document.get_first_table()
    said = {param.name: param.value for param in table.params}
    assert said["zero_point"] == 31.4 and said["dropped_without_flux"] == 11 and said["dropped_flags"] == "psfFlux_flag"
    assert {field.name: field.ucd for field in table.fields}["psfFlux"] == "phot.flux;em.opt"


def same_nested(rows: list[dict]) -> None:
    """Rows of objects with their light curves, in any order."""
    assert sorted(row["diaObjectId"] for row in rows) == IDS.tolist()
    for row in rows:
        points = expected(row["diaObjectId"], keep_flagged=True)
        same(points, *(row["lightcurve"][name] for name in POINT))
        for name in ("diaForcedSourceId", "band", "pixelFlags"):
            assert row["lightcurve"][name] == points[name].tolist()


def test_nested_parquet(written):
    table = pq.read_table(written("nested_parquet") / "light_curves.parquet")
    same_nested(table.to_pylist())
    assert table.schema.metadata[b"time_scale"] == b"TAI" and table.schema.metadata[b"dropped_without_flux"] == b"11"
    assert table.schema.field("lightcurve").type.field("psfFlux").metadata[b"unit"] == b"nJy"


def test_nested_pandas_reads_it_and_filters_inside_of_rows(written):
    nested_pandas = pytest.importorskip("nested_pandas", reason="nested_pandas is not installed")
    frame = nested_pandas.read_parquet(written("nested_parquet") / "light_curves.parquet")
    assert frame["diaObjectId"].tolist() == IDS.tolist()
    assert frame.nested_columns == ["lightcurve"]
    positive = frame.query("lightcurve.psfFlux > 0")
    assert sum(0 if curve is None else len(curve) for curve in positive["lightcurve"]) == 21 - 6


def test_hats_partitions_hold_their_pixels_in_order(written):
    folder = written("hats") / "light_curves"
    files = sorted(folder.glob("dataset/Norder=5/Dir=*/Npix=*.parquet"))
    same_nested([row for path in files for row in pq.ParquetFile(path).read().to_pylist()])
    listed = np.loadtxt(folder / "partition_info.csv", delimiter=",", skiprows=1, dtype=int)
    assert sorted(int(path.stem.removeprefix("Npix=")) for path in files) == listed[:, 1].tolist()
    for path in files:
        index = pq.ParquetFile(path).read()["_healpix_29"].to_numpy()
        pixel = int(path.stem.removeprefix("Npix="))
        assert (np.diff(index) >= 0).all() and (index >> 2 * 24 == pixel).all()
        assert path.parent.name == f"Dir={pixel // 10000 * 10000}"
    groups = pq.read_metadata(folder / "dataset/_metadata")
    assert groups.num_rows == 4 and groups.row_group(0).column(0).file_path.startswith("Norder=5/Dir=")
    assert "hats_nrows=4\n" in (folder / "hats.properties").read_text()


def test_the_package_hats_reads_it(written):
    hats = pytest.importorskip("hats", reason="hats is not installed: it brings dask")
    catalogue = hats.read_hats(written("hats") / "light_curves")
    assert catalogue.catalog_info.total_rows == 4
    assert catalogue.get_healpix_pixels()[0].order == 5


def test_nested_pixels_of_order_29_are_those_of_astropy_healpix():
    # lonlat_to_healpix(ra, dec, 2**29, order="nested") of astropy_healpix 2.0.1
    golden = [3170535242549443518, 1244903302912239997, 1382886510040969626, 1244907368405812990]
    np.testing.assert_array_equal(healpix.nested(RA, DEC, 29), golden)


def test_sncosmo_ascii(written):
    sncosmo = pytest.importorskip("sncosmo", reason="sncosmo is not installed")
    folder = written("sncosmo")
    assert sorted(path.stem for path in folder.iterdir()) == [str(identifier) for identifier in IDS[:3]]
    for identifier in IDS[:3]:
        found, rows = sncosmo.read_lc(str(folder / f"{identifier}.txt")), expected(identifier, keep_flagged=False)
        same(rows, found["mjd"], found["flux"], found["fluxerr"])
        assert list(found["band"]) == [NAMES[band] for band in rows["band"]]
        assert set(found["zp"]) == {31.4} and set(found["zpsys"]) == {"ab"}
        assert found.meta["diaObjectId"] == identifier and found.meta["time_scale"] == "TAI"
        assert list(found["flags"]) == curves.flag_bits(rows).tolist()


def test_ecsv_has_types_units_and_metadata(written):
    folder = written("sncosmo", file="ecsv")
    for identifier in IDS[:3]:
        found, rows = Table.read(folder / f"{identifier}.ecsv"), expected(identifier, keep_flagged=False)
        same(rows, found["mjd"], found["flux"], found["fluxerr"])
        assert found["flux"].unit == "nJy" and found["flux"].dtype == np.float32 and found["visit"].dtype == np.int64
        assert found.meta["diaObjectId"] == identifier and found.meta["zero_point"] == 31.4
        assert found.meta["dropped_flags"] == "psfFlux_flag, pixelFlags"


@pytest.mark.parametrize("kind", ["ascii", "ecsv"])
def test_sncosmo_fits_what_is_written(written, paths, tmp_path, kind):
    sncosmo = pytest.importorskip("sncosmo", reason="sncosmo is not installed")
    wave, phase = np.linspace(3000, 9000, 61), np.linspace(-20, 60, 81)
    for name, low, high in (("lsstg", 4000, 5500), ("lsstr", 5500, 7000)):
        # the real ones would be downloaded
        sncosmo.register(sncosmo.Bandpass([low, high], [1.0, 1.0], name=name), force=True)
    shape = supernova(phase, 30.0)[:, None] * (wave / 5000)[None, :]  # as those of the demo
    model = sncosmo.Model(sncosmo.TimeSeriesSource(phase, wave, shape))
    truth = {"t0": 60410.0, "amplitude": 3e-17}
    model.set(**truth)

    mjd = np.repeat(np.arange(60390.0, 60450, 3), 2)
    rows = tables.from_columns("dia_forced_source", diaObjectId=IDS[0], midpointMjdTai=mjd, band=["g", "r"] * 20)
    true = model.bandflux([NAMES[band] for band in rows["band"]], mjd, 31.4, "ab")
    rows["psfFluxErr"] = 0.01 * true.max()
    rows["psfFlux"] = true + np.random.default_rng(5).normal(0, rows["psfFluxErr"])
    tables.write("dia_forced_source", rows, tmp_path / "one.parquet")
    found = curves.read(paths[0], tmp_path / "one.parquet", False)
    options = {"sncosmo": {"file": kind, "bands": NAMES}}
    methods.load("lightcurves", "sncosmo").write(found, tmp_path, options)
    if kind == "ascii":
        data = sncosmo.read_lc(str(tmp_path / f"{IDS[0]}.txt"))
    else:
        data = Table.read(tmp_path / f"{IDS[0]}.ecsv")
    model.set(t0=60405.0, amplitude=1e-17)
    result, _ = sncosmo.fit_lc(data, model, list(truth), bounds={"t0": (60390, 60430)})
    assert result.success and result.ndof == 38
    assert 38 - 5 * np.sqrt(76) < result.chisq < 38 + 5 * np.sqrt(76)
    for name, value in zip(result.vparam_names, result.parameters[[model.param_names.index(n) for n in truth]]):
        assert abs(value - truth[name]) < 5 * result.errors[name], name


@pytest.mark.parametrize(("zero_point", "unit"), [(27.5, 1000.0), (31.4, AB20)])
def test_snana_text(written, zero_point, unit):
    sncosmo = pytest.importorskip("sncosmo", reason="sncosmo is not installed")
    folder = written("snana", zero_point=zero_point) / "DIAFLOW"
    names = (folder / "DIAFLOW.LIST").read_text().split()
    assert names == [f"DIAFLOW_{identifier}.DAT" for identifier in IDS[:3]]
    for name, identifier in zip(names, IDS):
        meta, found = sncosmo.read_snana_ascii(str(folder / name), default_tablename="OBS")
        rows, table = expected(identifier, keep_flagged=True), found["OBS"]
        assert meta["SNID"] == identifier and meta["ZP_FLUXCAL"] == zero_point and meta["NOBS"] == len(table)
        assert meta["FILTERS"] == "gr" and meta["time_scale"] == "TAI"
        same(rows, table["MJD"], table["FLUXCAL"], table["FLUXCALERR"], unit / AB20)
        assert list(table["BAND"]) == list(rows["band"])
        assert list(table["PHOTFLAG"]) == curves.flag_bits(rows).tolist()
        assert (folder / name).read_text().endswith("END:\n")
    # of the first object, whose third row was dropped
    assert sncosmo.read_snana_ascii(str(folder / names[0]), "OBS")[1]["OBS"]["FLUXCAL"][3] == pytest.approx(unit)
    assert "  time_scale: TAI\n" in (folder / "DIAFLOW.README").read_text()


def test_snana_fits(written):
    sncosmo = pytest.importorskip("sncosmo", reason="sncosmo is not installed")
    folder = written("snana", file="fits") / "DIAFLOW"
    assert (folder / "DIAFLOW.LIST").read_text() == "DIAFLOW_HEAD.FITS\n"
    head, phot = (str(folder / f"DIAFLOW_{kind}.FITS") for kind in ("HEAD", "PHOT"))
    found = sncosmo.read_snana_fits(head, phot)
    assert [int(each.meta["SNID"]) for each in found] == list(IDS[:3])
    for each, identifier in zip(found, IDS):
        rows = expected(identifier, keep_flagged=True)
        assert each.meta["ZP_FLUXCAL"] == 27.5 and each.meta["NOBS"] == len(rows)
        same(rows, each["MJD"], each["FLUXCAL"], each["FLUXCALERR"], 1000 / AB20)
        assert list(each["BAND"]) == list(rows["band"])
        assert list(each["PHOTFLAG"]) == curves.flag_bits(rows).tolist()
    assert (fits.getdata(phot)["MJD"] == -777).nonzero()[0].tolist() == [7, 7 + 1 + 6, 7 + 1 + 6 + 1 + 8]
    header = fits.getheader(head)
    assert [header[key] for key in ("FILTERS", "PHOTFILE", "TIMESYS")] == ["gr", "DIAFLOW_PHOT.FITS", "TAI"]
    assert header["ZEROPNT"] == 27.5


def test_a_report_for_the_transient_name_server(written):
    reports = json.loads((written("tns") / "at_report_0.json").read_text())["at_report"]
    assert list(reports) == ["0"]
    found = reports["0"]
    assert found["internal_name"] == str(IDS[0]) and found["reporting_groupid"] == 3
    # The second point of MJD 60401, as the first has no flux, and 37 s earlier: UTC.
    assert found["discovery_datetime"] == "2024-04-01.13303"
    assert [point["flux"] for point in found["photometry"].values()] == [20.0] * 5
    assert [point["filterid"] for point in found["photometry"].values()] == [22, 21, 22, 21, 22]
    assert found["non_detection"]["obsdate"] < found["discovery_datetime"]
    assert found["non_detection"]["limiting_flux"] == pytest.approx(31.4 - 2.5 * np.log10(5 * 100.5), abs=1e-3)


def test_dates_of_reports_are_utc_and_carried_into_the_day():
    almost = Time("2026-01-02T23:59:59.9", scale="utc").tai.mjd
    assert tns.utc_date(almost) == "2026-01-03.00000"
    assert tns.utc_date(Time("2026-01-02T12:00:00", scale="utc").tai.mjd) == "2026-01-02.50000"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"objects": []}, "tns.objects is empty"),
        ({"objects": [IDS[3].item()]}, f"DIAObject {IDS[3]} has no light curve"),
        ({"bands": {"g": 1}}, "lightcurves.tns.bands: no name for the band 'r'"),
    ],
)
def test_what_cannot_be_reported_is_named(written, tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        written("tns", **options)
    assert list(tmp_path.iterdir()) == []


def test_an_object_without_an_earlier_point_needs_an_archive(paths):
    row, points, _ = next(iter(curves.read(*paths, False)))
    options = CONFIG["tns"] | {"archive": {}}
    later = points[points["psfFlux"] > 0]
    with pytest.raises(InputError, match=f"tns.archive: DIAObject {IDS[0]} has no point before"):
        tns.report(row, later, options)
    archive = {"archiveid": 0, "archival_remarks": "template"}
    assert tns.report(row, later, options | {"archive": archive})["non_detection"] == archive
    with pytest.raises(InputError, match="was never above 5 sigma"):
        tns.report(row, points[points["psfFlux"] < 0], options)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"sncosmo": {"bands": {"g": "lsstg"}}}, "lightcurves.sncosmo.bands: no name for the band 'r' .*name: g"),
        ({"snana": {}}, "lightcurves.snana.bands: no name for the band 'g' .*name: none"),
        ({"tns": {"bands": {"g": 1, "r": 2}, "reporter": "A"}}, "lightcurves.tns.reporting_group is missing"),
    ],
)
def test_what_a_format_lacks_is_said_before_anything_runs(section, words):
    config = validated({"images": "x", "lightcurves": {"formats": list(section)} | section})
    with pytest.raises(InputError, match=words):
        bands.check(config["lightcurves"], ["r", "g", "r"])


def test_formats_that_are_not_asked_for_need_nothing():
    bands.check(validated({"images": "x", "lightcurves": {"formats": ["csv", "hats"]}})["lightcurves"], ["r"])


def test_two_bands_do_not_share_a_letter(written):
    with pytest.raises(InputError, match="snana.bands: one letter for several bands"):
        written("snana", bands={"g": "g", "r": "g"})


def test_what_made_a_file_is_in_it(written):
    provenance.begin(provenance.Provenance("1.2", "c0de", "c0f", ("tables/dia_object.parquet",)))
    try:
        for name in ("sncosmo", "snana", "fits", "votable", "nested_parquet", "hats"):
            written(name)
        folder = written("csv")
    finally:
        provenance.begin(None)
    assert "@DFCODE c0de" in (folder / f"{IDS[0]}.txt").read_text()
    assert "# DFCODE: c0de" in (folder / f"DIAFLOW/DIAFLOW_{IDS[0]}.DAT").read_text()
    assert fits.getheader(folder / "light_curves.fits", 1)["DFCODE"] == "c0de"
    assert {"c0de"} == {
        p.value for p in parse(folder / "light_curves.vot").get_first_table().params if p.name == "DFCODE"
    }
    assert provenance.read(folder / "light_curves.parquet").code == "c0de"


ABOUT = {
    "station": "X05",
    "submitter": "A. Observer",
    "observers": ["A. Observer", "B. Other"],
    "measurers": ["A. Observer"],
    "telescope": {"design": "Reflector", "aperture": 1.0, "detector": "CCD"},
    "catalogue": "Gaia3",
}


def observations() -> np.ndarray:
    time = Time("2026-01-02T03:04:05.678", scale="utc").tai.mjd
    place = (123.456789, -12.3456789, 0.05 / 3600, 0.06 / 3600)
    return np.array(
        [
            (IDS[1], time + 0.02, *place, np.nan, np.nan, "r", "refcat"),
            (IDS[0], time + 0.01, 359.9999999, *place[1:], 21.53, 0.05, "r", "refcat"),
            (IDS[1], time, *place, 21.53, 0.05, "r", "refcat"),
        ],
        ades.OBSERVATION,
    )


def test_tracklets_for_the_minor_planet_center():
    text, tracklets = ades.psv(observations(), ABOUT)
    assert tracklets == {"df000000": IDS[0], "df000001": IDS[1]}
    head, rows = text.split("trkSub")
    assert head.startswith("# version=2022\n# observatory\n! mpcCode X05\n# submitter\n! name A. Observer\n")
    lines = [dict(zip(ades.FIELDS, map(str.strip, line.split("|")))) for line in rows.splitlines()[1:]]
    assert [line["trkSub"] for line in lines] == ["df000000", "df000001", "df000001"]
    assert lines[1]["obsTime"] == "2026-01-02T03:04:05.678Z" and lines[1]["mag"] == "21.53"
    assert lines[2]["mag"] == lines[2]["rmsMag"] == lines[2]["band"] == ""
    assert lines[1]["ra"] == "123.4567890" and lines[1]["dec"] == "-12.3456789" and lines[1]["rmsDec"] == "0.060"
    widths = {len(line) for line in rows.splitlines()[1:]}
    assert len(widths) == 1 and text.isascii() and "\t" not in text
    assert all(a["obsTime"] <= b["obsTime"] for a, b in pairwise(lines[1:]))


def test_observations_are_the_sources_of_tracklets_with_what_their_visit_says():
    sources = tables.from_columns("dia_source", trackletId=np.array([0, IDS[0], IDS[0]]), visit=np.array([1, 1, 2]))
    sources["band"], sources["psfFlux"], sources["psfFluxErr"] = "r", [1.0, 36307.8055, -5.0], 100.0
    visits = tables.from_columns("visit", visit=np.array([1, 2]), astrometry=np.array(["refcat", "header"], object))
    seen = ades.observations(sources, visits, {"r": "Lr"})
    assert seen["tracklet"].tolist() == [IDS[0]] * 2 and seen["astrometry"].tolist() == ["refcat", "header"]
    assert seen["mag"][0] == pytest.approx(20) and np.isnan(seen["mag"][1]) and set(seen["band"]) == {"Lr"}
    with pytest.raises(InputError, match="ades"):
        ades.observations(sources, visits, {"g": "Lg"})


@pytest.mark.parametrize(("change", "words"), [("header", "rest on 'header'"), (None, "'Xyz' is no code")])
def test_positions_that_may_not_be_submitted_are_refused(change, words):
    rows = observations()
    if change:
        rows["astrometry"][1] = change
    with pytest.raises(InputError, match=words):
        ades.psv(rows, ABOUT if change else ABOUT | {"station": "Xyz"})
