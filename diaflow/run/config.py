"""Configuration: read as it is written, validated against its schema, defaults filled in from it.

The schema is `config.schema.yaml` with the options of the methods, which their files declare (see `methods`), and with
the columns of tables that a key may name.
"""

import copy
import functools
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import jsonschema

from diaflow.errors import InputError
from diaflow.run import methods
from diaflow.store import yamltext

SCHEMA = Path(__file__).parent / "config.schema.yaml"
TABLES = Path(__file__).parent.parent / "store" / "schemas"


def _is_integer(_, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(checker, value: object) -> bool:
    return _is_integer(checker, value) or isinstance(value, float) and math.isfinite(value)


# JSON Schema takes 2.0 for an integer, and not-a-number for a number: Python counts with neither.
_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": _is_integer, "number": _is_number}
    ),
)


@functools.cache
def schema() -> dict:
    """The whole schema, with the names that a key may have.

    For every key that names a method, these are the methods that there are, and the options of all of them are keys;
    for a list of flags (``flag_of``) they are the flag columns of a table, for one of options (``option_of``) the
    options that its columns belong to.

    Returns
    -------
    dict
        A JSON schema.

    Raises
    ------
    InputError
        When two descriptions of one key differ, or the declaration of a method cannot be read.
    """
    whole = yamltext.load(SCHEMA.read_bytes())
    for section, (key, room) in choices(whole).items():
        known, found = whole["properties"][section]["properties"], methods.listed(room)
        _name(known[key])["enum"] = list(found)
        for method in found.values():
            for option, entry in method.options.items():
                if known.setdefault(option, entry) != entry:
                    raise InputError(f"{method.module}: {section}.{option} has another description elsewhere")
    for section in whole["properties"].values():
        for entry in section.get("properties", {}).values():
            names = _names_of_table(entry.get("items", {}))
            if names:
                entry["items"]["enum"] = names
    return whole


def choices(schema: dict) -> dict[str, tuple[str, str]]:
    """The keys that name a method, or list several.

    Parameters
    ----------
    schema : dict
        Of the whole configuration.

    Returns
    -------
    dict of str to (str, str)
        By section, the key and the room that has the methods.
    """
    return {
        section: (key, _name(choice)["room"])
        for section, entry in schema["properties"].items()
        for key, choice in entry.get("properties", {}).items()
        if "room" in _name(choice)
    }


def _name(choice: dict) -> dict:
    """The part of the schema that describes a name: that of the key, or of each in its list."""
    return choice.get("items", choice)


def read(paths: Iterable[str | Path], command_line: dict) -> dict:
    """The configuration of some files, each over those before it, with that of the command line over all.

    Parameters
    ----------
    paths : iterable of path
        YAML files.
    command_line : dict
        What Snakemake makes of ``--config``: numbers inside of lists and mappings are text.

    Returns
    -------
    dict
        Not validated.

    Raises
    ------
    InputError
        When a file cannot be read or is no mapping; the message names it.
    """
    config: dict = {}
    for path in paths:
        try:
            content = yamltext.load(Path(path).read_bytes())
        except OSError as error:
            raise InputError(f"config {path}: {error.strerror}") from error
        except InputError as error:
            raise InputError(f"config {path}: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"config {path}: no mapping of keys to values")
        config = _merged(config, content)
    return _merged(config, {key: _numbers_of_text(value) for key, value in command_line.items()})


def _merged(config: dict, over: dict) -> dict:
    """Two configurations, the second over the first, key by key in mappings."""
    merged = dict(config)
    for key, value in over.items():
        before = config.get(key)
        merged[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def _numbers_of_text(value: object, depth: int = 0) -> object:
    """A value of the command line; only inside of lists and mappings Snakemake leaves numbers as text."""
    if isinstance(value, dict):
        return {key: _numbers_of_text(entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, list):
        return [_numbers_of_text(entry, depth + 1) for entry in value]
    return yamltext.plain(value) if depth and isinstance(value, str) else value


def validated(config: dict) -> dict:
    """A copy of the configuration with every default filled in.

    Parameters
    ----------
    config : dict
        As in the file.

    Returns
    -------
    dict
        With every key of the schema.

    Raises
    ------
    InputError
        When a key is unknown or missing, or a value not allowed; the message names the key.
    """
    error = jsonschema.exceptions.best_match(_Validator(schema()).iter_errors(config))
    if error:
        raise InputError(_message(error))
    return _filled(config, schema())


def of_chosen_methods(config: dict) -> dict:
    """The configuration without the options of methods that it does not choose: no product depends on them.

    Parameters
    ----------
    config : dict
        Whole and validated.

    Returns
    -------
    dict
        With all sections.
    """
    kept = dict(config)
    for section, (key, room) in choices(schema()).items():
        found, named = methods.listed(room), config[section][key]
        chosen = named if isinstance(named, list) else [named]
        foreign = {option for method in found.values() for option in method.options}
        foreign -= {option for name in chosen for option in found[name].options}
        kept[section] = {option: value for option, value in config[section].items() if option not in foreign}
    return kept


def chosen_methods(config: dict) -> dict[str, str]:
    """The methods that all jobs of a configuration use: of a room from which it may choose several, none.

    Parameters
    ----------
    config : dict
        Whole and validated.

    Returns
    -------
    dict of str to str
        By room.
    """
    named = defaultdict(list)
    for section, (key, room) in choices(schema()).items():
        named[room].append(config[section][key])
    return {room: names[0] for room, names in named.items() if len(names) == 1 and isinstance(names[0], str)}


def method_options(config: dict, section: str, name: str | None = None) -> dict:
    """Options of the method that a section chooses, without what all methods share.

    Parameters
    ----------
    config : dict
        Whole and validated.
    section : str
        ``template``, for example.
    name : str, optional
        Of the method, where the section lists several.

    Returns
    -------
    dict
        Values by key.
    """
    key, room = choices(schema())[section]
    return {option: config[section][option] for option in methods.listed(room)[name or config[section][key]].options}


def _names_of_table(items: dict) -> list[str]:
    """What a list may name of a table: its flags (``flag_of``) or the options of its columns (``option_of``)."""
    for word in ("flag_of", "option_of"):
        if word in items:
            columns = yamltext.load((TABLES / f"{items[word]}.yaml").read_bytes())["columns"]
            if word == "flag_of":
                return [name for name, column in columns.items() if column["type"] == "bool"]
            return list(dict.fromkeys(column["option"] for column in columns.values() if "option" in column))
    return []


def _filled(config: dict, schema: dict) -> dict:
    full = {}
    for key, entry in schema["properties"].items():
        value = copy.deepcopy(config[key] if key in config else entry.get("default"))
        full[key] = _filled(value, entry) if isinstance(value, dict) and "properties" in entry else value
    return full


def _message(error: jsonschema.ValidationError) -> str:
    where = ".".join(str(step) for step in error.absolute_path)
    if error.validator == "additionalProperties" and isinstance(error.schema.get("properties"), dict):
        known = error.schema["properties"]
        unknown = ", ".join(f"'{key}'" for key in error.instance if key not in known)
        return f"config: unknown key {unknown} in {where or 'the top level'} (known: {', '.join(known)})"
    if error.validator == "required":
        missing = [key for key in error.schema["required"] if key not in error.instance]
        return f"config: {where + '.' if where else ''}{missing[0]} is missing"
    return f"config: {where}: {error.message}"
