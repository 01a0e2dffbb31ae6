"""Configuration: validated against its schema, defaults filled in from it.

The schema is `config.schema.yaml` with the options of the methods, which their files declare (see `methods`).
"""

import copy
import functools
from pathlib import Path

import jsonschema
import yaml

from diaflow.errors import InputError
from diaflow.run import methods

SCHEMA = Path(__file__).parent / "config.schema.yaml"


@functools.cache
def schema() -> dict:
    """The whole schema: for every key that names a method, the names that there are and the options of all of them.

    Returns
    -------
    dict
        A JSON schema.

    Raises
    ------
    InputError
        When two descriptions of one key differ, or the declaration of a method cannot be read.
    """
    with open(SCHEMA) as file:
        whole = yaml.load(file, yaml.CSafeLoader)
    for section, (key, room) in choices(whole).items():
        known, found = whole["properties"][section]["properties"], methods.listed(room)
        known[key]["enum"] = list(found)
        for method in found.values():
            for option, entry in method.options.items():
                if known.setdefault(option, entry) != entry:
                    raise InputError(f"{method.module}: {section}.{option} has another description elsewhere")
    return whole


def choices(schema: dict) -> dict[str, tuple[str, str]]:
    """The keys that name a method.

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
        section: (key, choice["room"])
        for section, entry in schema["properties"].items()
        for key, choice in entry.get("properties", {}).items()
        if "room" in choice
    }


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
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema()).iter_errors(config))
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
    for section, (_, room) in choices(schema()).items():
        of_any = {option for method in methods.listed(room).values() for option in method.options}
        foreign = of_any - set(method_options(config, section))
        kept[section] = {key: value for key, value in config[section].items() if key not in foreign}
    return kept


def chosen_methods(config: dict) -> dict[str, str]:
    """The methods that a configuration chooses.

    Parameters
    ----------
    config : dict
        Whole and validated.

    Returns
    -------
    dict of str to str
        By room.
    """
    return {room: config[section][key] for section, (key, room) in choices(schema()).items()}


def method_options(config: dict, section: str) -> dict:
    """Options of the method that a section chooses, without what all methods share.

    Parameters
    ----------
    config : dict
        Whole and validated.
    section : str
        ``template``, for example.

    Returns
    -------
    dict
        Values by key.
    """
    key, room = choices(schema())[section]
    return {option: config[section][option] for option in methods.listed(room)[config[section][key]].options}


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
