"""The score of a run on a simulated survey: every figure with its error and its bar, and the worst cases of each kind.

In comes a run beside its truth (`comparison`), out goes a `Scorecard`, which is also written as JSON and as text.
"""

from dataclasses import asdict, dataclass

import numpy as np

from diaflow.validate import detections, fluxes, images, moving, object_figures, objects, positions
from diaflow.validate.bars import DESCRIPTIONS, bar_of
from diaflow.validate.comparison import Comparison
from diaflow.validate.figures import Figure
from diaflow.validate.static_sky import StaticSky

N_WORST = 3  # cases of each kind


@dataclass(frozen=True)
class Scorecard:
    """How good a run is.

    Attributes
    ----------
    figures : list of Figure
    reasons : dict
        Number of images by the reason why they are not there.
    worst : list of dict
        Places to look at: kind, visit, detector, ra, dec [deg] and value, the S/N or the pull.
    """

    figures: list[Figure]
    reasons: dict[str, int]
    worst: list[dict]

    def rows(self) -> list[dict]:
        """The figures with their bars.

        Returns
        -------
        list of dict
            name, of, value, error, n, expected, and bar ("" for none) and met (None for none).
        """
        return [
            asdict(figure) | {"bar": bar.text(figure) if bar else "", "met": bar.met(figure) if bar else None}
            for figure, bar in ((figure, bar_of(figure)) for figure in self.figures)
        ]

    def as_dict(self) -> dict:
        """What is written as JSON.

        Returns
        -------
        dict
            figures (see `rows`), reasons, worst.
        """
        return {"figures": self.rows(), "reasons": self.reasons, "worst": self.worst}

    def text(self) -> str:
        """A line for each figure: value, standard error, number, description, class and bar; then the reasons.

        Returns
        -------
        str
        """
        lines = []
        for row in self.rows():
            of = f" ({row['of']})" if row["of"] else ""
            bar = f"; bar {row['bar']}: {'met' if row['met'] else 'NOT MET'}" if row["bar"] else ""
            numbers = f"{row['value']:>12.6g} ± {row['error']:<9.2g} {row['n']:>7}"
            lines.append(f"{numbers}  {DESCRIPTIONS[row['name']]}{of}{bar}\n")
        lines += [f"{count:>12} images  {reason}\n" for reason, count in self.reasons.items()]
        return "".join(lines)


def score(
    run: Comparison,
    threshold: float,
    radius: float,
    forced: dict[str, np.ndarray],
    sky: StaticSky | None = None,
) -> Scorecard:
    """Judge a run.

    Parameters
    ----------
    run : Comparison
    threshold : float
        Of the detection [sigma].
    radius : float
        Of the association [arcsec].
    forced : dict
        Collected tables of forced photometry by name; those with positions of the user's choice are judged there.
    sky : StaticSky, optional
        Of a run with Objects.

    Returns
    -------
    Scorecard

    Raises
    ------
    InputError
        When a table or an image is missing or unreadable.
    """
    matches = detections.matches(run)
    found = matches >= 0
    false, kinds = detections.false_kinds(run)
    status, reasons = images.statuses(run)
    width = run.images["fwhm"] * run.images["pixel_scale"]
    figures = [
        *status,
        *detections.efficiencies(run, found, threshold),
        *detections.completeness(run, found, threshold),
        *detections.false_sources(run, kinds),
        *fluxes.forced(run),
        *fluxes.detected(run, matches),
        *(figure for name, table in forced.items() for figure in positions.at_positions(name, table, run.objects)),
        *objects.purity(run, max(radius, width.max(initial=0))),
        *objects.pairs(run, radius),
        *moving.tracklets(run),
        *images.calibrations(run),
        *(object_figures.figures(sky) if sky else []),
    ]
    return Scorecard(figures, reasons, _worst(run, found, false, kinds))


def _worst(run: Comparison, found: np.ndarray, false: np.ndarray, kinds: np.ndarray) -> list[dict]:
    """Missed sources and false ones of the highest S/N, and forced fluxes that are furthest off."""
    pull = fluxes.forced_pulls(run)
    with np.errstate(invalid="ignore"):
        missed = np.flatnonzero(run.usable & ~found & (np.abs(run.snr) > detections.COMPLETE_SNR))
    cases = _cases("missed", run.truth[missed], run.snr[missed])
    for kind in detections.KINDS:
        rows = false[kinds == kind]
        cases += _cases(f"false: {kind}", run.sources[rows], run.sources["snr"][rows])
    for name, mine in fluxes.classes(run).items():
        rows = np.flatnonzero(mine & np.isfinite(pull))
        cases += _cases(f"forced flux: {name}", run.truth[rows], pull[rows])
    return cases


def _cases(kind: str, table: np.ndarray, value: np.ndarray) -> list[dict]:
    """The rows of the largest absolute values."""
    order = np.argsort(-np.abs(np.nan_to_num(value)), kind="stable")[:N_WORST]
    columns = ("visit", "detector", "ra", "dec")
    return [{"kind": kind} | {c: table[c][i].item() for c in columns} | {"value": float(value[i])} for i in order]
