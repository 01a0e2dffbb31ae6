"""YAML is read as it is written, wherever diaflow reads it."""

import re
from pathlib import Path

import pytest

from diaflow.errors import InputError
from diaflow.instruments import maps
from diaflow.run import config
from diaflow.store import yamltext

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("0012", 12),
        ("-0012", -12),
        ("+7", 7),
        ("08", 8),
        ("0x1F", 31),
        ("1e3", 1000.0),
        ("1.5E-3", 0.0015),
        ("1.", 1.0),
        ("-.5", -0.5),
        ("12:30", "12:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("0o14", "0o14"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("2024-01-05", "2024-01-05"),
        ("2024-01-05T03:04:05Z", "2024-01-05T03:04:05Z"),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("OFF", "OFF"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("'0012'", "0012"),
        ('"true"', "true"),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_a_value_is_what_is_written(written, value):
    read = yamltext.load(f"key: {written}\nlist:\n  - {written}\n")
    for one in (read["key"], read["list"][0]):
        assert one == value and type(one) is type(value)
    if written[:1] not in ("'", '"'):
        assert yamltext.plain(written) == value and type(yamltext.plain(written)) is type(value)


def test_keys_are_text():
    assert yamltext.load("{on: 1, 12: 2, 0012: 3, 1e3: 4, null: 5, y: 6}") == {
        "on": 1, "12": 2, "0012": 3, "1e3": 4, "null": 5, "y": 6,
    }  # fmt: skip


def test_anchors_and_merged_mappings_are_read():
    assert yamltext.load("a: &a {x: 0012, y: 1}\nb: {<<: *a, y: 2}") == {"a": {"x": 12, "y": 1}, "b": {"x": 12, "y": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' comes twice"),
        ("s:\n  a: 1\n  'a': 3", "line 3: the key 'a' comes twice"),
        ("{a: 1, a: 1}", "line 1: the key 'a' comes twice"),
        ("? [1, 2]\n: 3", "a key must be text"),
        ("a: &x [*x]", "recursive"),
        ("a: &x {b: *x}", "recursive"),
        ("a: !!timestamp 2024-01-05", "constructor for the tag"),
        ("a: !!python/name:os.system x", "constructor for the tag"),
        ("a: !!int five", "not valid YAML"),
        ("a: 1e999", "1e999 is too large"),
        ("a: b: c", "line 1: mapping values"),
        ("a:\n\t- 1", "line 2: "),
        ("a: 1\n--- \nb: 1", "another document"),
        ("a: \x00", "not valid YAML"),
        (b"a: \xff\xfe\xff", "not valid YAML"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_its_place(text, message):
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        yamltext.load(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("template: {visits: [12:30]}", "template.visits.0: '12:30' is not of type 'integer'"),
        ("template: {visits: [1_000]}", "template.visits.0: '1_000' is not of type 'integer'"),
        ("template: {visits: [1e3]}", "template.visits.0: 1000.0 is not of type 'integer'"),
        ("template: {mjd: [2024-01-05, 2024-02-05]}", "template.mjd.1: '2024-02-05' is not of type 'number'"),
        ("calexp: {cosmic_rays: no}", "calexp.cosmic_rays: 'no' is not of type 'boolean'"),
        ("associate: {radius: .nan}", "associate.radius: '.nan' is not of type 'number'"),
        ("run: 12", "run: 12 is not of type 'string'"),
    ],
)
def test_a_configuration_with_another_kind_of_value_is_refused_as_it_is_written(written, message, tmp_path):
    (tmp_path / "my.yaml").write_text(f"images: x\n{written}\n")
    with pytest.raises(InputError, match=re.escape(message)):
        config.validated(config.read([tmp_path / "my.yaml"], {}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2.0])
def test_numbers_that_python_cannot_count_with_are_refused(value):
    """As Snakemake makes them of ``--config visits_per_job=nan``."""
    with pytest.raises(InputError, match="visits_per_job"):
        config.validated({"images": "x", "visits_per_job": value})


def test_later_files_count_more_key_by_key_and_the_command_line_most(tmp_path):
    (tmp_path / "a.yaml").write_text("images: x\ntemplate: {visits: [0012, 0014], best: 3}\nbands: [g]\n")
    (tmp_path / "b.yaml").write_text("template: {visits: [0016]}\nrefcat: null\n")
    both = config.read([tmp_path / "a.yaml", tmp_path / "b.yaml"], {"bands": ["r"], "visits_per_job": 4})
    assert both == {
        "images": "x", "template": {"visits": [16], "best": 3}, "refcat": None, "bands": ["r"], "visits_per_job": 4,
    }  # fmt: skip


def test_numbers_of_the_command_line_are_numbers_at_every_depth(tmp_path):
    """Snakemake reads what is not a number by itself with a loader that knows text alone."""
    (tmp_path / "a.yaml").write_text("images: x\n")
    given = {"template": {"visits": ["0012"], "guard": "1e1"}, "run": "12", "detectors": ["0", "1"]}
    read = config.read([tmp_path / "a.yaml"], given)
    assert read["template"] == {"visits": [12], "guard": 10.0} and read["detectors"] == [0, 1]
    assert read["run"] == "12"  # text in quotes: without them Snakemake makes it a number


@pytest.mark.parametrize("text", ["- 1\n- 2", "", "word"])
def test_a_file_that_is_no_mapping_is_named(text, tmp_path):
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(InputError, match=r"my\.yaml: no mapping"):
        config.read([tmp_path / "my.yaml"], {})


def test_an_instrument_map_is_read_as_it_is_written(tmp_path):
    text = (maps.FOLDER / "generic.yaml").read_text()
    (tmp_path / "own.yaml").write_text(text + "  visit: 0012\n")
    with pytest.raises(InputError, match=r"own\.yaml: line \d+: the key 'visit' comes twice"):
        maps.load(str(tmp_path / "own.yaml"))
    (tmp_path / "own.yaml").write_text(re.sub(r"^  visit:.*$", "  visit: 0012", text, flags=re.MULTILINE))
    assert maps.load(str(tmp_path / "own.yaml"))["columns"]["visit"] == 12


def test_no_other_file_of_the_project_loads_yaml():
    files = [path for folder in ("diaflow", "planner", "scripts", "rules") for path in (ROOT / folder).rglob("*.py")]
    users = [path.name for path in files if re.search(r"^import yaml|^from yaml", path.read_text(), re.MULTILINE)]
    assert users == ["yamltext.py"]
