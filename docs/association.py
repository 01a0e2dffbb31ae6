"""Completeness and purity of every algorithm of association.

``python docs/association.py crowded movers`` prints a table for results/crowded and simulated/crowded, and so on, which
are made with `make skies`; the demo is ``demo``.  All DIASources of a run are associated at once, with the default
options.  Lines of made-up double stars follow, because skies have too few things that are close to each other.
"""

import sys
from pathlib import Path

import numpy as np

from diaflow.associate import patches
from diaflow.run import methods
from diaflow.run.config import validated
from diaflow.store import ids, tables
from diaflow.validate.detections import FALSE_MATCH
from diaflow.validate.matching import nearest

ROOT = Path(__file__).parent.parent
VARIANTS = [{"algorithm": name} for name in methods.listed("associate")]
VARIANTS.append({"algorithm": "multimatch", "remove_ambiguous": False})
SEPARATIONS = 0.3, 0.6, 1.0, 1.5  # of the double stars [arcsec]
N_PAIRS, N_VISITS, SEEN = 2000, 30, 0.7  # double stars, visits, and the chance of a star to be detected in a visit
ERRORS = 0.03, 0.25  # smallest and largest error of a position, of S/N 60 and 7 in a seeing of 2 arcsec [arcsec]
HEADER = """\
| sky | algorithm | DIAObjects | of two sources or more | of these pure | true objects in one | sources left out |
|---|---|---|---|---|---|---|"""


def true_ids(sources: np.ndarray, survey: Path) -> np.ndarray:
    """The true object of each DIASource, nearest in its image, that stays where it is; 0 for others."""
    truth = tables.read("truth_flux", survey / "truth_flux.parquet")
    objects = tables.read("truth_object", survey / "truth_object.parquet")
    distance, index = nearest(sources, truth, by_image=True)
    true = truth["objectId"][np.minimum(index, len(truth) - 1)]
    lasting = objects["type"][ids.rows_of(objects["objectId"], true)] != "asteroid"
    return np.where((distance < FALSE_MATCH) & lasting, true, 0)


def doubles(separation: float) -> tuple[np.ndarray, np.ndarray]:
    """DIASources of double stars that are 20 arcsec from each other, and the star of each."""
    rng = np.random.default_rng(3)
    stars = np.repeat(np.arange(2 * N_PAIRS), N_VISITS)
    visits = np.tile(np.arange(N_VISITS), 2 * N_PAIRS)
    angle = rng.uniform(0, 2 * np.pi, N_PAIRS)[stars // 2]
    error = np.exp(rng.uniform(*np.log(ERRORS), len(stars)))
    place = np.stack([20.0 * (stars // 2), 0.0 * stars]) + separation * (stars % 2) * [np.cos(angle), np.sin(angle)]
    ra, dec = (place + rng.normal(0, error, place.shape)) / 3600
    seen = rng.random(len(stars)) < SEEN
    columns = {"ra": ra % 360, "dec": dec, "raErr": error / 3600, "decErr": error / 3600, "visit": visits}
    columns = {name: values[seen] for name, values in columns.items()}
    return tables.from_columns("dia_source", diaSourceId=np.arange(seen.sum()), **columns), 1 + stars[seen]


def line(sky: str, sources: np.ndarray, true: np.ndarray, options: dict) -> str:
    """One row of the table: an algorithm on a sky."""
    config = validated({"images": "x", "associate": options})["associate"]
    index = patches.associate(sources, methods.load("associate", config["algorithm"]).associate, config)
    use = patches.usable(sources, config)
    repeated = np.flatnonzero(np.bincount(index[index >= 0]) > 1)
    links = np.unique(np.stack([index, true])[:, use & np.isin(index, repeated)], axis=1)
    first, counts = np.unique(links[0], return_index=True, return_counts=True)[1:]
    pure = ((counts == 1) & (links[1][first] > 0)).sum()
    # A true object is complete when all its sources are in one object; of one source there is nothing to say.
    seen_ids, seen = np.unique(true[use & (true > 0)], return_counts=True)
    repeatedly = seen_ids[seen > 1]
    pairs = np.unique(np.stack([index, true])[:, use & np.isin(true, repeatedly)], axis=1)
    values, objects = np.unique(pairs[1], return_counts=True)
    in_one = ((objects == 1) & ~np.isin(values, pairs[1][pairs[0] < 0])).sum()
    name = (
        "`" + ", ".join(f"{value}" if key == "algorithm" else f"{key}: false" for key, value in options.items()) + "`"
    )
    cells = [sky, name, index.max() + 1, len(repeated), share(pure, len(repeated)), share(in_one, len(repeatedly))]
    return f"| {' | '.join(map(str, [*cells, (use & (index < 0)).sum()]))} |"


def share(part: int, whole: int) -> str:
    """A fraction as text; a dash where there is nothing."""
    return f"{part / whole:.4f}" if whole else "-"


def main(skies: list[str]) -> None:
    """Print the table."""
    print(HEADER)
    for sky in skies:
        sources = tables.read("dia_source", ROOT / "results" / sky / "tables/dia_source.parquet")
        true = true_ids(sources, ROOT / ("demo" if sky == "demo" else f"simulated/{sky}"))
        for options in VARIANTS:
            print(line(sky, sources, true, options))
    for separation in SEPARATIONS:
        for options in VARIANTS:
            print(line(f"doubles, {separation} arcsec", *doubles(separation), options))


if __name__ == "__main__":
    main(sys.argv[1:])
