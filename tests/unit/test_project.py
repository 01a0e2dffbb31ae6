"""The papers of the project: pins agree, small scripts, every rule complete, every key and column explained."""

import ast
import re
import sys
import tomllib

import pytest
import yaml

from diaflow.run.config import schema


def pins(root) -> dict[str, str]:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return dict(dependency.split("==") for dependency in project["dependencies"])


def test_conda_environment_has_the_pins_of_pyproject(root):
    listed = yaml.safe_load((root / "envs/diaflow.yaml").read_text())["dependencies"]
    conda = dict(
        re.fullmatch(r"([\w-]+) =+(\S+)", entry).groups() for entry in listed if not entry.startswith("python ")
    )
    conda["snakemake"] = conda.pop("snakemake-minimal")
    assert conda == pins(root)


def test_lock_file_has_the_pins_of_pyproject(root):
    lines = (root / "requirements.lock").read_text().splitlines()
    locked = {name.lower(): version for name, version in (line.split("==") for line in lines if "==" in line)}
    optional = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert pins(root).items() <= locked.items()
    assert dict(pin.split("==") for extra in optional.values() for pin in extra).items() <= locked.items()


def test_scripts_have_at_most_60_lines_and_library_files_at_most_400(root):
    for folder, limit in (("scripts", 60), ("diaflow", 400)):
        for path in (root / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= limit, path


def test_scripts_import_diaflow_before_anything_that_loads_blas(root):
    # Snakemake sets OMP_NUM_THREADS to the threads of the rule; diaflow sets it to 1, which BLAS reads when it loads.
    for path in (root / "scripts").glob("*.py"):
        imports = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports]
        foreign = [name.split(".")[0] for name in names if name.split(".")[0] not in sys.stdlib_module_names]
        assert foreign[0] == "diaflow", path


def test_every_rule_has_a_script_a_log_and_an_environment(root):
    for path in (root / "rules").glob("*.smk"):
        for block in re.split(r"^\s*(?:rule|checkpoint) ", path.read_text(), flags=re.MULTILINE)[1:]:
            assert all(f"{directive}:" in block for directive in ("log", "conda", "script")), (path, block[:40])
            script = re.search(r'script:\s*"\.\./(scripts/\w+\.py)"', block).group(1)
            assert (root / script).exists(), script


def test_every_key_of_the_default_configuration_is_explained_and_every_key_is_in_it(root):
    config = yaml.safe_load((root / "config.yaml").read_text())

    def compare(section, values):
        assert set(section["properties"]) == set(values)
        for key, entry in section["properties"].items():
            if "properties" in entry:
                compare(entry, values[key])
            else:
                assert entry.get("description"), key

    compare(schema(), config)
    for line in (root / "config.yaml").read_text().splitlines():
        if re.match(r"\s*\w+: \S", line):
            assert "#" in line, f"no comment: {line}"


@pytest.mark.parametrize("kind", ["unit", "description"])
def test_every_column_of_every_table_is_described(root, kind):
    for path in (root / "diaflow/store/schemas").glob("*.yaml"):
        for column, entry in yaml.safe_load(path.read_text())["columns"].items():
            assert entry.get("description"), (path.name, column)
            if kind == "unit" and "unit" in entry:
                assert entry["unit"] in UNITS, (path.name, column, entry["unit"])


UNITS = [
    "nJy",
    "nJy/d",
    "d",
    "s",
    "deg",
    "deg2",
    "arcsec",
    "arcsec2",
    "pixel",
    "pixel2",
    "mag",
    "DN",
    "electron",
    "electron/DN",
    "deg/d",
]


def test_every_rule_gets_more_memory_on_slurm_when_it_is_tried_again(root):
    """A new rule needs a line in profiles/slurm/config.yaml."""
    profile = yaml.safe_load((root / "profiles/slurm/config.yaml").read_text())
    text = "".join(path.read_text() for path in (root / "rules").glob("*.smk"))
    rules = set(re.findall(r"^\s*(?:rule|checkpoint) (\w+):", text, re.MULTILINE))
    rules |= set(re.findall(r"^\s*use rule \w+ as (\w+) with:", text, re.MULTILINE))
    rules |= set(re.findall(r'^\s*f"(\w+)\{batch\}"$', text, re.MULTILINE))
    assert rules == set(profile["set-resources"])
    assert set(profile["groups"]) | set(profile["set-threads"]) <= rules
    assert all("attempt" in entry["mem_mb"] for entry in profile["set-resources"].values())
