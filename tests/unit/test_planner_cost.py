"""Estimates: costs that follow from earlier jobs, from measured figures, and from both where choices differ."""

import base64
import json
from dataclasses import replace

import pytest

from diaflow.run import methods, usage
from diaflow.run.config import choices, of_chosen_methods, schema, validated
from planner import changes, cost
from planner.__main__ import overrides
from planner.page import ranges

USUAL = ["{'cosmic_rays': True}", "False", "'direct'"]  # as Snakemake records storage.compress and template.method
WORK = cost.Work(visits=1, inputs=3, images=16.0, area=16.0, pieces=1)


def record(directory, rule, output, seconds, inputs, size, log="", params=USUAL):
    """Make a product, Snakemake's record of it, and what its job noted."""
    (directory / output).parent.mkdir(parents=True, exist_ok=True)
    (directory / output).write_bytes(bytes(size))
    log = log or output.split("/")[-1]
    usage.write({"rule": rule, "threads": 1, "cpu_s": seconds, "max_mb": 100 * inputs}, directory / log)
    content = {"rule": rule, "endtime": 1.0, "input": ["x"] * inputs, "log": [log]}
    content["params"] = params
    folder = directory / ".snakemake/metadata"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / base64.urlsafe_b64encode(output.encode()).decode()).write_text(json.dumps(content))


@pytest.fixture
def start():
    """Of a calexp: what the figures say [s]."""
    return cost.FIGURES["rules"]["calexp"]["start"]


@pytest.fixture
def earlier(tmp_path, start):
    """A directory in which three calexps and a coadd of ten inputs were made: 3 s for a visit, 2 s for an input."""
    for visit, seconds in ((1, 2.0), (2, 3.0), (3, 60.0)):
        record(tmp_path, "calexp", f"calexp/{visit}", start + seconds, 3, 1000)
        record(tmp_path, "calexp", f"src/{visit}", start + seconds, 3, 500, log=str(visit))
    of_coadd = cost.FIGURES["rules"]["coadd_template"]["start"]
    record(tmp_path, "coadd_template", "coadd/g.fits", of_coadd + 20.0, 10, 7)
    return tmp_path


def estimated(directory, rule, work=WORK, threads=1, **sections):
    """The time of the work, and the size, of a job of a directory where a configuration differs from the defaults."""
    config = of_chosen_methods(validated({"images": "simulated"} | sections))
    known = cost.costs(directory, config, {rule: work})[rule]
    estimate = cost.estimate(rule, threads, work, known)
    return estimate.seconds, estimate.size, estimate.memory, known.earlier_jobs


def test_earlier_jobs_give_median_time_all_their_outputs_and_the_most_memory(earlier):
    assert estimated(earlier, "calexp") == (pytest.approx(3.0), 1500.0, 300, 3)


def test_jobs_that_noted_nothing_do_not_tell(earlier):
    usage.beside(earlier / "3").unlink()
    assert estimated(earlier, "calexp") == (pytest.approx(2.5), 1500.0, 300, 2)


def test_batch_of_visits_is_told_from_single_visits_and_the_other_way_round(earlier, start):
    """A visit takes 3 s above the start.  Batches of four, of 2 s each, are as many jobs and one more."""
    four = replace(WORK, visits=4, inputs=12)
    assert estimated(earlier, "calexp", four)[:2] == pytest.approx((12.0, 6000.0))
    for first in range(10, 50, 4):
        for visit in range(first, first + 4):
            record(earlier, f"calexp_{first}", f"calexp/{visit}", start + 8.0, 3, 600, log=f"{first}.log")
    assert estimated(earlier, "calexp")[:2] == pytest.approx((2.0, 600.0))


def test_visits_that_share_jobs_share_their_starts(tmp_path):
    """What visits_per_job saves: sixteen visits in one job instead of sixteen."""
    config = validated({"images": "simulated"})
    known = cost.costs(tmp_path, config, {"diffim": WORK})["diffim"]
    one = cost.estimate("diffim", 1, WORK, known)
    many = cost.estimate("diffim", 1, cost.Work(16, 48, 16 * WORK.images, 16 * WORK.area, 16), known)
    assert many.seconds == pytest.approx(16 * one.seconds) and many.start == one.start > 0


def test_coadd_grows_with_its_inputs_above_the_start(earlier):
    assert estimated(earlier, "coadd_template", replace(WORK, inputs=25))[:2] == (pytest.approx(50.0), 7)


def choice(rule, **parts):
    """A cost that differs from that of the defaults."""
    return {rule: cost.FIGURES["rules"][rule] | parts}


COADD, DIFFIM = cost.FIGURES["rules"]["coadd_template"], cost.FIGURES["rules"]["diffim"]
FIGURES = {
    "rules": cost.FIGURES["rules"]
    | choice("coadd_template", each=0, size=0, seconds=1.0, memory=100, memory_per_image=0),
    "choices": {
        "template.method=inference": choice(
            "coadd_template", each=0, size=0, seconds=9.0, memory=200, memory_per_image=0
        ),
        "template.method=dcr": choice(
            "coadd_template", each=0, size=0, seconds=18.0, size_per_area=2 * COADD["size_per_area"]
        ),
        "storage.compress=True": choice("diffim", seconds=DIFFIM["seconds"] + 0.5, size=0, size_per_area=1e6),
        "subtract.algorithm=zogy": choice("diffim", seconds=DIFFIM["seconds"] + 1.0),
    },
}


def test_jobs_that_chose_otherwise_tell_by_what_the_choices_cost_over_each_other(earlier, monkeypatch):
    monkeypatch.setattr(cost, "FIGURES", FIGURES)
    inputs = replace(WORK, inputs=10)
    assert estimated(earlier, "coadd_template", inputs, template={"method": "inference"}) == (
        pytest.approx(180.0), 7, pytest.approx(2000), 1
    )  # fmt: skip
    dcr = earlier / "dcr"
    record(dcr, "coadd_template", "coadd/g.fits", COADD["start"] + 36.0, 1, 30, params=["'dcr'"])
    assert estimated(dcr, "coadd_template", inputs, template={"method": "inference"})[:2] == pytest.approx((180.0, 15))
    assert estimated(dcr, "coadd_template", inputs)[:2] == pytest.approx((20.0, 15))


def test_what_choices_add_adds_up(tmp_path, monkeypatch):
    """What compression takes does not depend on the algorithm."""
    monkeypatch.setattr(cost, "FIGURES", FIGURES)
    usual, compressed, zogy, both = (
        estimated(tmp_path, "diffim", **sections)
        for sections in (
            {},
            {"storage": {"compress": True}},
            {"subtract": {"algorithm": "zogy"}},
            {"subtract": {"algorithm": "zogy"}, "storage": {"compress": True}},
        )
    )
    added = [found[0] - usual[0] for found in (compressed, zogy, both)]
    assert added == pytest.approx([0.5 * WORK.images, WORK.images, 1.5 * WORK.images])
    assert both[1] == compressed[1] == pytest.approx(1e6 * WORK.area) and zogy[1] == usual[1]


def every_choice():
    """Each value of each choice of each rule, and the configuration that chooses it."""
    for rule, names in cost.CHOICES.items():
        for name in names:
            for value in cost.values(name):
                section, key = name.split(".")
                yield rule, name, value, of_chosen_methods(validated({"images": "simulated", section: {key: value}}))


def test_what_was_measured_changes_the_cost_and_the_rest_is_said_not_to_be_modelled(tmp_path):
    for rule, name, value, config in every_choice():
        said = cost.not_modelled(config, cost.costs(tmp_path, config, {rule: WORK}))
        measured = f"{name.replace('deep.', 'template.')}={value}"  # a deep coadd costs what a template does
        if value == cost.values(name)[0] or measured in cost.FIGURES["choices"]:
            assert said == []
        else:
            usual = cost.values(name)[0]
            assert said == [f"cost of {name} {value!r} in {rule} is not modelled: figures are of {usual!r}"]


def test_rules_that_were_never_measured_are_said_to_be_so(tmp_path):
    config = validated({"images": "simulated"})
    known = cost.costs(tmp_path, config, {"warp": WORK, "isr": WORK, "no_such_rule": WORK})
    said = cost.not_modelled(config, known)
    assert [line.split(":")[0] for line in said] == [
        "cost of isr is not modelled",
        "cost of no_such_rule is not modelled",
    ]


def test_no_choice_of_a_method_is_forgotten():
    """A new method of a room is asked for its cost, and one more key that chooses methods as well.

    Of the formats of light curves each is a job of its own.
    """
    known = {name for names in cost.CHOICES.values() for name in names}
    of_one = {section: choice for section, choice in choices(schema()).items() if section != "lightcurves"}
    assert {f"{section}.{key}" for section, (key, _) in of_one.items()} <= known
    for section, (key, room) in of_one.items():
        assert set(cost.values(f"{section}.{key}")) == set(methods.listed(room))


def test_figures_are_of_choices_that_there_are():
    """A method that was renamed leaves no figure behind."""
    there = {f"{name}={value}" for _, name, value, _ in every_choice()}
    assert set(cost.FIGURES["choices"]) <= there


def test_earlier_jobs_of_a_choice_without_figures_tell(earlier, monkeypatch):
    monkeypatch.setattr(cost, "FIGURES", FIGURES | {"choices": {}})
    config = validated({"images": "simulated", "template": {"method": "inference"}})
    known = cost.costs(earlier, config, {"calexp": WORK, "coadd_template": WORK})
    assert cost.not_modelled(config, known) and known["coadd_template"].earlier_jobs == 0
    record(earlier, "coadd_template", "coadd/r.fits", 200.0, 10, 7, params=["'inference'"])
    known = cost.costs(earlier, config, {"calexp": WORK, "coadd_template": WORK})
    assert cost.not_modelled(config, known) == [] and known["coadd_template"].earlier_jobs == 1


def test_without_earlier_jobs_figures_grow_with_images_and_pixels(tmp_path):
    """Two images of 16 megapixels take twice the work of one; four of 4 take more than one of 16."""
    works = WORK, replace(WORK, images=32.0, area=32.0, pieces=2), replace(WORK, pieces=4)
    one, two, four = (estimated(tmp_path, "calexp", work)[0] for work in works)
    assert two == pytest.approx(2 * one) and one < four < 4 * one


class Changed:
    only_old = {"{'algorithm': 'simple', 'radius': 0.5}", "'direct'", "31"}
    only_new = {"{'algorithm': 'simple', 'radius': 0.6}", "'psf_matched'", "35"}


def test_changes_are_named_by_key_from_old_to_new():
    config = {
        "associate": {"algorithm": "simple", "radius": 0.6},
        "template": {"method": "psf_matched"},
        "calexp": {"psf_size": 35},
    }
    params = {"associate": config["associate"], "method": "psf_matched", "psf_size": 35}
    assert changes.parameters(Changed, params, config, {}, {}) == [
        "associate.radius changed from 0.5 to 0.6",
        "template.method changed from 'direct' to 'psf_matched'",
        "calexp.psf_size changed from 31 to 35",
    ]


def test_inputs_that_came_and_went_are_counted():
    assert changes.inputs(["a", "b"], ["b", "c", "d"]) == ["2 inputs added, 1 input left out"]
    assert changes.inputs(["a"], ["a"]) == changes.inputs(None, ["a"]) == []


def test_what_if_words_become_nested_configuration():
    words = ["associate.radius=0.6", "run=b", "template.mjd=[1, 2]"]
    assert overrides(words) == {"associate": {"radius": 0.6}, "run": "b", "template": {"mjd": [1, 2]}}


def test_runs_of_visits_are_shortened():
    assert ranges([1, 2, 3, 5, 7, 8]) == "1-3, 5, 7-8"
