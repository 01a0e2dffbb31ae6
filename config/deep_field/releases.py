"""Plans the ten yearly releases of the example survey with each template method: the tables in docs/planning.md.

Nothing is run.  A release has the same jobs with each method, so each is planned once.
"""

import multiprocessing
import tempfile
from dataclasses import replace
from pathlib import Path

from visits import FIRST_DAY, YEAR

from diaflow.run import methods
from planner import graph
from planner.answer import answer

ROOT = Path(__file__).parents[2]
YEARS = range(1, 11)
CORES = (64, 256)
USUAL = "direct"
METHODS = sorted(methods.listed("coadd"), key=lambda method: (method != USUAL, method))


def release(year: int) -> dict[str, dict]:
    """The plan of the release after so many years, by template method."""
    first, last = (FIRST_DAY + YEAR * number for number in (year - 1, year))
    what_if = {
        "run": f"dr{year}",
        "images": [str(Path(__file__).with_name(f"year_{number:02d}.csv")) for number in range(1, year + 1)],
        "template": {"mjd": [FIRST_DAY, last if year == 1 else first]},
        "science": {"mjd": [first, last]},
        "storage": {"keep_warps": False},
    }
    with tempfile.TemporaryDirectory() as folder:
        configfiles = [ROOT / "config/deep_field/release.yaml"]
        planned = graph.planned(ROOT / "Snakefile", Path(folder), (), configfiles, what_if, max(CORES))
        config = planned.names["config"]
        plans = {}
        for method in METHODS:
            chosen = config | {"template": config["template"] | {"method": method}}
            plan = answer(replace(planned, names=planned.names | {"config": chosen}), Path(folder), CORES)
            plans[method] = {key: value for key, value in plan.items() if key != "jobs"}
        return plans


def row(*cells: object) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Print both tables."""
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        releases = pool.map(release, YEARS, chunksize=1)
    walls = [f"wall on {cores} cores" for cores in CORES]
    header = ["release", "template visits", "science visits", "jobs", "core hours", *walls, "disk", "without the warps"]
    print(row(*header), row(*["---"] * len(header)), sep="\n")
    for year, plans in zip(YEARS, releases):
        plan = plans[USUAL]
        visits = [len(plan[which]["visits"]) for which in ("template", "science")]
        hours = [f"{60 * wall['hours']:.0f} min" for wall in plan["wall"]]
        disk = [f"{gb / 1000:.1f} TB" for gb in (plan["total"]["gb"], plan["wall"][0]["disk_gb"])]
        print(row(year, *visits, plan["total"]["jobs"], f"{plan['total']['core_hours']:.1f}", *hours, *disk))
    print("", row("core hours of release", *YEARS), row(*["---"] * (1 + len(YEARS))), sep="\n")
    for method in METHODS:
        print(row(f"`{method}`", *(f"{plans[method]['total']['core_hours']:.1f}" for plans in releases)))
    said = {line for plans in releases for plan in plans.values() for line in plan["not_modelled"]}
    print("", *sorted(said), sep="\n")


if __name__ == "__main__":
    main()
