"""Write the page users look at."""

import json
from pathlib import Path

from diaflow import job, report, validate


def main(snakemake):
    given, page = snakemake.input, Path(snakemake.output.page)
    collected = {name: given[name] for name in ("visit", "source", "dia_source", "dia_object", "dia_forced_source")}
    figures = json.loads(Path(given.validation).read_text()) if given.validation else {}
    described = {validate.FIGURES[name]: value for name, value in figures.items()}
    products = page.parent.parent
    report.write(page, products.name, collected, products, described)


if __name__ == "__main__":
    job.run(main, snakemake)
