"""Every sky of config/skies, simulated, processed and scored: a page and its data, beside this file and of its name.

``python docs/skies.py [NAME ...]`` runs the workflow for the skies that are named, or for all, up to the scores, once
with each subtraction algorithm: the second run finds all products before the differences made.  What fails is shown.
Skies that are not run keep their entries.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import yaml

from diaflow.image.exposure import Exposure
from diaflow.sky.wcs import sky_to_pixel
from diaflow.validate.bars import DESCRIPTIONS

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_suffix(".md")
RESULTS = Path(__file__).with_suffix(".json")
MISSED = Path(__file__).with_suffix(".yaml")  # why bars are missed, by sky and figure
TOO_FEW = "too few to tell"  # why a figure is not a number
IMAGES = Path(__file__).with_name("images") / "skies"
ALGORITHMS = ("alard_lupton", "zogy")
FAILED_JOB = re.compile(r"^Error in rule (\w+):\n(?: .*\n)*? +log: (\S+)", re.MULTILINE)
LAST_LINES = 12  # of what a run says that fails before its jobs do
HALF = 15  # half side of a stamp [pixel]
STRETCH = -3, 10  # of the pictures [sigma of the pixels]
JPEG_QUALITY = 75  # of the pictures: noise and all, 100 kB each
SEEN_SIZE = 300  # longer side of the picture of a frame [pixel]
WORST = "The number is the S/N, for forced fluxes the pull"
INTRODUCTION = """\
# Skies

Written by `make skies`: each sky of `config/skies` is simulated, processed to its coadds once, differenced by both
algorithms, and scored against its truth. A value has its standard error and, in brackets, the number of sources, places
or images it is from. A **bold** value misses its bar, which is met too within three standard errors; no bar is met by
nan. Below the figures of a sky stands why bars are missed (`docs/skies.yaml`). What a figure is, is said by the
docstrings of `diaflow/validate`; the bars are in `diaflow/validate/bars.py`.
"""


def sky_config(name: str) -> dict:
    """The configuration of a sky."""
    return yaml.safe_load((ROOT / f"config/skies/{name}.yaml").read_text())


def description(name: str) -> str:
    """The comment with which the configuration of a sky begins."""
    lines = (ROOT / f"config/skies/{name}.yaml").read_text().splitlines()
    first = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.lstrip("# ").rstrip() for line in lines[:first])


def measured(name: str, algorithm: str) -> dict:
    """Run a sky with an algorithm; its scores, or why there are none."""
    products = ROOT / "results" / sky_config(name)["run"]
    scores = products / "scores.json"
    scores.unlink(missing_ok=True)
    words = [sys.executable, "-m", "snakemake", str(scores.relative_to(ROOT)), "--keep-going"]
    words += ["--configfile", f"config/skies/{name}.yaml", "--cores", os.environ.get("CORES") or str(os.cpu_count())]
    words += ["--config", f"subtract={json.dumps({'algorithm': algorithm})}"]
    start = time.monotonic()
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    entry = {"seconds": round(time.monotonic() - start)}
    if not scores.exists():
        return entry | {"failure": failure(done.stdout)}
    entry |= json.loads(scores.read_text())
    for picture, path in ((stamps, stamps_of(name, algorithm)), (frame, frame_of(name, algorithm))):
        try:
            picture(products, entry["worst"], path)
        except Exception as error:  # a picture that fails is no reason to lose the figures
            print(f"{path}: {error!r}")
    return entry


def stamps_of(name: str, algorithm: str) -> Path:
    """The picture of the worst cases."""
    return IMAGES / f"{name}_{algorithm}_worst.jpg"


def frame_of(name: str, algorithm: str) -> Path:
    """The picture of a whole image."""
    return IMAGES / f"{name}_{algorithm}.jpg"


def failure(output: str) -> str:
    """Which jobs failed and the last line of the log of each; without any, the last lines of what a run says."""
    jobs = [f"{rule}: {last_line(ROOT / log)}" for rule, log in FAILED_JOB.findall(output)]
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "\n".join(list(dict.fromkeys(jobs)) or lines[-LAST_LINES:])


def last_line(log: Path) -> str:
    """The last line of a log."""
    lines = log.read_text().strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "stopped without a word"


def exposures(products: Path, visit: int, detector: int) -> Iterator[tuple[str, Exposure]]:
    """Calexp, template and difference of an image, those that there are."""
    paths = {
        "science": products / f"calexp/{visit}/{detector}.fits",
        "template": products / f"diffim/{visit}/{detector}_template.fits",
        "difference": products / f"diffim/{visit}/{detector}.fits",
    }
    return ((name, Exposure.read(path)) for name, path in paths.items() if path.exists())


def show(axis: plt.Axes, image: np.ndarray, sigma: float) -> None:
    """A picture of pixels without ticks."""
    low, high = (factor * sigma for factor in STRETCH)
    axis.imshow(image, origin="lower", cmap="gray", vmin=low, vmax=high)
    axis.set(xticks=[], yticks=[])


def stamps(products: Path, worst: list[dict], path: Path) -> None:
    """Science, template and difference of the worst cases: a row for each kind, three columns for each case."""
    kinds = list(dict.fromkeys(case["kind"] for case in worst))
    if not kinds:
        return
    per_kind = max(sum(case["kind"] == kind for case in worst) for kind in kinds)
    size = (0.75 * 3 * per_kind, len(kinds))
    figure, axes = plt.subplots(len(kinds), 3 * per_kind, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for row, kind in zip(axes, kinds):
        for k, case in enumerate(case for case in worst if case["kind"] == kind):
            cells = row[3 * k : 3 * k + 3]
            for axis, (_, exposure) in zip(cells, exposures(products, case["visit"], case["detector"])):
                axis.axis("on")
                show(axis, *cutout(exposure, case["ra"], case["dec"]))
            what = f"{kind}: {case['value']:.1f}" if k == 0 else f"{case['value']:.1f}"
            cells[0].set_title(what, fontsize=7, loc="left", pad=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=70, pil_kwargs={"quality": JPEG_QUALITY})
    plt.close(figure)


def cutout(exposure: Exposure, ra: float, dec: float) -> tuple[np.ndarray, float]:
    """The pixels around a place, and the standard deviation of a pixel of the image."""
    ny, nx = exposure.shape
    x, y = sky_to_pixel(exposure.wcs, np.array([ra]), np.array([dec]), (0, 0, nx - 1, ny - 1))
    i, j = int(np.rint(y[0])) + HALF, int(np.rint(x[0])) + HALF
    padded = np.pad(exposure.image, HALF, constant_values=np.nan)
    return padded[i - HALF : i + HALF + 1, j - HALF : j + HALF + 1], pixel_sigma(exposure)


def pixel_sigma(exposure: Exposure) -> float:
    """Standard deviation of a pixel of the empty sky."""
    variance = exposure.variance[np.isfinite(exposure.variance) & (exposure.variance > 0)]
    return float(np.sqrt(np.median(variance))) if len(variance) else 1.0


def frame(products: Path, worst: list[dict], path: Path) -> None:
    """A whole science image, its template and the difference: that of the first of the worst cases."""
    if not worst:
        return
    images = dict(exposures(products, worst[0]["visit"], worst[0]["detector"]))
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
    for axis, (name, exposure) in zip(axes, images.items()):
        step = max(1, max(exposure.shape) // SEEN_SIZE)
        show(axis, exposure.image[::step, ::step], pixel_sigma(exposure))
        axis.set_title(name, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=70, pil_kwargs={"quality": JPEG_QUALITY})
    plt.close(figure)


def page(results: dict[str, dict[str, dict]]) -> str:
    """The page of all skies from their scores by sky and algorithm."""
    parts = [INTRODUCTION, "\n".join(summary(results)) + "\n"]
    for name, by_algorithm in results.items():
        parts += [f"## {name}\n", description(name) + "\n", *section(name, by_algorithm)]
    return "\n".join(parts)


def summary(results: dict[str, dict[str, dict]]) -> Iterator[str]:
    """Table of the bars that are met."""
    yield "| sky | algorithm | bars met | images that are not there | minutes |"
    yield "|---|---|---|---|---|"
    for name, by_algorithm in results.items():
        for algorithm, entry in by_algorithm.items():
            judged = [row["met"] for row in entry.get("figures", []) if row["met"] is not None]
            met = f"{sum(judged)} of {len(judged)}" if judged else "no score"
            missing = sum(entry.get("reasons", {}).values())
            yield f"| [{name}](#{name}) | {algorithm} | {met} | {missing} | {entry['seconds'] / 60:.1f} |"


def section(name: str, by_algorithm: dict[str, dict]) -> Iterator[str]:
    """What is shown of a sky."""
    scored = {algorithm: entry for algorithm, entry in by_algorithm.items() if "figures" in entry}
    for algorithm, entry in by_algorithm.items():
        if "failure" in entry:
            yield f"{algorithm}: no score.\n\n```\n{entry['failure']}\n```\n"
    if scored:
        yield "\n".join(table(scored)) + "\n"
    reasons = yaml.safe_load(MISSED.read_text()) if MISSED.exists() else {}
    lines = list(why_missed(scored, (reasons or {}).get(name, {})))
    if lines:
        yield "Why bars are missed:\n\n" + "\n".join(lines) + "\n"
    for algorithm, entry in scored.items():
        if entry["reasons"]:
            yield f"{algorithm}, images that are not there:\n"
            yield "\n".join(f"- {count} × {reason}" for reason, count in entry["reasons"].items()) + "\n"
    for algorithm in scored:
        for path, what in (
            (frame_of(name, algorithm), "a frame, its template and the difference"),
            (stamps_of(name, algorithm), f"science, template and difference of the worst cases. {WORST}"),
        ):
            if path.exists():
                yield f"{algorithm}, {what}:\n\n![{name}, {algorithm}]({path.relative_to(PAGE.parent)})\n"


def table(scored: dict[str, dict]) -> Iterator[str]:
    """Figures of a sky by algorithm: first those that miss their bar, last those without one."""
    rows: dict[tuple[str, str], dict[str, dict]] = {}
    for algorithm, entry in scored.items():
        for row in entry["figures"]:
            rows.setdefault((row["name"], row["of"]), {})[algorithm] = row

    def rank(cells: dict[str, dict]) -> int:
        met = {row["met"] for row in cells.values()}
        return 0 if False in met else 1 if True in met else 2

    yield f"| figure | bar | {' | '.join(scored)} |"
    yield "|---|---|" + "---|" * len(scored)
    for (name, of), cells in sorted(rows.items(), key=lambda item: rank(item[1])):
        figure = DESCRIPTIONS[name] + (f": {of}" if of else "")
        bar = "; ".join(dict.fromkeys(row["bar"] for row in cells.values()))
        yield f"| {figure} | {bar} | {' | '.join(cell(cells.get(algorithm)) for algorithm in scored)} |"


def why_missed(scored: dict[str, dict], reasons: dict[str, str]) -> Iterator[str]:
    """A line for each reason, with the figures that it explains; figures that are no number are explained by that."""
    figures: dict[str, list[str]] = {}
    for algorithm, entry in scored.items():
        for row in entry["figures"]:
            if row["met"] is False:
                key = f"{row['name']}: {row['of']}" if row["of"] else row["name"]
                reason = reasons.get(key, "not looked into") if np.isfinite(row["value"]) else TOO_FEW
                figures.setdefault(reason, []).append(f"{key} ({algorithm})")
    for reason, which in figures.items():
        yield f"- {', '.join(which)}: {reason}"


def cell(row: dict | None) -> str:
    """A value with its error and number, bold where it misses its bar."""
    if row is None:
        return ""
    value = f"{row['value']:.4g}" + (f" ± {row['error']:.1g}" if np.isfinite(row["error"]) else "")
    return (f"**{value}**" if row["met"] is False else value) + f" ({row['n']})"


def main(names: list[str]) -> None:
    """Run skies and write both pages after each."""
    every = sorted(path.stem for path in (ROOT / "config/skies").glob("*.yaml"))
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or every:
        results[name] = {algorithm: measured(name, algorithm) for algorithm in ALGORITHMS}
        results = {sky: results[sky] for sky in every if sky in results}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        PAGE.write_text(page(results))
        print("\n".join(summary({name: results[name]})), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
