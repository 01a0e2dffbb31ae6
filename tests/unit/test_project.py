"""The papers of the project: pins agree, small files, the job runner first, every key and column explained."""

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


@pytest.mark.parametrize(
    ("pattern", "limit"),
    [("Snakefile", 60), ("scripts/*.py", 60), ("diaflow/**/*.py", 400), ("diaflow/**/__init__.py", 40)],
)
def test_files_are_small(root, pattern, limit):
    paths = list(root.glob(pattern))
    assert paths
    for path in paths:
        assert len(path.read_text().splitlines()) <= limit, path


def test_scripts_import_the_job_runner_before_anything_that_loads_blas(root):
    # Snakemake sets OMP_NUM_THREADS to the threads of the rule; the runner sets it to 1, which BLAS reads as it loads.
    for path in (root / "scripts").glob("*.py"):
        imports = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = [
            f"{node.module}.{node.names[0].name}" if isinstance(node, ast.ImportFrom) else node.names[0].name
            for node in imports
        ]
        foreign = [name for name in names if name.split(".")[0] not in sys.stdlib_module_names]
        assert foreign[0] == "diaflow.run.job", path


def test_only_scripts_import_the_job_runner(root):
    for folder in ("diaflow", "planner", "rules"):
        for path in (path for path in (root / folder).rglob("*") if path.suffix in (".py", ".smk")):
            assert not re.search(r"^\s*(import|from) diaflow\.run.*\bjob\b", path.read_text(), re.MULTILINE), path


def test_every_key_of_the_default_configuration_is_explained_and_every_key_is_in_it(root):
    config = yaml.safe_load((root / "config.yaml").read_text())

    def compare(section, values):
        assert set(section["properties"]) == set(values)
        for key, entry in section["properties"].items():
            if "properties" in entry:
                compare(entry, dict.fromkeys(entry["properties"]) if values[key] is None else values[key])
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
    "nJy/arcsec2",
    "arcmin2",
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
    "arcsec/h",
]
