"""Write the page users look at."""

import json
from pathlib import Path

from diaflow.run import job

from diaflow.report import page


def described(validation):
    """Figures of the validation by what they are; none for a survey whose truth is not known."""
    if not validation:
        return {}
    from diaflow.validate import scores  # a second of imports that other surveys do not need

    return {scores.FIGURES[name]: value for name, value in json.loads(Path(validation).read_text()).items()}


def main(snakemake):
    path = Path(snakemake.output.page)
    collected = {
        name: snakemake.input[name] for name in ("visit", "source", "dia_source", "dia_object", "dia_forced_source")
    }
    products = path.parent.parent
    page.write(
        path,
        products.name,
        collected,
        products,
        validation=described(snakemake.input.validation),
        templates=snakemake.input.templates,
        pictures=snakemake.input.pictures,
        objects=snakemake.input.objects,
    )


if __name__ == "__main__":
    job.run(main, snakemake)
