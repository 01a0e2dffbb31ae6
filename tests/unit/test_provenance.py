"""What products say of what made them."""

import numpy as np
import pytest
from astropy.io import fits

from diaflow.image.exposure_file import header_metadata, write_fits
from diaflow.store import collect, provenance, tables

INPUTS = ("results/main/calexp/17", "a file with ä and a name of " + 80 * "x")


@pytest.fixture(autouse=True)
def no_job():
    """Other tests are in no job."""
    yield
    provenance.begin(None)


@pytest.fixture
def job():
    """A job that has begun in this process."""
    of_job = provenance.of_job({"code": "0123456789ab", "threshold": 5.0}, INPUTS)
    provenance.begin(of_job)
    return of_job


def test_fits_and_parquet_say_the_same(job, tmp_path):
    write_fits([fits.PrimaryHDU()], tmp_path / "a.fits")
    tables.write("exposure", tables.empty("exposure", 1), tmp_path / "a.parquet")
    assert provenance.read(tmp_path / "a.fits") == job == provenance.read(tmp_path / "a.parquet")
    assert job.code == "0123456789ab" and len(job.inputs) == 2


def test_a_folder_says_what_its_first_file_says(job, tmp_path):
    write_fits([fits.PrimaryHDU()], tmp_path / "17" / "0.fits")
    assert provenance.read(tmp_path / "17") == job


def test_cards_are_no_metadata_of_an_exposure(job, tmp_path):
    write_fits([fits.PrimaryHDU(header=fits.Header({"VISIT": 17}))], tmp_path / "a.fits")
    assert header_metadata(fits.getheader(tmp_path / "a.fits")) == {"visit": 17}


def test_parameters_are_those_beside_the_code_in_any_order():
    one = provenance.of_job({"a": 1, "b": [2], "code": "x"}, [])
    assert one.parameters == provenance.of_job({"b": [2], "code": "y", "a": 1}, []).parameters
    assert one.parameters != provenance.of_job({"a": 2, "b": [1]}, []).parameters


def test_too_many_inputs_are_counted(tmp_path):
    provenance.begin(provenance.of_job({}, map(str, range(1200))))
    write_fits([fits.PrimaryHDU()], tmp_path / "a.fits")
    header = fits.getheader(tmp_path / "a.fits")
    assert header["DFNINP"] == 1200 and "DFIN0001" not in header
    assert provenance.read(tmp_path / "a.fits").inputs is None


@pytest.mark.parametrize("name", ["a.fits", "a.parquet", "a.json", "none"])
def test_what_does_not_say_or_cannot_be_read_gives_nothing(tmp_path, name):
    if name != "none":
        (tmp_path / name).write_text("damaged")
    assert provenance.read(tmp_path / name) is None


def test_without_a_job_files_say_nothing(tmp_path):
    write_fits([fits.PrimaryHDU()], tmp_path / "a.fits")
    tables.write("exposure", tables.empty("exposure", 1), tmp_path / "a.parquet")
    assert provenance.read(tmp_path / "a.fits") is None and provenance.read(tmp_path / "a.parquet") is None
    assert len(tables.read("exposure", tmp_path / "a.parquet")) == 1


def test_a_collected_table_says_what_collected_it(job, tmp_path):
    tables.write("source", tables.from_columns("source", visit=np.array([17])), tmp_path / "17.parquet")
    collecting = provenance.of_job({"code": "ba9876543210"}, [str(tmp_path / "17.parquet")])
    provenance.begin(collecting)
    collect.sources([tmp_path / "17.parquet"], tmp_path / "source.parquet")
    assert provenance.read(tmp_path / "source.parquet") == collecting != job
