"""What is written and how: typed tables in parquet files, identifiers, files that are complete or not there; YAML.

A table in memory is a numpy structured array; its columns, types and units are declared in `schemas/`.
"""

__all__ = ["collect", "files", "ids", "tables", "yamltext"]
