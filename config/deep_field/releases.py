"""Plans the ten yearly releases of the example survey with each template method: the tables in docs/planning.md.

The plans of the first method, `direct`, make the first table, the core hours and wall times of all the second.  Nothing
is run: planning alone takes some CPU seconds for each release and method.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from visits import FIRST_DAY, YEAR

from diaflow.run import methods

ROOT = Path(__file__).parents[2]
YEARS = range(1, 11)
CORES = (64, 256)
METHODS = sorted(methods.listed("coadd"), key=lambda method: (method != "direct", method))
# What `dcr` has to know: the site of the Rubin observatory, and the bands (first and last wavelength [nm]).
DCR = [
    "template.dcr.latitude=-30.24",
    "template.dcr.longitude=-70.75",
    "template.dcr.altitude=2663",
    "template.dcr.bands={u: [324, 395], g: [405, 552], r: [552, 691], i: [691, 818], z: [818, 922], y: [950, 1060]}",
]


def release(year: int, *what_if: str) -> dict:
    """The plan of the release after so many years, without its jobs one by one."""
    first, last = (FIRST_DAY + YEAR * number for number in (year - 1, year))
    lists = [str(Path(__file__).with_name(f"year_{number:02d}.csv")) for number in range(1, year + 1)]
    words = [f"run=dr{year}", f"images=[{', '.join(lists)}]", f"science.mjd=[{first}, {last}]"]
    words.append(f"template.mjd=[{FIRST_DAY}, {last if year == 1 else first}]")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plan.json")
        command = [sys.executable, "-m", "planner", "--configfile", ROOT / "config/deep_field/release.yaml"]
        command += ["--directory", folder, "--json", path, "--cores", *CORES, "--what-if", *words, *what_if]
        subprocess.run(list(map(str, command)), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return json.loads(path.read_text())


def row(*cells: object) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Print both tables."""
    walls = [f"wall on {cores} cores" for cores in CORES]
    header = ["release", "template visits", "science visits", "jobs", "core hours", *walls, "disk", "without the warps"]
    print(row(*header), row(*["---"] * len(header)), sep="\n")
    plans: dict[str, list[dict]] = {}
    for year in YEARS:
        plan = release(year)
        kept = release(year, "storage.keep_warps=false")
        plans.setdefault("direct", []).append(plan)
        total, visits = plan["total"], [len(plan[which]["visits"]) for which in ("template", "science")]
        hours = [f"{60 * wall['hours']:.0f} min" for wall in plan["wall"]]
        disk = [f"{plan['wall'][-1]['disk_gb'] / 1000:.1f} TB", f"{kept['wall'][-1]['disk_gb'] / 1000:.1f} TB"]
        print(row(year, *visits, total["jobs"], f"{total['core_hours']:.1f}", *hours, *disk), flush=True)
    print()
    print(row("core hours of release", *YEARS), row(*["---"] * (1 + len(YEARS))), sep="\n")
    for method in METHODS:
        if method not in plans:
            plans[method] = [release(year, f"template.method={method}", *DCR) for year in YEARS]
        print(row(f"`{method}`", *(f"{plan['total']['core_hours']:.1f}" for plan in plans[method])), flush=True)
    for line in sorted({line for group in plans.values() for plan in group for line in plan["not_modelled"]}):
        print(line)


if __name__ == "__main__":
    main()
