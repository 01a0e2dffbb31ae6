"""Pixels that are not what they should be: types, units, filled regions, shapes, kinds of files and damage to them.

A try is a dictionary; what is not in it is as in the control.
"""

import gzip
import io

import fuzzcontrol as control
import numpy as np
import starfield
from astropy.io import fits
from hypothesis import strategies as st

INTEGERS, FLOATS = ["int16", "uint16", "int32", "uint32", "int64"], ["float32", "float64"]
FILLS = [np.nan, np.inf, -np.inf, 0.0, -999.0, -9999.0, -32768.0, 1e30, -1e30, 3.4e38, 1234.0, 65535.0]
FORMS = ["block", "corner", "columns", "scattered"]
SCALES = [1e-20, 1e-9, 1 / control.EXPTIME, 1e3, 1e12, 1e20]
BLANKS = [-32768, -30000, 0, 1, 100, 32767]
FILES = ["fits", "gz", "fz", "fz lossless", "extension"]
FAR = 1000.0  # from the light of the sky and its stars, beyond all noise [DN]
AXES = ["1 first", "1 1 first", "2 first", "1 last", "none", "one"]
STRUCTURE = ["BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "BZERO", "BSCALE", "BLANK"]
NUMBERS = [-64, -32, -1, 0, 1, 8, 12, 16, 32, 255, 257, 10**9, 2.5, "256", True]

dtypes, floats, integers = (st.sampled_from(names) for names in (INTEGERS + FLOATS, FLOATS, INTEGERS))
files, corners = st.sampled_from(FILES), st.integers(0, 3)
flaws = st.lists(st.tuples(st.sampled_from(FORMS), st.sampled_from(FILLS), corners), max_size=2)
blank_flaw = st.tuples(st.tuples(st.sampled_from(FORMS[:3]), st.just("blank"), corners)).map(list)
damages = st.tuples(st.sampled_from(["flip", "cut"]), st.floats(0, 0.9999))


def tries(**entries: st.SearchStrategy) -> st.SearchStrategy:
    """Dictionaries."""
    return st.fixed_dictionaries(entries)


pixels = st.one_of(
    tries(dtype=dtypes, flaws=flaws, file=files),
    tries(dtype=floats, flaws=flaws, scale=st.sampled_from(SCALES)),
    tries(dtype=floats, flaws=flaws, subtracted=st.just(True)),
    tries(dtype=integers, coarse=st.floats(2, 16)),  # sky noise of 0.9 DN and more
    tries(dtype=integers, flaws=blank_flaw, blank=st.sampled_from(BLANKS), file=files),
    tries(dtype=dtypes, cut=st.tuples(st.integers(1, control.SIZE), st.integers(1, control.SIZE))),
    tries(dtype=dtypes, everywhere=st.sampled_from(FILLS)),
    tries(dtype=dtypes, axes=st.sampled_from(AXES)),
    tries(structure=st.tuples(st.sampled_from(STRUCTURE), st.sampled_from(NUMBERS))),
    tries(dtype=dtypes, file=files, damage=damages),
)


def region(form: str, corner: int, shape: tuple[int, int]) -> np.ndarray:
    """Which pixels have a flaw."""
    ny, nx = shape
    y, x = np.mgrid[:ny, :nx]
    y, x = (ny - 1 - y if corner & 1 else y), (nx - 1 - x if corner & 2 else x)
    if form == "block":
        return (y >= 40) & (y < 130) & (x >= 60) & (x < 160)
    if form == "corner":
        return x + y < 0.6 * nx
    if form == "columns":
        return (x >= 100) & (x < 104)
    return np.random.default_rng(corner).random(shape) < 0.003


def made(attempt: dict) -> tuple[dict, np.ndarray, np.ndarray]:
    """Cards, pixels and which of them have no light of the sky in them."""
    cards, image = control.cards(), control.field().image.astype(float)
    dtype = np.dtype(attempt.get("dtype", "uint16"))
    scale = _scale(attempt)
    if attempt.get("subtracted"):
        image -= starfield.SKY + starfield.BIAS
        cards["BIASLVL"] = 0.0
    image *= scale
    cards |= {"GAIN": cards["GAIN"] / scale, "BIASLVL": cards["BIASLVL"] * scale, "SATURATE": cards["SATURATE"] * scale}
    if dtype.kind in "iu":
        image = np.round(image)
    filled = np.zeros(image.shape, bool)
    if "blank" in attempt:
        # In integers without a sign BLANK is of the numbers that are stored, which are lower.
        blank = attempt["blank"] + (2.0 ** (8 * dtype.itemsize - 1) if dtype.kind == "u" else 0.0)
        cards["BLANK"] = attempt["blank"]
        filled |= image == blank
    light, sky = image.copy(), np.median(image)
    for form, value, corner in attempt.get("flaws", []):
        where = region(form, corner, image.shape)
        if form == "scattered":  # a single pixel stands out where it is above all light, or below the sky
            filled[where] = ~((value <= light + FAR * scale) & (value >= sky - FAR * scale))[where]
        else:
            filled[where] = True
        image[where] = blank if value == "blank" else value
    if "everywhere" in attempt:
        image[:] = attempt["everywhere"]
    return cards, _as_type(image, dtype), filled


def unit(attempt: dict) -> tuple[float, float]:
    """What counts are multiplied with, and the step that they are rounded to in counts of the control."""
    if "structure" in attempt and attempt["structure"][0] == "BSCALE":
        return control.number(attempt["structure"][1]) or 1.0, 0.0  # of the file alone
    return _scale(attempt), attempt.get("coarse", 0.0)


def _scale(attempt: dict) -> float:
    """What counts are multiplied with before they are stored."""
    return attempt.get("scale", 1.0) / attempt.get("coarse", 1.0)


def _as_type(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Pixels in a type, as far as it goes."""
    with np.errstate(all="ignore"):
        if dtype.kind == "f":
            return image.astype(dtype)
        limits = np.iinfo(dtype)
        return np.clip(np.nan_to_num(image, nan=0.0), max(limits.min, -(2.0**62)), min(limits.max, 2.0**62)).astype(
            dtype
        )


def as_file(attempt: dict) -> tuple[str, bytes, np.ndarray]:
    """Name and content of the file of a try, and which pixels have no light of the sky in them."""
    cards, data, filled = made(attempt)
    if "cut" in attempt:
        ny, nx = attempt["cut"]
        data, filled = data[:ny, :nx], filled[:ny, :nx]
    header = [control.card_bytes(*card) for card in cards.items()]
    name, content = _stored(attempt.get("file", "fits"), header, _with_axes(data, attempt.get("axes", "")))
    if "structure" in attempt:
        content = _with_card(content, *attempt["structure"])
    if "damage" in attempt:
        how, where = attempt["damage"]
        at = int(where * len(content))
        content = content[:at] + (bytes([content[at] ^ 0x10]) + content[at + 1 :] if how == "flip" else b"")
    return name, content, filled


def _with_axes(data: np.ndarray, axes: str) -> np.ndarray:
    """Pixels along another number of axes."""
    return {
        "1 first": data[None],
        "1 1 first": data[None, None],
        "2 first": np.stack([data, data]),
        "1 last": data[..., None],
        "none": data[:0].reshape(0),
        "one": data[0],
    }.get(axes, data)


def _with_card(content: bytes, key: str, value: object) -> bytes:
    """A file with another value of a card, or with one more in place of its END."""
    card, at = control.card_bytes(key, value), content.find(key.encode().ljust(8) + b"=")
    at = content.index(b"END     ") if at < 0 else at
    end = b"" if content[at : at + 3] != b"END" else b"END".ljust(80)
    return content[:at] + card + end + content[at + len(card) + len(end) :]


def _stored(kind: str, header: list[bytes], data: np.ndarray) -> tuple[str, bytes]:
    """Name and content of a file of a kind."""
    plain = control.image_bytes(header, data)
    if kind == "fits":
        return "fuzzed.fits", plain
    if kind == "gz":
        return "fuzzed.fits.gz", gzip.compress(plain, 1, mtime=0)
    if kind == "extension":
        primary = control.image_bytes([], np.zeros(0, np.uint8)[:0])
        return "fuzzed.fits", primary + plain.replace(
            b"SIMPLE  =                    T", b"XTENSION= 'IMAGE   '          ", 1
        )
    if data.dtype.kind in "iu" and data.dtype.itemsize > 2:  # all that tiles hold
        plain = control.image_bytes(
            header, data.clip(max(-(2**31), np.iinfo(data.dtype).min), 2**31 - 1).astype(np.int32)
        )
    with fits.open(io.BytesIO(plain), do_not_scale_image_data=True) as hdus:
        stored, cards = hdus[0].data.copy(), hdus[0].header.copy()
    lossless = {"compression_type": "GZIP_2", "quantize_level": 0.0} if kind == "fz lossless" else {}
    hdu = fits.CompImageHDU(stored, cards, do_not_scale_image_data=True, **lossless)
    written = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(written, output_verify="silentfix")
    return "fuzzed.fits.fz", written.getvalue()


def must_be_made(attempt: dict) -> bool:
    """Whether what is left of the image is enough, and its file is whole."""
    return (
        not {"cut", "everywhere", "structure", "damage"} & set(attempt)
        and attempt.get("axes", "1 first") in ("1 first", "1 1 first")
        and len(attempt.get("flaws", [])) < 2
    )


def must_be_refused(attempt: dict) -> bool:
    """Whether there is no image of the sky."""
    return "everywhere" in attempt or attempt.get("axes") in ("2 first", "1 last", "none", "one")
