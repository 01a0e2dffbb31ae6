"""The answer of the planner as text for the terminal and as one page of HTML."""

from collections import Counter
from html import escape

MOST_RULES = 4  # that a line names; the JSON file has all
STYLE = (
    "body{font:15px sans-serif;max-width:75em;margin:2em auto}table{border-collapse:collapse}"
    "td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}td.words,th.words{text-align:left}"
)


def text(answer: dict) -> str:
    """The answer for the terminal: rules with their reasons, the totals, and what is left out.

    Parameters
    ----------
    answer : dict
        From `planner.answer.answer`.

    Returns
    -------
    str
        Lines.
    """
    total = answer["total"]
    if not total["jobs"]:
        return "\n".join([f"run {answer['run']}: nothing to be done", *_kept(answer)]) + "\n"
    lines = [
        f"run {answer['run']}: {total['jobs']} jobs",
        "",
        f"{'rule':16s} {'jobs':>7s} {'core h':>8s} {'GB':>8s}  why",
    ]
    for rule in answer["rules"]:
        reasons = [f"{why} ({count})" if len(rule["why"]) > 1 else why for why, count in rule["why"].items()]
        mark = " " if rule["earlier_jobs"] else "*"
        figures = f"{rule['jobs']:7d} {rule['core_hours']:8.2f} {rule['gb']:8.2f}"
        lines.append(f"{rule['rule']:16s} {figures}{mark} {reasons[0]}")
        lines += [" " * 43 + reason for reason in reasons[1:6]]
        lines += [" " * 43 + f"and {len(reasons) - 6} other reasons"] if len(reasons) > 6 else []
    lines += [f"{'total':16s} {total['jobs']:7d} {total['core_hours']:8.2f} {total['gb']:8.2f}", "", *_notes(answer)]
    return "\n".join(lines) + "\n"


def _notes(answer: dict) -> list[str]:
    lines = []
    if any(not rule["earlier_jobs"] for rule in answer["rules"]):
        lines.append("* measured figures (planner/costs.json): this rule has not been run here yet")
    lines += answer["not_modelled"]
    if answer["total"]["temporary_gb"]:
        lines.append(f"{answer['total']['temporary_gb']:.2f} GB are temporary")
    for wall in answer["wall"]:
        peaks = f"at most {wall['memory_gb']:.1f} GB of memory and {wall['disk_gb']:.2f} GB of disk at once"
        lines.append(f"{wall['cores']} cores: {wall['hours']:.2f} h, {peaks}")
    lines += _short(answer)
    template, science = answer["template"], answer["science"]
    lines.append(f"template: {len(template['visits'])} visits; {template['seeing']}")
    lines += _left_out(template["left_out"])
    lines += _left_out(template["left_out_of_some_patches"], " in some patches")
    lines.append(f"science: {len(science['visits'])} visits")
    lines += _left_out(science["left_out"])
    lines += [f"not usable: {image['path']}: {image['reason']}" for image in answer["failed"]]
    if any("by time alone" in why for rule in answer["rules"] for why in rule["why"]):
        lines.append("by time alone: code, parameters and inputs are those that made it; snakemake --touch says so")
    return lines + _kept(answer)


def _short(answer: dict) -> list[str]:
    """That most jobs take longer to start than to work, and what helps."""
    short, total = answer["short"], answer["total"]["jobs"]
    number = sum(short["jobs"].values())
    if number <= total / 2:
        return []
    most = ", ".join(f"{rule} ({count})" for rule, count in Counter(short["jobs"]).most_common(MOST_RULES))
    start = f"{number} of {total} jobs take less time than their start, {short['hours']:.2f} h in all: {most}"
    return [start, "  visits_per_job lets small visits share jobs"]


def _kept(answer: dict) -> list[str]:
    """What would not run and is not as a run would leave it."""
    lines = []
    for kept in answer["missing"]:
        lines.append(f"missing, not needed now: {' '.join(kept['output'])}")
    for kept in answer["stale"]:
        lines.append(f"without records, made otherwise: {' '.join(kept['output'])}: {'; '.join(kept['why'])}")
    if answer["stale"]:
        lines.append(f"make them again with: --forcerun {' '.join(dict.fromkeys(k['rule'] for k in answer['stale']))}")
    return lines


def _left_out(reasons: dict[str, list[int]], where: str = "") -> list[str]:
    return [f"  {len(visits)} left out{where}, {why}: {ranges(visits)}" for why, visits in reasons.items()]


def ranges(visits: list[int], most: int = 8) -> str:
    """Visits with runs of numbers written as first-last.

    Parameters
    ----------
    visits : list of int
        In their order.
    most : int
        Runs and single visits beyond these are left out.

    Returns
    -------
    str
    """
    parts: list[list[int]] = []
    for visit in visits:
        if parts and visit == parts[-1][1] + 1:
            parts[-1][1] = visit
        else:
            parts.append([visit, visit])
    words = [str(first) if first == last else f"{first}-{last}" for first, last in parts]
    return ", ".join(words[:most]) + (", ..." if len(words) > most else "")


def html(answer: dict) -> str:
    """The same as `text` as one page without other files.

    Parameters
    ----------
    answer : dict
        From `planner.answer.answer`.

    Returns
    -------
    str
        HTML.
    """
    header = ["rule", "jobs", "core hours", "GB", "memory [MB]", "known from", "why"]
    rows = []
    for rule in answer["rules"]:
        basis = f"{rule['earlier_jobs']} jobs" if rule["earlier_jobs"] else "costs.json"
        why = "<br>".join(f"{escape(reason)} ({count})" for reason, count in rule["why"].items())
        figures = [rule["jobs"], f"{rule['core_hours']:.2f}", f"{rule['gb']:.2f}", rule["memory_mb"], basis]
        rows.append(_row([escape(rule["rule"]), *figures, why]))
    notes = "".join(f"<li>{escape(line.strip())}</li>" for line in _notes(answer))
    title = f"Plan of run {escape(answer['run'])}: {answer['total']['jobs']} jobs"
    return (
        f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head><body>'
        f"<h1>{title}</h1><table>{_row(header, 'th')}{''.join(rows)}</table><ul>{notes}</ul></body></html>\n"
    )


def _row(cells: list, tag: str = "td") -> str:
    words = [f'<{tag} class="words">' if k in (0, len(cells) - 1) else f"<{tag}>" for k in range(len(cells))]
    return "<tr>" + "".join(f"{begin}{cell}</{tag}>" for begin, cell in zip(words, cells)) + "</tr>\n"
