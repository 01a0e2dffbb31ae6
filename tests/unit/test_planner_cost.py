"""Estimates: schedules that can be checked by hand, and costs that follow from earlier jobs."""

import base64
import json

import pytest

from diaflow.run import usage
from planner import changes, cost
from planner.__main__ import overrides
from planner.answer import DEFAULTS
from planner.page import ranges


def test_independent_jobs_share_the_cores():
    assert cost.schedule([10.0] * 6, [1] * 6, [100] * 6, [[]] * 6, cores=3) == (20.0, 300)


def test_chain_takes_the_sum_whatever_the_cores():
    assert cost.schedule([1.0, 2.0, 3.0], [1] * 3, [1] * 3, [[], [0], [1]], cores=8) == (6.0, 1)


def test_job_of_many_threads_has_its_cores_and_no_more():
    """8 core seconds: 2 s on its 4 threads where there are 8 cores, 4 s on 2 cores."""
    assert cost.schedule([8.0], [4], [1], [[]], cores=8) == (2.0, 1)
    assert cost.schedule([8.0], [4], [1], [[]], cores=2) == (4.0, 1)


def test_peak_memory_is_that_of_jobs_that_run_together():
    wall, peak = cost.schedule([1.0, 1.0, 5.0], [1, 1, 2], [10, 20, 25], [[], [], [0, 1]], cores=2)
    assert (wall, peak) == (1.0 + 2.5, 30)


def record(directory, rule, output, start, end, inputs, size, log=""):
    """Make a product, and Snakemake's record of it."""
    (directory / output).parent.mkdir(parents=True, exist_ok=True)
    (directory / output).write_bytes(bytes(size))
    content = {
        "rule": rule,
        "starttime": start,
        "endtime": end,
        "input": ["x"] * inputs,
        "log": [log or output.split("/")[-1]],
        "params": ["False", "'direct'"],  # of storage.compress and template.method
    }
    folder = directory / ".snakemake/metadata"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / base64.urlsafe_b64encode(output.encode()).decode()).write_text(json.dumps(content))


@pytest.fixture
def earlier(tmp_path):
    """A directory in which three calexps and a coadd of ten inputs were made."""
    for visit, seconds in ((1, 4.0), (2, 5.0), (3, 60.0)):
        record(tmp_path, "calexp", f"calexp/{visit}", 100.0, 100.0 + seconds, 3, 1000)
        # Snakemake notes the start of a job output by output.
        record(tmp_path, "calexp", f"src/{visit}", 100.0002, 100.0002 + seconds, 3, 500)
    record(tmp_path, "coadd_template", "coadd/g.fits", 100.0, 121.5, 10, 7)
    return tmp_path


def test_earlier_jobs_give_median_time_and_all_their_outputs(earlier):
    costs = cost.history(earlier, DEFAULTS)
    assert costs["calexp"].earlier_jobs == 3
    assert cost.estimate("calexp", 1, 3, 1, 16.0, 16.0, costs) == pytest.approx((5.0, 1500.0))
    assert cost.estimate("calexp", 4, 3, 1, 16.0, 16.0, costs) == pytest.approx((20.0, 1500.0))


def test_batch_of_visits_is_told_from_single_visits_and_the_other_way_round(earlier):
    """A visit takes 5 s with 1.5 s of start-up.  Batches of four, 1.5 s + 4 x 2 s, are as many jobs and one more."""
    costs = cost.history(earlier, DEFAULTS)
    assert cost.estimate("calexp", 1, 12, 4, 16.0, 16.0, costs) == pytest.approx((1.5 + 4 * 3.5, 4 * 1500.0))
    for first in range(10, 50, 4):
        for visit in range(first, first + 4):
            record(earlier, f"calexp_{first}", f"calexp/{visit}", 200.0, 209.5, 3, 600, log=f"{first}.log")
    costs = cost.history(earlier, DEFAULTS)
    assert cost.estimate("calexp", 1, 3, 1, 16.0, 16.0, costs) == pytest.approx((1.5 + 2.0, 600.0))
    assert costs["calexp"].earlier_jobs == 13


def test_coadd_grows_with_its_inputs_above_the_start_up(earlier):
    """20 s above 1.5 s of start-up for ten inputs: 2 s each."""
    costs = cost.history(earlier, DEFAULTS)
    assert cost.estimate("coadd_template", 1, 25, 0, 0.0, 17.6, costs) == (pytest.approx(51.5), 7)


def test_memory_is_the_most_that_jobs_noted_beside_their_logs(earlier):
    """The calexps of 1 and 2 say what they took; the coadd does not."""
    assert cost.history(earlier, DEFAULTS)["calexp"].memory == 0
    for visit, memory in ((1, 700), (2, 650)):
        usage.write({"rule": "calexp", "threads": 1, "cpu_s": 3.1, "max_mb": memory}, earlier / str(visit))
    costs = cost.history(earlier, DEFAULTS)
    assert (costs["calexp"].memory, costs["coadd_template"].memory) == (700, 0)


def test_jobs_that_chose_otherwise_do_not_tell_and_that_is_said(earlier):
    other = DEFAULTS | {"template": DEFAULTS["template"] | {"method": "inference"}}
    costs = cost.history(earlier, other)
    assert "calexp" in costs and "coadd_template" not in costs
    said = cost.not_modelled(["calexp", "coadd_template"], other, DEFAULTS, costs)
    assert said == ["cost of template.method 'inference' in coadd_template is not modelled: figures are of 'direct'"]
    assert cost.not_modelled(["calexp", "coadd_template"], DEFAULTS, DEFAULTS, {}) == []


def test_without_earlier_jobs_built_in_figures_grow_with_the_pixels(tmp_path):
    costs = cost.history(tmp_path, DEFAULTS)
    assert costs == {}
    small, large = (cost.estimate("calexp", 1, 1, 1, size, size, costs)[0] for size in (10.0, 20.0))
    assert large - small == pytest.approx(small - cost.START_UP)


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
