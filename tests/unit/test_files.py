"""Files appear when they are complete; damaged ones are told from those that only cannot be opened."""

import os
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

from diaflow.errors import InputError
from diaflow.image.exposure_file import write_fits
from diaflow.store import files, tables


def test_file_appears_only_when_its_block_ends(tmp_path):
    path = tmp_path / "new/a.txt"
    with files.replacing(path) as part:
        part.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half" and os.listdir(path.parent) == ["a.txt"]


def test_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text("old", path)
    with pytest.raises(ZeroDivisionError), files.replacing(path) as part:
        part.write_text("half")
        1 / 0  # noqa: B018
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    path = tmp_path / "a[1].txt"
    script = f"""
import os, signal
from diaflow.store import files
with files.replacing({str(path)!r}) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    assert len(os.listdir(tmp_path)) == 1 and not path.exists()
    files.write_text("whole", path)
    assert os.listdir(tmp_path) == ["a[1].txt"] and path.read_text() == "whole"


def test_two_processes_do_not_write_into_one_file(tmp_path):
    def part_of(pid):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "getpid", lambda: pid)
            with pytest.raises(InputError), files.replacing(tmp_path / "a") as part:
                raise OSError("stop")
        return part

    assert part_of(1) != part_of(2)


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(InputError, match="folder/a.txt: cannot be written"):
        files.write_text("x", tmp_path / "folder/a.txt")


@pytest.fixture
def product(tmp_path):
    """A folder with one sound file of each kind."""
    pixels = np.arange(5000, dtype=np.float32).reshape(50, 100)
    write_fits([fits.PrimaryHDU(), fits.ImageHDU(pixels), fits.CompImageHDU(pixels)], tmp_path / "a.fits")
    tables.write("dia_link", tables.from_columns("dia_link", diaSourceId=np.arange(1000)), tmp_path / "b.parquet")
    files.write_text('{"c": 1}', tmp_path / "c.json")
    (tmp_path / ".snakemake_timestamp").touch()
    return tmp_path


def test_sound_files_are_not_damaged(product):
    assert files.damaged(product) == []


@pytest.mark.parametrize("name", ["a.fits", "b.parquet", "c.json"])
@pytest.mark.parametrize("fraction", [0, 0.3, 0.6, 0.95])
def test_truncated_files_are_found_in_their_folder_and_alone(product, name, fraction):
    path = product / name
    os.truncate(path, int(path.stat().st_size * fraction))
    assert files.damaged(product) == files.damaged(path) == [path]


@pytest.mark.parametrize("name", ["a.fits", "b.parquet", "c.json"])
def test_files_of_zeros_are_damaged(product, name):
    path = product / name
    path.write_bytes(bytes(path.stat().st_size))
    assert files.damaged(product) == [path]


def test_files_that_cannot_be_opened_are_not_called_damaged(product):
    assert files.damaged(product / "absent.fits") == []
    (product / "a.fits").unlink()
    (product / "a.fits").symlink_to("a.fits")  # a file system that answers with an error
    assert files.damaged(product / "a.fits") == []


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [
        ("none.fits", ""),
        ("night/*.fit", "night"),
        ("./night/../night/**/*.fit", "night"),
        ("night*/*.fit", ""),
        ("elsewhere/*.fits", "elsewhere, which is no folder"),
        ("night", ""),
    ],
)
def test_the_folder_is_named_in_which_nothing_matched(tmp_path, monkeypatch, pattern, folder):
    (tmp_path / "night").mkdir()
    (tmp_path / "night/a.fits").touch()
    monkeypatch.chdir(tmp_path)
    for written in (pattern, f"{tmp_path}/{pattern}"):
        with pytest.raises(InputError) as refused:
            files.existing(written, "images")
        searched = str(tmp_path / folder) if folder else str(tmp_path)
        assert str(refused.value) == f"images: no file matches {written} (looked in {searched})"


def test_a_path_is_itself_before_it_is_a_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a[1].fits", "a1.fits"):
        (tmp_path / name).touch()
    assert files.existing("a[1].fits", "images") == ["a[1].fits"]
    assert files.existing("a?.fits", "images") == ["a1.fits"]
