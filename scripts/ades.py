"""Write the observations of tracklets for the Minor Planet Center."""

import json
import logging
from pathlib import Path

from diaflow.run import job

from diaflow.lightcurves import ades
from diaflow.store import tables
from diaflow.store.files import write_text


def main(snakemake):
    inputs, about, folder = snakemake.input, snakemake.params.about, Path(snakemake.output.folder)
    sources, visits = tables.read("dia_source", inputs.dia_sources), tables.read("visit", inputs.visits)
    text, tracklets = ades.psv(ades.observations(sources, visits, about["bands"]), about)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(text, folder / "observations.psv")
    numbers = {name: str(number) for name, number in tracklets.items()}  # JSON has no integers of 64 bits
    write_text(json.dumps(numbers, indent=1) + "\n", folder / "tracklets.json")
    logging.info("%d tracklets", len(tracklets))


if __name__ == "__main__":
    job.run(main, snakemake)
