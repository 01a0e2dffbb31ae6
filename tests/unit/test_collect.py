"""Collected tables: nothing lost, links filled in, order and bytes independent of the files' order, failures kept."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from diaflow.errors import InputError
from diaflow.store import collect, ids, tables


def dia_source_file(folder, visit, n, detectors=(0, 1)):
    """A "dia_source" table of one visit, `n` sources in each detector, last detector first."""
    parts = [
        tables.from_columns("dia_source", diaSourceId=ids.source_ids(visit, d, n), visit=visit, detector=d, band="g")
        for d in detectors[::-1]
    ]
    path = folder / f"{visit}.parquet"
    tables.write("dia_source", tables.concatenate("dia_source", parts), path)
    return path


def link_file(folder, patch, sources, objects):
    path = folder / f"{patch}.parquet"
    tables.write("dia_link", tables.from_columns("dia_link", diaSourceId=sources, diaObjectId=objects), path)
    return path


def test_dia_sources_know_their_objects_and_are_in_order(tmp_path):
    big = ids.MAX_VISIT - 1  # ids beyond 2**53, where floats would lose digits
    paths = [dia_source_file(tmp_path, visit, 3) for visit in (big, 7, 100)]
    first, last = ids.source_ids(7, 0, 1)[0], ids.source_ids(big, 1, 3)[2]
    links = [link_file(tmp_path, "0_0", [last], [first]), link_file(tmp_path, "0_1", [first], [first])]
    collect.dia_sources(paths, links, tmp_path / "out" / "dia_source.parquet")
    table = tables.read("dia_source", tmp_path / "out" / "dia_source.parquet")
    assert len(table) == 18
    assert (np.diff(table["diaSourceId"]) > 0).all()
    np.testing.assert_array_equal(table["visit"], np.repeat([7, 100, big], 6))
    np.testing.assert_array_equal(np.flatnonzero(table["diaObjectId"]), [0, 17])
    assert table["diaObjectId"][17] == first and table["diaSourceId"][17] == last


def test_dia_sources_that_association_left_out_have_no_object_and_are_counted(tmp_path, caplog):
    path, (first, second) = dia_source_file(tmp_path, 7, 2, [0]), ids.source_ids(7, 0, 2)
    with caplog.at_level("INFO"):
        collect.dia_sources([path], [link_file(tmp_path, "0_0", [first, second], [0, second])], tmp_path / "out")
    np.testing.assert_array_equal(tables.read("dia_source", tmp_path / "out")["diaObjectId"], [0, second])
    assert "1 DIASources are of ambiguous objects" in caplog.text


def test_the_bytes_do_not_depend_on_the_order_of_the_files(tmp_path):
    paths = [dia_source_file(tmp_path, visit, 5) for visit in (1, 2, 3, 4)]
    links = [link_file(tmp_path, f"0_{i}", [ids.source_ids(i, 0, 1)[0]], [i]) for i in (1, 2, 3)]
    collect.dia_sources(paths, links, tmp_path / "a")
    collect.dia_sources(paths[::-1], links[::-1], tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_row_groups_hold_many_visits(tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "GROUP_ROWS", 8)
    paths = [dia_source_file(tmp_path, visit, 2) for visit in range(1, 6)]
    collect.dia_sources(paths, [], tmp_path / "out")
    groups = pq.ParquetFile(tmp_path / "out").metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [8, 8, 4]
    assert len(tables.read("dia_source", tmp_path / "out")) == 20


def test_visits_without_sources_are_no_trouble(tmp_path):
    tables.write("dia_source", tables.empty("dia_source"), tmp_path / "none")
    collect.dia_sources([tmp_path / "none"], [], tmp_path / "out")
    assert len(tables.read("dia_source", tmp_path / "out")) == 0
    collect.dia_sources([tmp_path / "none", dia_source_file(tmp_path, 3, 2)], [], tmp_path / "out")
    assert len(tables.read("dia_source", tmp_path / "out")) == 4


def test_a_truncated_table_is_named_and_leaves_nothing(tmp_path):
    good, bad = dia_source_file(tmp_path, 1, 50), dia_source_file(tmp_path, 2, 50)
    bad.write_bytes(bad.read_bytes()[:-200])
    with pytest.raises(InputError, match="2.parquet"):
        collect.dia_sources([good, bad], [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_columns_keep_their_units_and_descriptions(tmp_path):
    collect.dia_sources([dia_source_file(tmp_path, 1, 2)], [], tmp_path / "out")
    metadata = pq.ParquetFile(tmp_path / "out").schema_arrow.field("psfFlux").metadata
    assert metadata[b"unit"] == b"nJy"
    assert pq.ParquetFile(tmp_path / "out").schema_arrow.field("diaObjectId").metadata[b"description"]


@pytest.mark.parametrize(
    ("name", "key", "function"),
    [
        ("source", "sourceId", collect.sources),
        ("dia_forced_source", "diaForcedSourceId", collect.dia_forced_sources),
    ],
)
def test_other_tables_are_put_under_each_other(tmp_path, name, key, function):
    for visit in (9, 2):
        rows = tables.from_columns(name, **{"visit": visit, "detector": [1, 0], key: [visit + 1, visit]})
        tables.write(name, rows, tmp_path / f"{visit}")
    function([tmp_path / "9", tmp_path / "2"], tmp_path / "out")
    table = tables.read(name, tmp_path / "out")
    np.testing.assert_array_equal(table["visit"], [2, 2, 9, 9])
    np.testing.assert_array_equal(table["detector"], [0, 1, 0, 1])
    np.testing.assert_array_equal(table[key], [2, 3, 9, 10])


def test_dia_objects_of_patches_with_different_bands(tmp_path):
    for patch, band, id_ in (("0_0", "r", 5), ("1_0", "g", 3)):
        row = tables.from_columns("dia_object", [band], diaObjectId=id_, patch=patch, **{f"{band}_psfFluxMean": [id_]})
        tables.write("dia_object", row, tmp_path / patch)
    tables.write("dia_object", tables.empty("dia_object"), tmp_path / "2_0")
    collect.dia_objects([tmp_path / p for p in ("2_0", "1_0", "0_0")], [], tmp_path / "out")
    table = tables.read("dia_object", tmp_path / "out")
    np.testing.assert_array_equal(table["diaObjectId"], [3, 5])
    np.testing.assert_array_equal(table["g_psfFluxMean"], [3, np.nan])
    np.testing.assert_array_equal(table["r_psfFluxMean"], [np.nan, 5])
    np.testing.assert_array_equal(table["r_psfFluxNdata"], [0, 0])


def test_dia_objects_with_forced_means_have_the_bands_of_the_photometry_too(tmp_path):
    big = 2**60 + 1  # neighbours of it are the same number in floats
    rows = tables.empty("dia_object", 2, ["g"], ["fpFlux"])
    rows["diaObjectId"] = [big, big + 1]
    tables.write("dia_object", rows, tmp_path / "0_0")
    forced = [
        # object, band, flux, error, flags: neither NaN, nor flagged, nor of an object that is not in the table counts
        (big, "g", 1.0, 1.0, False, False),
        (big, "g", 900.0, 1.0, True, False),
        (big, "g", 900.0, 1.0, False, True),
        (big, "g", np.nan, 1.0, False, False),
        (7, "g", 900.0, 1.0, False, False),
        (big + 2, "g", 900.0, 1.0, False, False),
        (big + 1, "r", 5.0, 2.0, False, False),
    ]
    names = ("diaObjectId", "band", "psfFlux", "psfFluxErr", "psfFlux_flag", "pixelFlags")
    columns = dict(zip(names, map(list, zip(*forced))))
    tables.write("dia_forced_source", tables.from_columns("dia_forced_source", **columns), tmp_path / "1")
    second = tables.from_columns("dia_forced_source", diaObjectId=[big], band="g", psfFlux=4.0, psfFluxErr=2.0)
    tables.write("dia_forced_source", second, tmp_path / "2")
    collect.dia_objects([tmp_path / "0_0"], [tmp_path / "1", tmp_path / "2"], tmp_path / "out")
    table = tables.read("dia_object", tmp_path / "out")
    np.testing.assert_allclose(table["g_fpFluxMean"], [(1 + 4 / 4) / 1.25, np.nan], rtol=1e-6)
    np.testing.assert_allclose(table["g_fpFluxMeanErr"], [1.25**-0.5, np.nan], rtol=1e-6)
    np.testing.assert_allclose(table["r_fpFluxMean"], [np.nan, 5])
    np.testing.assert_array_equal(table["r_psfFluxNdata"], [0, 0])


def test_visits_join_every_step_and_keep_failures(tmp_path):
    exposures = tables.from_columns(
        "exposure",
        visit=[2, 1, 1, -1],
        detector=[0, 1, 0, 0],
        path=["c", "b", "a", "broken"],
        status=["ok", "ok", "ok", "failed"],
        reason=["", "", "", "truncated"],
        kind=["", "", "", "file"],
        mjd=[20.0, 10.0, 10.0, np.nan],
    )
    tables.write("exposure", exposures, tmp_path / "exposure")
    summary = tables.from_columns(
        "visit_summary",
        visit=1,
        detector=[1, 0],
        status=["failed", "ok"],
        reason=["only 2 stars", ""],
        kind=["psf", ""],
        depth=[np.nan, 24.0],
    )
    tables.write("visit_summary", summary, tmp_path / "1")
    difference = tables.from_columns("diffim_summary", visit=1, detector=[0], status="ok", depth=23.5, n_dia_sources=7)
    tables.write("diffim_summary", difference, tmp_path / "d1")
    collect.visits(tmp_path / "exposure", [tmp_path / "1"], [tmp_path / "d1"], tmp_path / "visit")
    table = tables.read("visit", tmp_path / "visit")
    assert table["path"].tolist() == ["broken", "a", "b", "c"]
    assert table["ingest_status"].tolist() == ["failed", "ok", "ok", "ok"]
    assert table["ingest_reason"].tolist() == ["truncated", "", "", ""]
    assert table["ingest_kind"].tolist() == ["file", "", "", ""]
    assert table["calexp_status"].tolist() == ["not run", "ok", "failed", "not run"]
    assert table["calexp_reason"].tolist() == ["", "", "only 2 stars", ""]
    assert table["calexp_kind"].tolist() == ["", "", "psf", ""]
    assert table["diffim_status"].tolist() == ["not run", "ok", "not run", "not run"]
    np.testing.assert_array_equal(table["depth"], np.float32([np.nan, 24, np.nan, np.nan]))
    np.testing.assert_array_equal(table["diffim_depth"], np.float32([np.nan, 23.5, np.nan, np.nan]))
    np.testing.assert_array_equal(table["n_dia_sources"], [0, 7, 0, 0])
    np.testing.assert_array_equal(table["mjd"], [np.nan, 10, 10, 20])


def test_a_file_that_failed_has_no_results_of_another_of_the_same_detector(tmp_path):
    names = {"visit": 1, "detector": 0, "path": ["a", "b"]}
    tables.write("exposure", tables.from_columns("exposure", **names, status=["ok", "failed"]), tmp_path / "exposure")
    tables.write("visit_summary", tables.from_columns("visit_summary", visit=[1], status="ok"), tmp_path / "1")
    collect.visits(tmp_path / "exposure", [tmp_path / "1"], [], tmp_path / "visit")
    assert tables.read("visit", tmp_path / "visit")["calexp_status"].tolist() == ["ok", "not run"]


def test_every_column_of_the_visit_table_is_filled_by_some_step():
    given = set(tables.schema("exposure")) | set(tables.schema("visit_summary")) | set(tables.schema("diffim_summary"))
    made = {f"{step}_{key}" for step in ("ingest", "calexp", "diffim") for key in ("status", "reason", "kind")}
    assert set(tables.schema("visit")) <= given | made | {"diffim_depth"}
