"""Whatever comes in: a product with the right numbers, a failed row with its reason, or one clear line.

Here are two hundred tries, which are always the same; `make fuzz` makes ten thousand others.
"""

import os

import fuzzcatalogues
import fuzzconfigs
import fuzzcontrol as control
import fuzzheaders
import fuzzpixels
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from diaflow.errors import InputError
from diaflow.image.exposure import Exposure
from diaflow.image.planes import in_planes
from diaflow.refcat import convert, formats, store
from diaflow.run import config as configuration
from diaflow.run import plan as planning

TRIES = int(os.environ.get("FUZZ_TRIES", 200))


def check_header(changes, folder):
    cards = fuzzheaders.changed(changes)
    (folder / "fuzzed.fits").write_bytes(control.image_bytes(fuzzheaders.as_bytes(cards), control.counts()))
    outcome = control.run(folder, "fuzzed.fits")
    if isinstance(outcome, control.Refusal):
        control.assert_clear(outcome)
        assert not fuzzheaders.must_be_made(changes), outcome
        return "run refused" if outcome.of_run else "failed"
    assert not fuzzheaders.must_be_refused(changes), outcome.row
    fuzzheaders.assert_as_written(outcome.row, cards)
    control.assert_right(outcome)
    return "made"


def check_pixels(attempt, folder):
    name, content, filled = fuzzpixels.as_file(attempt)
    (folder / name).write_bytes(content)
    outcome = control.run(folder, name)
    if isinstance(outcome, control.Refusal):
        control.assert_clear(outcome)
        assert not fuzzpixels.must_be_made(attempt), outcome
        return "run refused" if outcome.of_run else "failed"
    assert not fuzzpixels.must_be_refused(attempt), outcome
    control.assert_right(outcome, *fuzzpixels.unit(attempt))
    mask = Exposure.read(outcome.path).mask
    ny, nx = np.minimum(mask.shape, filled.shape)  # the header may say another one
    mask, filled = mask[:ny, :nx], filled[:ny, :nx]
    filled = filled & ~in_planes(mask, "EDGE")  # where cosmic rays are not looked for
    if filled.any():
        assert in_planes(mask, "BAD", "NO_DATA", "SAT", "CR")[filled].mean() > 0.98
    return "made"


def check_catalogue(attempt, folder):
    form, kind, what = attempt
    catalogue = fuzzcatalogues.made(kind, what)
    catalogue.section["path"] = str(fuzzcatalogues.write(form, kind, what, catalogue, folder))
    try:
        section = configuration.validated({"images": "x", "refcat": catalogue.section})["refcat"]
        convert.check(section, [control.BAND])
        convert.convert(formats.paths(section["path"]), section, folder / "fuzzed.parquet")
        stars = store.read(folder / "fuzzed.parquet", control.BAND, 150.0, 2.0, 0.1, control.START_UTC)
    except InputError as error:
        refusal = control.Refusal(str(error), of_run=True)
        control.assert_clear(refusal)
        assert not fuzzcatalogues.must_be_made(form, kind, what), refusal
        return "run refused"
    assert not fuzzcatalogues.must_be_refused(kind, what)
    fuzzcatalogues.assert_right(stars, kind, catalogue)
    return "made"


def check_config(changes, folder):
    control.prepared(folder)
    base = {
        "images": [str(folder / "control1.fits")],
        "refcat": {"path": str(folder / "stars.csv"), "bands": {control.BAND: "r"}},
    }
    (folder / "my.yaml").write_text(fuzzconfigs.as_text(changes, base), encoding="utf-8")
    try:
        config = configuration.validated(configuration.read([folder / "my.yaml"], {}))
        fuzzconfigs.assert_as_written(config, changes)
        plan = planning.make(config, folder / "no_exposures.parquet")
        planning.check_selection(plan)
        if config["refcat"] is None:
            return "without a catalogue"
        convert.check(config["refcat"], plan.bands.values())
        convert.convert(formats.paths(config["refcat"]["path"]), config["refcat"], folder / "configured.parquet")
    except InputError as error:
        control.assert_clear(control.Refusal(str(error), of_run=True))
        return "run refused"
    outcome = control.calibrated(plan.usable[0], folder, config, "configured.parquet")
    if isinstance(outcome, control.Refusal):
        control.assert_clear(outcome)
        return "failed"
    fuzzconfigs.assert_right(outcome, config)
    return "made"


# Strategy, check and share of the tries.
KINDS = {
    "header": (fuzzheaders.headers, check_header, 0.3),
    "pixels": (fuzzpixels.pixels, check_pixels, 0.15),
    "catalogue": (fuzzcatalogues.catalogues, check_catalogue, 0.35),
    "config": (fuzzconfigs.configs, check_config, 0.2),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_whatever_comes_in(kind, tmp_path):
    strategy, check, share = KINDS[kind]

    @settings(
        max_examples=round(share * TRIES),
        derandomize="FUZZ_TRIES" not in os.environ,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def attempts(attempt):
        check(attempt, tmp_path)

    attempts()
