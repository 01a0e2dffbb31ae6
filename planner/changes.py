"""What changed since a product was made, in the words of the configuration: this key, from A to B.

Snakemake records the parameters of a job as an unordered list of their values in Python's notation.  A value that is
gone and one that is new belong together when they look alike; where the new one is in the configuration it is named so.
"""

import ast
import re
from collections.abc import Collection

from diaflow.store.provenance import LENGTH

# Parameters that are not the value of a configuration key, and what they stand for.
MEANING = {
    "exposures": "headers of the images",
    "tract": "tract (skymap, or the images that it holds)",
    "skymap": "tract (skymap, or the images that it holds)",
    "pixels": "instrument map",
    "instrument": "instrument map",
}


def parameters(changed, params, config: dict, history: dict, parts: dict[str, str]) -> list[str]:
    """One line for every key that changed, and one for the code.

    Parameters
    ----------
    changed : snakemake ParamsChange
        Values that only the earlier job has (`only_old`) and only the planned one (`only_new`).
    params : snakemake Params
        Those of the planned job, by name.
    config : dict
        The configuration of the plan.
    history, parts : dict
        As `code` takes them: what digests were, and what makes up the code of the planned job.

    Returns
    -------
    list of str
    """
    old = [_value(text) for text in sorted(changed.only_old)]
    lines = []
    if repr(params.get("code")) in changed.only_new:
        before = next((value for value in old if _is_digest(value)), None)
        lines.append(code(before, parts, history))
        old = [value for value in old if value != before]
    for name, new in params.items():
        if name == "code" or repr(new) not in changed.only_new:
            continue
        before = max(old, key=lambda value: _likeness(value, new), default=None)
        if before in old:
            old.remove(before)
        lines += differences(_key(name, new, config), before, new)
    return lines or (["parameters changed"] if changed else [])


def code(before: str | None, now: dict[str, str], history: dict[str, dict[str, str]]) -> str:
    """The files and packages whose change made a product stale.

    Parameters
    ----------
    before : str or None
        Digest of the code that made it; None where that is not known.
    now : dict of str to str
        The parts of the code of today, with their digests or versions.
    history : dict of str to dict
        The parts of the digests that the run has had.

    Returns
    -------
    str
        One line.
    """
    if before is None:
        return "code: the one that made it is not known"
    if before not in history:
        return f"code changed from {before}, of which this run knows no parts"
    then = history[before]
    different = [name for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]
    return f"code: {', '.join(different)}"


def inputs(before: Collection[str] | None, now: Collection[str]) -> list[str]:
    """How many input files came and went.

    Parameters
    ----------
    before : collection of str or None
        Those of the earlier job; None where that is not known.
    now : collection of str
        Those of the planned job.

    Returns
    -------
    list of str
        One line; none where they are the same.
    """
    if before is None:
        return []
    added, gone = len(set(now) - set(before)), len(set(before) - set(now))
    words = [
        f"{count} input{'s' * (count > 1)} {what}" for count, what in ((added, "added"), (gone, "left out")) if count
    ]
    return [", ".join(words)] if words else []


def _value(text: str):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _is_digest(value) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(f"[0-9a-f]{{{LENGTH}}}", value))


def _likeness(old, new) -> int:
    if isinstance(old, dict) and isinstance(new, dict):
        return 2 + len(old.keys() & new.keys())
    return int(type(old) is type(new))


def _key(name: str, value, config: dict) -> str:
    """Where the configuration has a parameter: as a section or part of one, or under its name in a section."""
    if name in MEANING and config.get(name) != value:
        return MEANING[name]
    for key, entry in [(name, config.get(name)), ("", config), *config.items()]:
        same = entry == value and type(entry) is type(value)  # True is 1
        if same or (isinstance(entry, dict) and isinstance(value, dict) and _part_of(value, entry)):
            return key
    return next((f"{key}.{name}" for key, keys in config.items() if isinstance(keys, dict) and name in keys), name)


def _part_of(value: dict, whole: dict) -> bool:
    return bool(value) and all(key in whole and whole[key] == entry for key, entry in value.items())


def differences(key: str, old, new) -> list[str]:
    """Lines ``key changed from A to B``, one for each entry of a mapping that differs.

    Parameters
    ----------
    key : str
        What the values are of; empty for a whole configuration.
    old, new : object
        Values, or mappings of them.

    Returns
    -------
    list of str
    """
    if key in MEANING.values():
        return [f"{key} changed"]
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [f"{key} changed from {old!r} to {new!r}"]
    lines = []
    for entry in sorted(old.keys() | new.keys()):
        if old.get(entry) != new.get(entry):
            lines += differences(f"{key}.{entry}".lstrip("."), old.get(entry), new.get(entry))
    return lines
