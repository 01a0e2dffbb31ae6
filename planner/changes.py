"""What changed since a product was made, in the words of the configuration: this key, from A to B.

Snakemake records the parameters of a job as an unordered list of their values in Python's notation.  A value that is
gone and one that is new belong together when they look alike; where the new one is in the configuration it is named so.
"""

import ast

# Parameters that are not the value of a configuration key, and what they stand for.
MEANING = {
    "exposures": "headers of the images",
    "tract": "tract (skymap, or the images that it holds)",
    "skymap": "tract (skymap, or the images that it holds)",
    "pixels": "instrument map",
    "instrument": "instrument map",
}


def parameters(changed, params, config: dict) -> list[str]:
    """One line for every key that changed.

    Parameters
    ----------
    changed : snakemake ParamsChange
        Values that only the earlier job has (`only_old`) and only the planned one (`only_new`).
    params : snakemake Params
        Those of the planned job, by name.
    config : dict
        The configuration of the plan.

    Returns
    -------
    list of str
    """
    old = [_value(text) for text in sorted(changed.only_old)]
    lines = []
    for name, new in params.items():
        if repr(new) not in changed.only_new:
            continue
        before = max(old, key=lambda value: _likeness(value, new), default=None)
        if before in old:
            old.remove(before)
        lines += _differences(_key(name, new, config), before, new)
    return lines or (["parameters changed"] if changed else [])


def inputs(before: list[str] | None, now: list[str]) -> list[str]:
    """How many input files came and went.

    Parameters
    ----------
    before : list of str or None
        Those of the earlier job; None where that is not known.
    now : list of str
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


def _likeness(old, new) -> int:
    if isinstance(old, dict) and isinstance(new, dict):
        return 2 + len(old.keys() & new.keys())
    return int(type(old) is type(new))


def _key(name: str, value, config: dict) -> str:
    """Where the configuration has a parameter: as a section or part of one, or under its name in a section."""
    if name in MEANING and config.get(name) != value:
        return MEANING[name]
    for key, entry in [(name, config.get(name)), ("", config), *config.items()]:
        if entry == value or (isinstance(entry, dict) and isinstance(value, dict) and _part_of(value, entry)):
            return key
    return next((f"{key}.{name}" for key, keys in config.items() if isinstance(keys, dict) and name in keys), name)


def _part_of(value: dict, whole: dict) -> bool:
    return bool(value) and all(key in whole and whole[key] == entry for key, entry in value.items())


def _differences(key: str, old, new) -> list[str]:
    """Lines ``key changed from A to B``, one for each entry of a mapping that differs."""
    if key in MEANING.values():
        return [f"{key} changed"]
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [f"{key} changed from {old!r} to {new!r}"]
    lines = []
    for entry in sorted(old.keys() | new.keys()):
        if old.get(entry) != new.get(entry):
            lines += _differences(f"{key}.{entry}".lstrip("."), old.get(entry), new.get(entry))
    return lines
