"""Configurations that are not what they should be: keys missing, unknown, twice, of another type or out of range.

A try is a list of keys with the text that stands behind them in the file, since it is the text that YAML changes; the
rest is as in the control.
"""

import re

import fuzzcontrol as control
from hypothesis import strategies as st

from diaflow.run.config import schema

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
NULLS, TRUE, FALSE = {"", "~", "null", "Null", "NULL"}, {"true", "yes", "on"}, {"false", "no", "off"}
TRAPS = [
    "0012", "08", "-007", "+5", "1e3", "1E3", "1.e3", "1_000", "12:30", "12:30:15", "-1:30", "0x1F", "0o17", "0b11",
    ".5", "5.", ".inf", "-.inf", ".nan", "1e400", "yes", "no", "on", "off", "y", "true", "True", "FALSE", "null", "~",
    "", "2024-01-05", "2024-01-05T03:00:00", "'12'", '"1e3"', "1,5", "12 30", "-", "=", "<<", "!!int 12", "&a 12",
    "*a", "[1", "{a: 1", "#12", "@x", "é", "999999999999999999999", "1e-400", "-0", "0.1.2", "1 # one",
    "!!python/name:os.system", "? x", "a: b", "\t5", "|", ">-",
]  # fmt: skip


def _leaves(entry: dict, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], dict]]:
    """All keys that hold values, with their descriptions."""
    if "properties" not in entry:
        return [(path, entry)]
    return [leaf for key, inner in entry["properties"].items() for leaf in _leaves(inner, (*path, key))]


LEAVES = [leaf for leaf in _leaves(schema()) if leaf[0][0] not in ("images", "simulate")]
SECTIONS = sorted({path[0] for path, _ in LEAVES})


def _number(entry: dict, types: list[str]) -> st.SearchStrategy[str]:
    """Texts of numbers in the range of a key, at its ends and beyond."""
    low, high = (entry.get(name, entry.get(f"exclusive{name.title()}")) for name in ("minimum", "maximum"))
    ends = [end + d for end in (low, high) if end is not None for d in (-1, 0, 1)]
    spread = [
        *ends,
        0,
        1,
        2,
        3,
        5,
        12,
        21,
        100,
        1000,
        10**7,
        *([] if "integer" in types else [0.5, 1.5, 7.5, 1e-6, 1e30]),
    ]
    return st.sampled_from(spread).map(repr)


def _text(entry: dict) -> st.SearchStrategy[str]:
    """Texts of a value of the type of a key, or nearly."""
    types = entry.get("type", [])
    types = [types] if isinstance(types, str) else types
    if "enum" in entry:
        return st.sampled_from([*map(str, entry["enum"]), str(entry["enum"][0]).upper(), "none"])
    if "array" in types:
        inner = _text(entry.get("items", {}))
        return st.lists(inner, max_size=4).map(lambda parts: f"[{', '.join(parts)}]")
    if "object" in types:
        return st.sampled_from(
            ["{}", "{r: r}", "{r: 1}", "{gain: 2.0}", "{gain: '2'}", "{gain: 0012}", "{visit: 1e3}", "{r: [1, 2]}"]
        )
    if "boolean" in types:
        return st.sampled_from(["true", "false", "yes", "0", "1"])
    if "number" in types or "integer" in types:
        return _number(entry, types)
    return st.sampled_from(["r", "generic", "a b", "x/y", "..", "*", "1", "é", "results"])


def _set(leaf: tuple) -> st.SearchStrategy[tuple]:
    return st.tuples(
        st.just("set"), st.just(leaf[0]), st.one_of(_text(leaf[1]), _text(leaf[1]), st.sampled_from(TRAPS))
    )


paths = st.sampled_from([path for path, _ in LEAVES])
changes = st.one_of(
    st.sampled_from(LEAVES).flatmap(_set),
    st.sampled_from([leaf for leaf in LEAVES if leaf[0][0] in ("calexp", "skymap", "metadata")]).flatmap(_set),
    st.tuples(
        st.just("set"), paths.map(lambda path: (*path[:-1], path[-1] + "s")), st.sampled_from(["1", "[]", "null"])
    ),
    st.tuples(st.just("set"), st.sampled_from(SECTIONS).map(lambda key: (key,)), st.sampled_from(TRAPS)),
    st.tuples(st.just("twice"), paths, st.sampled_from(["1", "2", "[]"])),
)
configs = st.one_of(
    changes.map(lambda change: [change]),
    st.lists(changes, min_size=1, max_size=3, unique_by=lambda change: change[1]),
)


def as_text(config_changes: list[tuple], base: dict) -> str:
    """The file: `base` with the changes."""
    tree = {key: dict(value) if isinstance(value, dict) else value for key, value in base.items()}
    for kind, path, text in config_changes:
        inner = tree
        for key in path[:-1]:
            if not isinstance(inner.get(key), dict):
                inner[key] = {}
            inner = inner[key]
        inner[path[-1]] = text
        if kind == "twice":
            inner[path[-1] + " "] = text
    return _lines(tree, "")


def _lines(tree: dict, indent: str) -> str:
    entries = [
        f"{indent}{key}:\n{_lines(value, indent + '  ')}" if isinstance(value, dict) else f"{indent}{key}: {value}\n"
        for key, value in tree.items()
    ]
    return "".join(entries)


def assert_as_written(config: dict, config_changes: list[tuple]) -> None:
    """No value is another one than its text."""
    for n, (kind, path, text) in enumerate(config_changes):
        if any(all(a == b for a, b in zip(path, later)) for _, later, _ in config_changes[n + 1 :]):
            continue  # a later change took its place, or that of its section
        assert kind != "twice", path
        value = config
        for key in path:
            if not isinstance(value, dict):
                break  # another change took the section's place
            value = value[key]
        else:
            assert _is_written(value, text), (path, text, value)


def _is_written(value: object, text: str) -> bool:
    text = text.split(" #")[0].strip()
    if isinstance(value, list):
        parts = [part.strip() for part in text.strip("[]").split(",")] if text.strip("[]") else []
        return len(parts) == len(value) and all(map(_is_written, value, parts))
    if isinstance(value, dict):
        return text.startswith("{") or text == ""
    if value is None:
        return text in NULLS or text.startswith("#")
    if isinstance(value, bool):
        return text.lower() in (TRUE if value else FALSE)
    if isinstance(value, str):
        return value in (text, text.strip("'\""), text.strip("|>-"))
    text = text.removeprefix("!!int ").removeprefix("&a ")
    if re.fullmatch(r"0[xob][0-9A-Fa-f]+", text):
        return value == int(text, 0)
    return bool(NUMBER.fullmatch(text)) and float(text) == float(value)


def assert_right(product: control.Product, config: dict) -> None:
    """The numbers are those of the control, unless the configuration asks for others."""
    if not config["calexp"]["trust"]:
        control.assert_right(product)
