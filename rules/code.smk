# The code of each rule as one of its parameters: what changes it makes its products stale, and nothing else does.

from pathlib import Path

from diaflow.run.code import Code, record
from diaflow.run.config import chosen_methods

# What was found in the files of the code is kept beside Snakemake's records: parsing them takes a second.
CODE = Code(chosen_methods(config), Path(".snakemake/diaflow_code.json"))
RECORD = product("provenance.json")


onstart:
    scripts = {Path(rule.script).stem for rule in workflow.rules if rule.script}
    record(Path(RECORD), CODE, sorted(scripts))
