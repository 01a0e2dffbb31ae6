"""What a run would do, before it does it: which jobs and why, how long, how much disk and memory.

``python -m planner`` asks Snakemake for its graph of jobs (`graph.py`, which alone imports it), adds what earlier runs
took (`cost.py`) and prints the answer (`page.py`).  Nothing is run or written.  It lives beside the library because the
library knows no Snakemake, and beside the scripts because it is no step of a run.
"""
