"""Choose the visits of every template, or of every deep coadd, and write down why others were left out."""

import logging

from diaflow.run import job, select

from diaflow.store import tables


def main(snakemake):
    exposures = tables.read("exposure", snakemake.input.exposures)
    overlaps = tables.read("overlap", snakemake.input.overlaps)
    fwhm = select.measured_fwhm(tables.read("visit_summary", snakemake.input.summary))
    science = select.science_visits(exposures, snakemake.params.science)
    candidates = select.candidates(overlaps, exposures, fwhm)
    selection = select.coadd_visits(candidates, snakemake.params.coadd, science, snakemake.params.section)
    tables.write("selection", selection, snakemake.output.selection)
    logging.info("%d of %d candidates selected", selection["selected"].sum(), len(selection))


if __name__ == "__main__":
    job.run(main, snakemake)
