"""Write the page users look at."""

import json
from pathlib import Path

from diaflow import job, report


def described(validation):
    """Figures of the validation by what they are; none for a survey whose truth is not known."""
    if not validation:
        return {}
    from diaflow import validate  # a second of imports that other surveys do not need

    return {validate.FIGURES[name]: value for name, value in json.loads(Path(validation).read_text()).items()}


def main(snakemake):
    given, page = snakemake.input, Path(snakemake.output.page)
    collected = {name: given[name] for name in ("visit", "source", "dia_source", "dia_object", "dia_forced_source")}
    products = page.parent.parent
    report.write(page, products.name, collected, products, described(given.validation))


if __name__ == "__main__":
    job.run(main, snakemake)
