"""Configuration: defaults filled in, every mistake named, the input left alone."""

import copy

import jsonschema
import pytest
import yaml

from diaflow.errors import InputError
from diaflow.run import config


def test_the_schema_is_valid_and_every_default_obeys_it():
    schema = yaml.safe_load(config.SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    full = config.validated({"images": "simulated"})
    assert config.validated(full) == full


def test_every_key_is_described():
    def check(entry, where):
        for key, sub in entry.get("properties", {}).items():
            if sub.get("properties"):
                check(sub, f"{where}.{key}")
            elif where or key not in ("metadata",):
                assert sub.get("description"), f"{where}.{key}"

    check(yaml.safe_load(config.SCHEMA.read_text()), "")


def test_defaults_are_filled_in_at_every_level():
    full = config.validated({"images": ["a/*.fits"], "associate": {"radius": 2.0}})
    assert full["associate"] == {"algorithm": "simple", "radius": 2.0}
    assert full["detect"]["threshold"] == 5.0
    assert full["refcat"] is None and full["run"] == "main"


def test_optional_sections_without_a_value_stay_empty_and_given_ones_are_completed():
    full = config.validated({"images": "x", "refcat": {"path": "stars.fits", "bands": {"g": "gmag"}}})
    assert full["refcat"]["ra"] == "ra" and full["refcat"]["errors"] == {}


def test_the_input_is_not_changed_and_not_shared():
    given = {"images": ["a"], "associate": {"radius": 1}, "metadata": {"gain": 4.0}}
    before = copy.deepcopy(given)
    full = config.validated(given)
    full["images"].append("b")
    full["metadata"]["gain"] = 0
    assert given == before
    full["template"]["visits"].append(1)
    assert config.validated(given)["template"]["visits"] == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ["images", "missing"]),
        ({"images": "x", "asociate": {}}, ["asociate", "associate"]),
        ({"images": "x", "associate": {"tolerance": 1}}, ["tolerance", "associate", "radius"]),
        ({"images": "x", "associate": {"radius": -1}}, ["associate.radius"]),
        ({"images": "x", "associate": {"radius": "1"}}, ["associate.radius"]),
        ({"images": "x", "subtract": {"algorithm": "magic"}}, ["subtract.algorithm", "magic"]),
        ({"images": "x", "refcat": {"path": "y"}}, ["refcat", "bands"]),
        ({"images": "x", "template": {"mjd": [1]}}, ["template.mjd"]),
        ({"images": 3}, ["images"]),
        ({"images": "x", "run": "a/b"}, ["run"]),
        ({"images": "x", "associate": None}, ["associate"]),
        ({"images": "x", "simulate": {"detectors": 1.5}}, ["simulate.detectors"]),
    ],
)
def test_mistakes_are_named(given, words):
    with pytest.raises(InputError) as error:
        config.validated(given)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message
