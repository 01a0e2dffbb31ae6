# Where the workflow reaches into Snakemake 9.27; included after all rules, which it looks through.  Everything works
# without this file, only slower, what is set for a rule does not hold for its batches, and a record that may not be read
# ends in a traceback.  With any other version of Snakemake it does nothing but say so.

import snakemake

from diaflow.run.batches import rule_of


def read_once(get_source):
    """Snakemake 9.27 reads its script anew for every job that it plans, though it runs a copy made at the first time.

    The names of our scripts have no wildcards: one reading of each saves a tenth of a large dry run.
    """
    sources = {}

    def of_script(path, sourcecache, basedir=None, wildcards=None, params=None):
        key = sourcecache, str(path), str(basedir)
        if key not in sources:
            sources[key] = get_source(path, sourcecache, basedir, wildcards, params)
        return sources[key]

    return of_script


def only_where_limited(look_again):
    """Snakemake 9.27 looks at all jobs that are ready again a second after it did, and once more for each that ended.

    Late in a run it does nothing else.  A job that ends makes it look in any case; without one there is a reason only
    where the number of jobs per second was the limit.
    """

    def of_scheduler(scheduler, delay):
        if scheduler.job_rate_limiter.get_free_jobs() == 0:
            look_again(scheduler, delay)

    return of_scheduler


def said_where_it_may_not(read_record):
    """Snakemake 9.27 lets its group read its records, and ends in a traceback where another reads them."""

    def of_folder(persistence, subject, key):
        try:
            return read_record(persistence, subject, key)
        except PermissionError as error:
            raise WorkflowError(
                f"{error.filename}: this record of Snakemake may not be read; let its owner give you the right "
                "(chmod -R g+rwX .snakemake), or copy the run without .snakemake and work there"
            )

    return of_folder


def set_as_for_its_rule(batch, settings):
    """What --set-threads and --set-resources, or a profile, say of a rule holds for a batch of its visits too."""
    name = rule_of(batch.name)
    batch.resources.update(settings._parsed_overwrite_resources.get(name, {}))
    if name in settings._parsed_overwrite_threads:
        batch.resources["_cores"] = settings._parsed_overwrite_threads[name]


if snakemake.__version__.startswith("9.27."):
    from snakemake import script as running  # rules use the name script
    from snakemake.persistence.file import FilePersistence
    from snakemake.scheduling.job_scheduler import JobScheduler

    running.get_source = read_once(running.get_source)
    FilePersistence._io_read = said_where_it_may_not(FilePersistence._io_read)
    JobScheduler._schedule_reevalutation = only_where_limited(JobScheduler._schedule_reevalutation)
    for each in workflow.rules:
        if rule_of(each.name) != each.name:
            set_as_for_its_rule(each, workflow.resource_settings)
else:
    logger.warning(
        f"Snakemake {snakemake.__version__}: rules/snakemake_9_27.smk is for 9.27, switched off. Tables are the same, "
        "runs are slower, and what is set for a rule (--set-threads, --set-resources) does not hold for its batches"
    )
