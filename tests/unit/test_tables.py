"""Tables: typed round trip, schema enforced both ways, nothing half-written, bands."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from diaflow.errors import InputError
from diaflow.store import tables

NAMES = sorted(path.stem for path in tables.SCHEMAS.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_declared_column_has_a_known_type_and_a_description(name):
    for column, entry in tables.schema(name).items():
        assert entry["type"] in {"bool", "int32", "int64", "float32", "float64", "string"}, column
        assert entry["description"], column
        assert set(entry) <= {"type", "unit", "option", "description"}, column
    assert "description" in yaml.safe_load((tables.SCHEMAS / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_rows", [0, 3])
def test_every_table_survives_a_round_trip(name, n_rows, tmp_path):
    rng = np.random.default_rng(3)
    table = tables.empty(name, n_rows, ["g", "z"])
    for column in table.dtype.names:
        kind = table.dtype[column].kind
        if kind == "O":
            table[column] = [f"é{i}" for i in range(n_rows)]
        elif kind == "b":
            table[column] = rng.random(n_rows) < 0.5
        elif kind == "i":
            table[column] = rng.integers(0, np.iinfo(table.dtype[column]).max, n_rows)
        else:
            table[column] = rng.normal(size=n_rows)
    tables.write(name, table, tmp_path / "deep" / "table.parquet")
    back = tables.read(name, tmp_path / "deep" / "table.parquet")
    assert back.dtype == table.dtype
    for column in table.dtype.names:
        np.testing.assert_array_equal(back[column], table[column])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["table.parquet"]


def test_an_empty_table_means_nothing_is_known():
    table = tables.empty("dia_source", 2)
    assert np.isnan(table["psfFlux"]).all() and (table["diaObjectId"] == 0).all()
    assert not table["isDipole"].any() and table["band"].tolist() == ["", ""]


def test_large_ids_keep_every_digit(tmp_path):
    id_ = 2**62 + 1
    tables.write("dia_link", tables.from_columns("dia_link", diaSourceId=[id_]), tmp_path / "t")
    assert tables.read("dia_link", tmp_path / "t")["diaSourceId"][0] == id_


def test_other_readers_see_names_types_and_units(tmp_path):
    tables.write("dia_object", tables.empty("dia_object", 1, ["g"]), tmp_path / "t")
    fields = pq.read_table(tmp_path / "t").schema
    assert fields.field("diaObjectId").type == pa.int64()
    assert fields.field("g_psfFluxMean").metadata[b"unit"] == b"nJy"
    assert b"Inverse-variance" in fields.field("g_psfFluxMean").metadata[b"description"]


def test_the_same_table_gives_the_same_bytes(tmp_path):
    table = tables.from_columns("dia_link", diaSourceId=np.arange(1000))
    tables.write("dia_link", table, tmp_path / "a")
    tables.write("dia_link", table.copy(), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_from_columns_takes_scalars_and_refuses_unknown_names():
    table = tables.from_columns("dia_link", diaSourceId=[1, 2, 3], diaObjectId=7)
    assert table["diaObjectId"].tolist() == [7, 7, 7]
    assert len(tables.from_columns("dia_link", diaSourceId=[], diaObjectId=7)) == 0
    assert len(tables.from_columns("dia_link", diaSourceId=1)) == 1
    with pytest.raises(KeyError, match="dia_link has no column ra"):
        tables.from_columns("dia_link", ra=[1.0])
    with pytest.raises(ValueError):
        tables.from_columns("dia_link", diaSourceId=[1, 2, 3], diaObjectId=[1, 2])


def test_writing_other_columns_than_declared_is_refused(tmp_path):
    table = tables.from_columns("dia_link", diaSourceId=[1])
    with pytest.raises(KeyError, match="diaObjectId"):
        tables.write("dia_link", table[["diaSourceId"]], tmp_path / "t")
    with pytest.raises(KeyError, match="g_psfFluxMeanErr"):
        columns = [c for c in tables.columns("dia_object", ["g"]) if c != "g_psfFluxMeanErr"]
        tables.write("dia_object", tables.empty("dia_object", 1, ["g"])[columns], tmp_path / "t")
    assert not list(tmp_path.iterdir())


def test_some_columns_can_be_read_alone_in_the_order_asked_for(tmp_path):
    tables.write("dia_link", tables.from_columns("dia_link", diaSourceId=[1], diaObjectId=[2]), tmp_path / "t")
    part = tables.read("dia_link", tmp_path / "t", only=["diaObjectId"])
    assert part.dtype.names == ("diaObjectId",) and part["diaObjectId"].tolist() == [2]
    with pytest.raises(InputError, match="no_such_column"):
        tables.read("dia_link", tmp_path / "t", only=["no_such_column"])


def test_unreadable_files_are_named(tmp_path):
    table = tables.from_columns("dia_link", diaSourceId=np.arange(10_000))
    tables.write("dia_link", table, tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    (tmp_path / "truncated").write_bytes(data[: len(data) // 2])
    (tmp_path / "nothing").write_bytes(b"")
    (tmp_path / "text").write_text("visit,detector\n1,2\n")
    for name in ("truncated", "nothing", "text", "missing"):
        with pytest.raises(InputError, match=name):
            tables.read("dia_link", tmp_path / name)
    pq.write_table(pa.table({"diaSourceId": [1]}), tmp_path / "other")
    with pytest.raises(InputError, match="other: table dia_link lacks the columns .'diaObjectId'"):
        tables.read("dia_link", tmp_path / "other")


def test_a_failed_write_leaves_the_old_table(tmp_path, monkeypatch):
    old = tables.from_columns("dia_link", diaSourceId=[1])
    tables.write("dia_link", old, tmp_path / "t")

    def full_disk(table, path, **kwargs):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(tables.pq, "write_table", full_disk)
    with pytest.raises(InputError, match="cannot be written .no space left"):
        tables.write("dia_link", tables.from_columns("dia_link", diaSourceId=[2]), tmp_path / "t")
    assert tables.read("dia_link", tmp_path / "t")["diaSourceId"].tolist() == [1]


def test_concatenation_is_over_the_bands_of_all_parts():
    g = tables.from_columns("dia_object", ["g"], diaObjectId=[1], g_psfFluxMean=[10.0])
    r = tables.from_columns("dia_object", ["r"], diaObjectId=[2], r_psfFluxMean=[20.0])
    both = tables.concatenate("dia_object", [r, g, tables.empty("dia_object")])
    assert both["diaObjectId"].tolist() == [2, 1]
    np.testing.assert_array_equal(both["g_psfFluxMean"], [np.nan, 10])
    np.testing.assert_array_equal(both["r_psfFluxMean"], [20, np.nan])
    assert both["g_psfFluxNdata"].tolist() == [0, 0]
    assert len(tables.concatenate("dia_object", [])) == 0


def test_bands_with_long_names_are_recognised(tmp_path):
    table = tables.empty("dia_object", 1, ["N540", "r_old"])
    tables.write("dia_object", table, tmp_path / "t")
    assert tables.read("dia_object", tmp_path / "t").dtype == table.dtype


def test_visits_are_written_to_the_files_of_their_names_also_those_without_rows(tmp_path):
    table = tables.from_columns("source", visit=[7, 3, 7], sourceId=[1, 2, 3])
    tables.write_visits("source", table, [tmp_path / f"{visit}.parquet" for visit in (3, 5, 7)])
    ids = {visit: tables.read("source", tmp_path / f"{visit}.parquet")["sourceId"].tolist() for visit in (3, 5, 7)}
    assert ids == {3: [2], 5: [], 7: [1, 3]}
