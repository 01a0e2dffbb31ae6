"""Configuration: validated against `config.schema.yaml`, defaults filled in from it."""

import copy
from pathlib import Path

import jsonschema
import yaml

from diaflow.errors import InputError

SCHEMA = Path(__file__).parent / "config.schema.yaml"


def validated(config: dict) -> dict:
    """A copy of the configuration with every default filled in.

    Raises
    ------
    InputError
        When a key is unknown or missing, or a value not allowed; the message names the key.
    """
    with open(SCHEMA) as file:
        schema = yaml.load(file, yaml.CSafeLoader)
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(config))
    if error:
        raise InputError(_message(error))
    return _filled(config, schema)


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
