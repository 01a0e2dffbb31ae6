"""Known objects get their names, where they are at the date, and nothing else does."""

import numpy as np

from diaflow.associate import known
from diaflow.store import collect, tables


def table_of(**columns):
    return tables.from_columns("position", **columns)


KNOWN = np.concatenate([
    table_of(positionId=np.array([1]), name="a star", ra=10.0, dec=0.0, pmRa=1 / 3600, pmDec=0.0, epoch=60000.0),
    table_of(positionId=np.array([2, 2]), name="a comet", ra=np.array([359.9, 0.1]), dec=0.0, mjd=[60000.0, 60010.0]),
])  # fmt: skip


def test_names_are_those_at_the_date_also_across_ra_zero():
    ra = np.array([10.0, 10.0 + 5 / 3600, 10.0 + 5 / 3600, 0.0, 0.0, np.nan])
    mjd = np.array([60005.0, 60005.0, 60000.0, 60005.0, 60011.0, 60005.0])
    name, separation = known.names(KNOWN, ra, np.zeros(6), mjd, 0.5)
    assert name.tolist() == ["", "a star", "", "a comet", "", ""]
    np.testing.assert_allclose(separation, [np.nan, 0, np.nan, 0, np.nan, np.nan], atol=1e-4)


def test_the_distance_is_in_arcseconds_and_the_nearest_counts():
    two = np.concatenate([table_of(positionId=np.array([k]), name=f"{k}", ra=0.3 * k / 3600, dec=60.0) for k in (0, 2)])
    name, separation = known.names(two, np.array([0.2 / 3600]), np.array([60.0]), np.array([60000.0]), 0.5)
    assert name[0] == "0" and np.isclose(separation[0], 0.1, rtol=1e-4)


def test_collected_sources_and_objects_have_the_names(tmp_path):
    rows = tables.from_columns(
        "dia_source", diaSourceId=np.array([2**60 + 1, 2**60 + 2]), visit=7, midpointMjdTai=60005.0
    )
    rows["ra"], rows["dec"] = [0.0, 5.0], 0.0
    tables.write("dia_source", rows, tmp_path / "7.parquet")
    objects = tables.from_columns("dia_object", ["r"], diaObjectId=np.array([5]), ra=0.0, dec=0.0)
    objects["firstDiaSourceMjdTai"], objects["lastDiaSourceMjdTai"] = 60004.0, 60006.0
    tables.write("dia_object", objects, tmp_path / "o.parquet")

    def names(rows):
        return known.columns(rows, KNOWN, 0.5)

    collect.dia_sources([tmp_path / "7.parquet"], [], tmp_path / "sources", names)
    collect.dia_objects([tmp_path / "o.parquet"], [], tmp_path / "objects", names)
    sources, objects = tables.read("dia_source", tmp_path / "sources"), tables.read("dia_object", tmp_path / "objects")
    assert sources["knownName"].tolist() == ["a comet", ""] and objects["knownName"].tolist() == ["a comet"]
    assert sources["diaSourceId"].tolist() == [2**60 + 1, 2**60 + 2] and np.isnan(sources["knownSeparation"][1])
