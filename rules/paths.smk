# Where products and logs are, and what wildcards look like.

TABLES = ["visit", "source", "dia_source", "dia_object", "dia_forced_source"]


def product(path):
    """The path of a product of this run."""
    return f"results/{config['run']}/{path}"


def log_of(path):
    """The path of a job's log; what the job used is beside it, with .json for .log (diaflow/run/usage.py)."""
    return f"logs/{config['run']}/{path}.log"


wildcard_constraints:
    visit=r"\d+",
    tract=r"\d+",
    patch=r"\d+_\d+",
    band=r"[A-Za-z0-9.+-]+",
