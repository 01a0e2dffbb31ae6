"""Association: CPU seconds of every algorithm for DIASources in 1000 visits, against a k-d tree rebuilt per visit.

Run by hand, ``python benchmarks/associate.py 1e7`` for ten million DIASources, or through `make benchmarks`; `main()`
returns the rows of the benchmark table.
"""

import multiprocessing
import sys
import time
from functools import partial

import measure
import numpy as np
from scipy.spatial import cKDTree

from diaflow.associate import patches
from diaflow.run import job, methods, usage
from diaflow.run.config import validated
from diaflow.sky import sphere
from diaflow.store import tables
from diaflow.units import ARCSEC

N_VISITS, DENSITY, SCATTER = 1000, 1e5, 0.08  # visits; DIASources per deg2; [arcsec]
DETECTIONS = 40  # of an object, in as many visits
CONFIG = validated({"images": "x", "associate": {"radius": 1.0}})["associate"]


def survey(n_sources: int) -> np.ndarray:
    """What association reads of DIASources: 60 % of them anywhere, the rest repeats of 1 object per 100 sources."""
    rng = np.random.default_rng(1)
    side = np.sqrt(n_sources / DENSITY)
    n_objects = n_sources // 100
    n_real = n_objects * DETECTIONS
    xy = rng.uniform(-side / 2, side / 2, (n_sources, 2))
    xy[:n_real] = np.repeat(xy[-n_objects:], DETECTIONS, axis=0) + rng.normal(0, SCATTER / 3600, (n_real, 2))
    visit = rng.integers(0, N_VISITS, n_sources)
    step = N_VISITS // DETECTIONS
    visit[:n_real] = np.add.outer(rng.integers(0, step, n_objects), step * np.arange(DETECTIONS)).ravel()
    order = np.argsort(visit, kind="stable")
    only = patches.columns(CONFIG)
    sources = np.zeros(n_sources, [(name, tables.empty("dia_source").dtype[name]) for name in only])
    sources["diaSourceId"], sources["visit"] = np.arange(1, n_sources + 1), visit[order]
    sources["dec"] = -30 + xy[order, 1]
    sources["ra"] = (150 + xy[order, 0] / np.cos(np.deg2rad(sources["dec"]))) % 360
    sources["raErr"] = sources["decErr"] = np.nan
    return sources


def ours(sources: np.ndarray, algorithm: str) -> int:
    """Number of objects that an algorithm of `diaflow.associate` finds."""
    return int(patches.associate(sources, methods.load("associate", algorithm).associate, CONFIG).max()) + 1


def tree_per_visit(sources: np.ndarray) -> int:
    """The same with `scipy.spatial.cKDTree` over the objects, rebuilt for every visit."""
    points = sphere.unit_vectors(sources["ra"], sources["dec"])
    radius = CONFIG["radius"] * ARCSEC
    edges = np.searchsorted(sources["visit"], np.arange(N_VISITS + 1))
    totals, n_objects = np.empty_like(points), 0
    for begin, end in zip(edges[:-1], edges[1:]):
        visit = points[begin:end]
        new = np.ones(len(visit), bool)
        if n_objects and len(visit):
            centres = totals[:n_objects] / np.linalg.norm(totals[:n_objects], axis=1)[:, None]
            tree = cKDTree(centres, balanced_tree=False, compact_nodes=False)
            distance, nearest = tree.query(visit, distance_upper_bound=radius)
            closest_first = np.argsort(distance, kind="stable")
            found = closest_first[np.isfinite(distance[closest_first])]
            taken, first = np.unique(nearest[found], return_index=True)
            totals[taken] += visit[found[first]]
            new[found[first]] = False
        totals[n_objects : n_objects + new.sum()] = visit[new]
        n_objects += new.sum()
    return n_objects


def _measure(method, n_sources: int, queue) -> None:
    job.keep_freed_memory()  # as jobs do
    sources = survey(n_sources)
    method(sources[:1000])
    start = time.process_time()
    n_objects = method(sources)
    seconds = time.process_time() - start
    queue.put((seconds, n_objects, usage.peak_mb()))


def _in_own_process(method, n_sources: int) -> tuple[float, int, float]:
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=_measure, args=(method, n_sources, queue))
    process.start()
    result = queue.get()
    process.join()
    return result


def main(n_sources: int = 1_000_000) -> list[dict]:
    """The rows of the benchmark table, after compilation; the peak includes the input.

    The peer has no rows but that of the algorithm whose task is its own.
    """
    peer_seconds, n_peer, _ = _in_own_process(tree_per_visit, n_sources)
    rows = []
    for algorithm in methods.listed("associate"):
        seconds, n_objects, peak = _in_own_process(partial(ours, algorithm=algorithm), n_sources)
        name = f"association of {n_sources:,} DIASources, {algorithm}"
        if algorithm == "simple":
            # The peer founds an object for a source that loses its own to a closer one; ours takes the next nearest.
            if abs(n_objects - n_peer) > 5e-3 * n_peer:
                raise AssertionError(f"{n_objects} objects, the peer finds {n_peer}: not the same task")
            rows.append(measure.result(name, seconds, peak, "cKDTree rebuilt per visit", peer_seconds))
        else:
            rows.append(measure.result(name, seconds, peak))
    return rows


if __name__ == "__main__":
    print(*main(int(float(sys.argv[1])) if len(sys.argv) > 1 else 1_000_000), sep="\n")
