"""Which DIASources are the same thing on the sky: association into DIAObjects, per tract and patch.

An algorithm is a file here with `OPTIONS` and ``associate(sources, rows, config)``; objects on a patch border are not
split (as in `drpAssociationPipe` of LSST's pipe_tasks).
"""

__all__ = [
    "aggregate",
    "assignment",
    "cluster",
    "known",
    "multimatch",
    "neighbours",
    "patches",
    "simple",
    "statistics",
    "tracklets",
]
