"""Files that are there only when they are complete, and files that something has damaged all the same.

Every product is written under a temporary name beside its own, which says the machine and the process, so that two
jobs that make the same product never write into one file.
"""

import glob
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diaflow.errors import InputError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to; what is there when the block ends becomes `path`, unless the block fails.

    The folder is made when it is missing; what killed jobs left of the same file is removed.

    Parameters
    ----------
    path : path

    Yields
    ------
    Path
        In the same folder.

    Raises
    ------
    InputError
        When the disk is full or may not be written to; the message names `path`.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.uname().nodename}-{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for remnant in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
            remnant.unlink(missing_ok=True)
        try:
            yield part
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def write_text(text: str, path: str | Path) -> None:
    """Write a text file, which appears under its name only when it is complete.

    Parameters
    ----------
    text : str
    path : path

    Raises
    ------
    InputError
        When it cannot be written.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def matching(pattern: str) -> list[str]:
    """The files that a path or glob pattern of the configuration stands for.

    Parameters
    ----------
    pattern : str
        Relative to the working directory, or absolute; ``**`` goes through folders.

    Returns
    -------
    list of str
        Paths as the pattern begins, in the order of the alphabet; empty where nothing matches.
    """
    # A file whose name has brackets in it is itself before it is a pattern.
    found = [pattern] if os.path.isfile(pattern) else glob.glob(pattern, recursive=True)
    return sorted(path for path in found if not os.path.isdir(path))


def existing(pattern: str, key: str) -> list[str]:
    """The files that a key of the configuration stands for, of which there must be one.

    Parameters
    ----------
    pattern : str
        As for `matching`.
    key : str
        Of the configuration.

    Returns
    -------
    list of str
        As of `matching`.

    Raises
    ------
    InputError
        When nothing matches; the message names the key, the pattern and the folder in which it was looked for.
    """
    files = matching(pattern)
    if not files:
        raise InputError(f"{key}: no file matches {pattern} (looked in {_searched(pattern)})")
    return files


def _searched(pattern: str) -> str:
    """The folder of a pattern, up to where wildcards begin, in full."""
    folders = Path(pattern).parent, *Path(pattern).parents
    folder = os.path.abspath(next(folder for folder in folders if not glob.has_magic(str(folder))))
    return folder if os.path.isdir(folder) else f"{folder}, which is no folder"


def damaged(product: str | Path) -> list[Path]:
    """The files of a product that end before they should or hold something else.

    FITS files are as long as their headers say, parquet files end with their magic bytes, JSON files can be parsed.
    Files that cannot be opened at all (no permission, a disk that does not answer) are not called damaged.

    Parameters
    ----------
    product : path
        A file, or a folder of files.

    Returns
    -------
    list of Path
    """
    product = Path(product)
    files = sorted(product.iterdir()) if product.is_dir() else [product]
    return [path for path in files if path.suffix in _COMPLETE and path.is_file() and not _complete(path)]


def _complete(path: Path) -> bool:
    try:
        return _COMPLETE[path.suffix](path)
    except OSError as error:
        return error.errno is not None


def _complete_fits(path: Path) -> bool:
    from astropy.io import fits  # only a job that failed comes here

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(path, memmap=False) as hdus:
            last = [hdu.fileinfo() for hdu in hdus][-1]
    return last["datLoc"] + last["datSpan"] == path.stat().st_size


def _complete_parquet(path: Path) -> bool:
    with open(path, "rb") as file:
        begin, size = file.read(4), file.seek(0, os.SEEK_END)
        file.seek(max(size - 4, 0))
        return size > 8 and begin == file.read() == b"PAR1"


def _complete_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True


_COMPLETE = {".fits": _complete_fits, ".parquet": _complete_parquet, ".json": _complete_json}
