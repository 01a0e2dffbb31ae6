"""Identifiers of any kind are integers, the same in every run, and those of different stars differ."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from diaflow.errors import InputError
from diaflow.refcat import identifiers, store
from diaflow.refcat.columns import column
from diaflow.refcat.convert import convert
from diaflow.run.config import validated
from diaflow.store import tables


def numbered(values, kind=None) -> list[int]:
    return identifiers.of_column(column("name", pa.array(values, kind), "")).tolist()


def test_integers_of_64_bits_are_themselves_also_as_text():
    values = [0, 7, -7, 2**63 - 1, -(2**63), 2**53 + 1]
    assert numbered(values) == values == numbered([str(value) for value in values])
    assert numbered([1.0, 2.0**60]) == [1, 2**60]


def test_integers_beyond_64_bits_and_text_are_hashed_alike_wherever_they_stand():
    big = [2**63, 2**64 - 1]
    assert numbered(big, pa.uint64()) == numbered([str(value) for value in big])
    names = ["Gaia DR3 4295806720", "0012", "12", "99999999999999999999", "J1000+02", "ä", "1.5"]
    together = numbered(names)
    assert together == [numbered([name])[0] for name in names] == numbered([f" {name} " for name in names])
    assert together[::-1] == numbered(names[::-1]) and len(set(together)) == len(names) and together[2] == 12


def test_identifiers_stay_what_they_are():
    """Another number for the same name would be another star in the next run."""
    assert numbered(["Gaia DR3 4295806720", "J1000+02"]) == [8105415751949408326, -2689322993513360260]
    assert identifiers.of_positions(np.array([10.5]), np.array([-1.25])).tolist() == [8914810005838231624]


def test_a_million_names_have_a_million_numbers_that_fill_64_bits():
    ids = np.array(numbered([f"J{k}" for k in range(1_000_000)]))
    assert len(np.unique(ids)) == len(ids)
    # each bit is set in half of them: 6 sigma of a binomial of a million
    bits = (ids[:, None] >> np.arange(0, 64, 7)) & 1
    assert np.all(np.abs(bits.mean(0) - 0.5) < 6 * 0.5 / 1000)


def test_positions_are_identifiers_and_both_coordinates_count():
    ra, dec = (axis.ravel() for axis in np.meshgrid(np.arange(100.0), np.arange(-50.0, 50.0)))
    assert len(np.unique(identifiers.of_positions(ra, dec))) == len(ra)
    zero = identifiers.of_positions(np.zeros(2), np.array([0.0, -0.0]))
    assert zero[0] == zero[1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.5, 2.0], "not whole"),
        ([1, None], "1 rows with a position have no identifier"),
        (["a", ""], "1 rows with a position have no identifier"),
        ([np.nan, 1.0], "1 rows with a position have no identifier"),
    ],
)
def test_what_is_no_identifier_is_refused(values, message):
    with pytest.raises(InputError, match=rf"column 'name' \(refcat.id\).*{message}"):
        numbered(values)


def stored(folder: Path, lines: list[str], identifier: str | None) -> np.ndarray:
    (folder / "stars.csv").write_text("name,ra,dec,r\n" + "\n".join(lines) + "\n")
    refcat = {"path": "stars.csv", "id": identifier, "bands": {"r": "r"}}
    convert([folder / "stars.csv"], validated({"images": "x", "refcat": refcat})["refcat"], folder / "store")
    return tables.read(store.TABLE, folder / "store")


@pytest.mark.parametrize("identifier", ["name", None])
def test_identifiers_do_not_depend_on_the_order_of_rows(identifier, tmp_path):
    lines = [f"star {k},{10 + 0.1 * k},{-1 + 0.03 * k},15" for k in range(30)]
    one = stored(tmp_path, lines, identifier)
    other = stored(tmp_path, lines[::-1], identifier)
    assert dict(zip(one["ra"].tolist(), one["id"].tolist())) == dict(zip(other["ra"].tolist(), other["id"].tolist()))
    assert len(np.unique(one["id"])) == 30


def test_what_repeats_is_refused_with_its_place(tmp_path):
    lines = ["a,10,1,15", "b,11,1,15", "a,12,1,15"]
    with pytest.raises(InputError, match=r"column 'name' \(refcat.id\) .* 1 rows .* at 10.000000, \+1.000000"):
        stored(tmp_path, lines, "name")
    with pytest.raises(InputError, match=r"their positions \(refcat.id\) must tell stars apart, but 1 rows"):
        stored(tmp_path, [*lines, "c,10,1,16"], None)
