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
    """How many input files came and went."""
    if before is None:
        return []
    added, gone = len(set(now) - set(before)), len(set(before) - set(now))
    words = [f"{count} inputs {what}" for count, what in ((added, "added"), (gone, "left out")) if count]
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
    """Where the configuration has a parameter: under its name, or else anywhere with the same value."""
    if name in MEANING and config.get(name) != value:
        return MEANING[name]
    if config.get(name) == value:
        return name
    places = [
        (f"{section}.{key}", entry)
        for section, keys in config.items()
        if isinstance(keys, dict)
        for key, entry in keys.items()
    ]
    same_name = [place for place, entry in places if place.endswith(f".{name}") and entry == value]
    if same_name:
        return same_name[0]
    if isinstance(value, dict):
        return next((section for section, entry in config.items() if value and entry == value), "")
    return name


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
