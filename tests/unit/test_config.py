"""Configuration: defaults filled in, every mistake named, the input left alone."""

import copy
import json

import jsonschema
import pytest

from diaflow.errors import InputError
from diaflow.run import config


def test_the_schema_is_valid_and_every_default_obeys_it():
    jsonschema.Draft202012Validator.check_schema(config.schema())
    full = config.validated({"images": "simulated"})
    assert config.validated(full) == full


def test_every_key_is_described():
    def check(entry, where):
        for key, sub in entry.get("properties", {}).items():
            if sub.get("properties"):
                check(sub, f"{where}.{key}")
            elif where or key not in ("metadata",):
                assert sub.get("description"), f"{where}.{key}"

    check(config.schema(), "")


def test_defaults_are_filled_in_at_every_level():
    full = config.validated({"images": ["a/*.fits"], "associate": {"radius": 2.0}})
    assert full["associate"]["radius"] == 2.0 and full["associate"]["algorithm"] == "simple"
    assert full["associate"]["known"] is None and full["associate"]["tracklet_members"] == 3
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
        ({"images": "x", "associate": {"flags": ["psfFlux"]}}, ["associate.flags", "psfFlux", "pixelFlags"]),
        ({"images": "x", "associate": {"radius": "1"}}, ["associate.radius"]),
        ({"images": "x", "subtract": {"algorithm": "magic"}}, ["subtract.algorithm", "magic"]),
        ({"images": "x", "refcat": {"path": "y"}}, ["refcat", "bands"]),
        ({"images": "x", "template": {"mjd": [1]}}, ["template.mjd"]),
        ({"images": 3}, ["images"]),
        ({"images": "x", "calexp": {"psf_size": 10**7}}, ["calexp.psf_size"]),
        ({"images": "x", "calexp": {"max_offset": 1e30}}, ["calexp.max_offset"]),
        ({"images": "x", "calexp": {"max_rotation": 181}}, ["calexp.max_rotation"]),
        ({"images": "x", "skymap": {"pixel_scale": 0}}, ["skymap.pixel_scale"]),
        ({"images": "x", "skymap": {"patch_size": 10**21}}, ["skymap.patch_size"]),
        ({"images": "x", "skymap": {"radius": -1}}, ["skymap.radius"]),
        ({"images": "x", "skymap": {"center": [150, 91]}}, ["skymap.center"]),
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


def test_configurations_of_the_version_with_one_schema_give_what_they_gave(root):
    """Before the options of methods moved to their files: the examples, and what tests and benchmarks used."""

    def kept(before, now):
        if isinstance(before, dict):
            return before.keys() <= now.keys() and all(kept(value, now[key]) for key, value in before.items())
        return before == now

    for name, case in json.loads((root / "tests/data/validated_configs.json").read_text()).items():
        assert kept(case["validated"], config.validated(case["config"])), name


def full(**sections):
    return config.validated({"images": "x"} | sections)


@pytest.mark.parametrize(
    ("chosen", "key", "value"),
    [
        ({"template": {"method": "direct"}}, "dcr", {"latitude": -30, "bands": {"g": [404, 552]}}),
        ({"subtract": {"algorithm": "zogy"}}, "mode", "preconvolve"),
        ({"subtract": {"algorithm": "zogy"}}, "kernel_order", 1),
    ],
)
def test_options_of_other_methods_are_left_out_of_what_products_depend_on(chosen, key, value):
    section, keys = next(iter(chosen.items()))
    before, after = (config.of_chosen_methods(full(**{section: keys | more})) for more in ({}, {key: value}))
    assert before == after and key not in after[section]
    assert before.keys() == full().keys()


def test_options_of_the_chosen_method_are_kept():
    dcr = {"latitude": -30, "longitude": -70, "bands": {"g": [404, 552]}}
    used = config.of_chosen_methods(full(template={"method": "dcr", "dcr": dcr}))
    assert config.method_options(used, "template") == {"dcr": dcr | {"altitude": 0, "subbands": 3}}
    assert config.method_options(full(), "template") == {}
    assert used["subtract"] == full()["subtract"]
    assert config.method_options(full(), "associate") == {}
    multimatch = {"algorithm": "multimatch", "remove_ambiguous": False}
    assert config.method_options(full(associate=multimatch), "associate") == {"remove_ambiguous": False}
