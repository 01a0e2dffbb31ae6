"""What made a product: the version, the code, the parameters and the inputs, written into every FITS and parquet file.

A job says once what it is; what it then writes carries it.  Products that were copied without Snakemake's records are
compared by these words.  There is no date among them: equal products are equal files.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PACKAGE = "diaflow"
PREFIX = "DF"  # of the cards
METADATA = b"provenance"  # key of the metadata of parquet files
MAX_CARDS = 999  # inputs that are named in a header; of more the number alone
LENGTH = 12  # hexadecimal digits of a digest: two of a million states of the code agree with a chance of 2e-3
VERSION, CODE, PARAMETERS, N_INPUTS = "DFVERS", "DFCODE", "DFCONF", "DFNINP"


@dataclass(frozen=True)
class Provenance:
    """What made a product.

    Attributes
    ----------
    version : str
        Of diaflow.
    code : str
        Digest of what the script of the job consists of.
    parameters : str
        Digest of the other parameters of the job.
    inputs : tuple of str, or None
        Paths as the job names them; None where they are too many for the header that tells the rest.
    """

    version: str
    code: str
    parameters: str
    inputs: tuple[str, ...] | None


_of_this_process: Provenance | None = None


def digest(content: str | bytes) -> str:
    """A short digest of a text.

    Parameters
    ----------
    content : str or bytes

    Returns
    -------
    str
    """
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:LENGTH]


def of_job(parameters: Mapping, inputs: Iterable[str]) -> Provenance:
    """What a job is.

    Parameters
    ----------
    parameters : mapping
        Those of the job by name; `code` is the digest of its code.
    inputs : iterable of str

    Returns
    -------
    Provenance
    """
    others = sorted((name, repr(value)) for name, value in parameters.items() if name != "code")
    # A header holds nothing but ASCII.
    paths = (str(path).encode("ascii", "backslashreplace").decode() for path in inputs)
    return Provenance(version(PACKAGE), str(parameters.get("code", "")), digest(repr(others)), tuple(paths))


def begin(provenance: Provenance | None) -> None:
    """Let all that this process writes from now on carry what made it.

    Parameters
    ----------
    provenance : Provenance or None
        None where what follows is no job.
    """
    global _of_this_process
    _of_this_process = provenance


def cards() -> list[tuple[str, str | int, str]]:
    """What a FITS header says of what made the file.

    Returns
    -------
    list of (keyword, value, comment)
        Empty outside of a job.
    """
    now = _of_this_process
    if now is None or now.inputs is None:
        return []
    named = now.inputs if len(now.inputs) <= MAX_CARDS else ()
    return [
        (VERSION, now.version, "diaflow"),
        (CODE, now.code, "digest of the code of the job"),
        (PARAMETERS, now.parameters, "digest of its parameters"),
        (N_INPUTS, len(now.inputs), "number of its inputs"),
        *((f"{PREFIX}IN{number:04d}", path, "") for number, path in enumerate(named, 1)),
    ]


def is_card(keyword: str) -> bool:
    """Whether a card of a header is one of `cards`.

    Parameters
    ----------
    keyword : str

    Returns
    -------
    bool
    """
    return keyword in (VERSION, CODE, PARAMETERS, N_INPUTS) or (
        keyword.startswith(f"{PREFIX}IN") and keyword[len(PREFIX) + 2 :].isdigit()
    )


def metadata() -> dict[bytes, bytes]:
    """What the metadata of a parquet file say of what made it.

    Returns
    -------
    dict
        Empty outside of a job.
    """
    now = _of_this_process
    return {} if now is None else {METADATA: json.dumps(vars(now)).encode()}


def read(product: str | Path) -> Provenance | None:
    """What made a product, as its file says, or the first file of a folder.

    Parameters
    ----------
    product : path

    Returns
    -------
    Provenance or None
        None where the product does not say, or cannot be read.
    """
    product = Path(product)
    files = sorted(product.iterdir()) if product.is_dir() else [product]
    path = next((file for file in files if file.suffix in _READERS), None)
    try:
        return _READERS[path.suffix](path) if path else None
    except (OSError, KeyError, ValueError, TypeError):
        return None


def _of_header(path: Path) -> Provenance:
    from astropy.io import fits  # jobs that read no image do without

    header = fits.getheader(path)
    numbers = range(1, header[N_INPUTS] + 1)
    inputs = tuple(header[f"{PREFIX}IN{number:04d}"] for number in numbers) if len(numbers) <= MAX_CARDS else None
    return Provenance(header[VERSION], header[CODE], header[PARAMETERS], inputs)


def _of_parquet(path: Path) -> Provenance:
    import pyarrow.parquet as pq  # as above

    said = json.loads(pq.read_schema(path).metadata[METADATA])
    return Provenance(**said | {"inputs": tuple(said["inputs"])})


_READERS = {".fits": _of_header, ".parquet": _of_parquet}
