"""The page of all skies: failures first, and what cannot be scored is shown with its reason."""

import importlib.util
import json

import numpy as np
import pytest
import yaml


@pytest.fixture
def skies(root, tmp_path, monkeypatch):
    """docs/skies.py, with a folder of its own for skies and results."""
    spec = importlib.util.spec_from_file_location("skies", root / "docs/skies.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "IMAGES", tmp_path / "images")
    monkeypatch.setattr(module, "PAGE", tmp_path / "skies.md")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "skies.json")
    monkeypatch.setattr(module, "MISSED", tmp_path / "skies.yaml")
    (tmp_path / "config/skies").mkdir(parents=True)
    (tmp_path / "config/skies/murky.yaml").write_text("# Fog\n# and rain.\nrun: murky\n")
    return module


def row(name: str, value: float, met: bool | None, of: str = "") -> dict:
    bar = "" if met is None else "≤ 1"
    return {"name": name, "of": of, "value": value, "error": 0.1, "n": 7, "expected": 0.0, "bar": bar, "met": met}


RESULTS = {
    "murky": {
        "alard_lupton": {
            "seconds": 60,
            "figures": [
                row("repeatability", 0.004, None),
                row("zero_point_rms", 0.5, True),
                row("fwhm_rms", 2.0, False),
                row("close_pairs", 0.0, True, "DIAObjects"),
            ],
            "reasons": {"calexp failed: no stars": 2},
            "worst": [],
        },
        "zogy": {
            "seconds": 30,
            "figures": [row("close_pairs", float("nan"), False, "DIAObjects")],
            "reasons": {},
            "worst": [],
        },
    }
}


def test_figures_that_miss_their_bar_come_first(skies):
    lines = [line for line in skies.page(RESULTS).splitlines() if line.endswith("|") and "(7)" in line]
    assert [("**" in line) for line in lines] == [True, True, False, False]
    assert lines[-1].startswith("| scatter of a bright star")
    assert "**nan ± 0.1** (7)" in lines[1] and "0 ± 0.1 (7)" in lines[1]


def test_why_a_bar_is_missed_stands_on_the_page(skies):
    assert "- fwhm_rms (alard_lupton): not looked into" in skies.page(RESULTS)
    (skies.ROOT / "skies.yaml").write_text("murky: {fwhm_rms: rain}\n")
    page = skies.page(RESULTS)
    assert "- fwhm_rms (alard_lupton): rain" in page
    assert "- close_pairs: DIAObjects (zogy): too few to tell" in page


def test_every_missed_bar_of_the_committed_page_has_its_reason(root):
    """And no reason is kept for a bar that is met."""
    results = json.loads((root / "docs/skies.json").read_text())
    reasons = yaml.safe_load((root / "docs/skies.yaml").read_text())
    missed = {
        (sky, f"{row['name']}: {row['of']}" if row["of"] else row["name"])
        for sky, by_algorithm in results.items()
        for entry in by_algorithm.values()
        for row in entry.get("figures", [])
        if row["met"] is False and np.isfinite(row["value"])
    }
    assert missed == {(sky, key) for sky, of_sky in reasons.items() for key in of_sky}


def test_the_page_says_what_a_sky_is_and_which_images_are_not_there(skies):
    page = skies.page(RESULTS)
    assert "Fog and rain." in page
    assert "- 2 × calexp failed: no stars" in page
    assert "| [murky](#murky) | alard_lupton | 2 of 3 | 2 | 1.0 |" in page


def test_a_run_that_fails_is_shown_with_its_errors_and_keeps_the_others(skies, tmp_path, monkeypatch):
    (tmp_path / "config/skies/calm.yaml").write_text("run: calm\n")
    (tmp_path / "skies.json").write_text(json.dumps(RESULTS))
    skies.main(["calm"])  # there is no workflow in this folder
    results = json.loads((tmp_path / "skies.json").read_text())
    assert set(results) == {"calm", "murky"}
    assert "Snakefile" in results["calm"]["zogy"]["failure"]
    page = (tmp_path / "skies.md").read_text()
    assert "no score" in page and "Fog and rain." in page


def test_jobs_that_failed_are_named_with_the_last_line_of_their_log(skies, tmp_path):
    (tmp_path / "calexp.log").write_text("Traceback\nKeyError: 'x'\n")
    job = "Error in rule {0}:\n    jobid: 2\n    log: {0}.log (check log file(s) for error details)\n"
    output = "Building DAG\n" + job.format("calexp") * 2 + job.format("diffim") + "Shutting down\n"
    assert skies.failure(output) == "calexp: KeyError: 'x'\ndiffim: stopped without a word"
    assert skies.failure("nothing\n\nhelps\n") == "nothing\nhelps"
