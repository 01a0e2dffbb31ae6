# The code of each rule as one of its parameters: what changes it makes its products stale, and nothing else does.
# When a run starts, before its first job, its environment and code are recorded.

from pathlib import Path

from diaflow.run import visitlist
from diaflow.run.code import Code, record
from diaflow.run.config import chosen_methods

# What was found in the files of the code is kept beside Snakemake's records: parsing them takes a second.
CODE = Code(chosen_methods(config), Path(".snakemake/diaflow_code.json"))
RECORD = product("provenance.json")


onstart:
    if visitlist.is_list(config["images"]):
        raise WorkflowError(
            f"images: {config['images']} lists visits: it can be planned and has no pixels to process"
        )
    try:
        record(Path(RECORD), CODE, config)
    except InputError as error:
        raise WorkflowError(f"{error}: give the right to write there, or run in a folder of your own (--directory)")
