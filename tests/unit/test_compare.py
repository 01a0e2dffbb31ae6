"""Two runs compared: what differs, by how much and why."""

import json

import numpy as np
import pytest
from astropy.io import fits

from diaflow.image.exposure_file import write_fits
from diaflow.store import provenance, tables
from planner import compare

SIZE = (40, 50)


def write(run, code="aaaaaaaaaaaa", threshold=5.0, flux=100.0, n=3, extra=None, brighter=0.0):
    """A run of one difference, its sources and its record."""
    provenance.begin(provenance.of_job({"code": code, "threshold": threshold}, [f"results/{run.name}/calexp/1"]))
    image = np.random.default_rng(1).normal(0, 2, SIZE).astype(np.float32)
    image[10, 10] += brighter
    planes = [fits.ImageHDU(image, name="IMAGE"), fits.ImageHDU(np.full(SIZE, 4, np.float32), name="VARIANCE")]
    write_fits([fits.PrimaryHDU(), *planes], run / "diffim/1/0.fits")
    table = tables.empty("dia_source", n)
    table["diaSourceId"], table["psfFlux"], table["psfFluxErr"] = np.arange(n), 100.0, 10.0
    table["psfFlux"][0] = flux
    tables.write("dia_source", table, run / "dia_source/1.parquet")
    parts = {"aaaaaaaaaaaa": {"detect/footprints.py": "1"}, "bbbbbbbbbbbb": {"detect/footprints.py": "2"}}
    record = {"code": parts, "config": {"detect": {"threshold": threshold}}, "environment": {"numpy": "2.4.6"}}
    (run / "provenance.json").write_text(json.dumps(record))
    if extra:
        (run / extra).write_text("{}")
    return run


@pytest.fixture(autouse=True)
def no_job():
    yield
    provenance.begin(None)


def said(tmp_path, **other):
    runs = write(tmp_path / "one"), write(tmp_path / "other", **other)
    return compare.text(*compare.compare(*runs))


def test_equal_runs_under_two_names_have_no_difference(tmp_path):
    assert said(tmp_path) == "no difference\n"


def test_other_code_alone_changes_no_product(tmp_path):
    assert said(tmp_path, code="bbbbbbbbbbbb") == "no difference\n"


def test_columns_and_pixels_are_told_by_their_errors_and_the_code_is_named(tmp_path):
    text = said(tmp_path, code="bbbbbbbbbbbb", flux=130.0, brighter=8.0)
    assert "psfFlux: 1 of 3 rows, up to 3 sigma" in text
    assert "IMAGE: 0.0005 of the pixels, rms 4 sigma, up to 4" in text
    assert "because of code: detect/footprints.py" in text


def test_parameters_are_named_by_the_configuration(tmp_path):
    text = said(tmp_path, threshold=6.0, n=4)
    assert "recorded: detect.threshold changed from 5.0 to 6.0" in text
    assert "dia_source/1.parquet: 3 and 4 rows" in text and "because of parameters changed" in text


def test_what_only_one_has_is_counted(tmp_path):
    assert "only in" in (text := said(tmp_path, extra="scores.json")) and "1 of scores.json" in text


def test_a_folder_that_is_not_there_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        compare.main([str(tmp_path), str(tmp_path / "absent")])
    assert "absent: no such folder" in capsys.readouterr().err
