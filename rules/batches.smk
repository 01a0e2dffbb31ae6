# Batches of visits have rules of their own, named after their first visit: what --set-threads and --set-resources, or a
# profile, say of a rule holds for its batches too.


for made in workflow.rules:
    of_batch = re.fullmatch(r"(\w+)_\d+", made.name)
    if of_batch:
        settings = workflow.resource_settings
        made.resources.update(settings._parsed_overwrite_resources.get(of_batch[1], {}))
        if of_batch[1] in settings._parsed_overwrite_threads:
            made.resources["_cores"] = settings._parsed_overwrite_threads[of_batch[1]]
