"""One self-contained HTML page about a run: what was done, what was refused and why, and the brightest of what changed.

In: the collected tables and, where they are kept, the images.  Out: a file without any external resource.  Large
tables are never read whole: the page takes the significance of all DIASources and the rows of the objects it shows.
"""

import base64
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits

from diaflow.errors import InputError
from diaflow.instruments.ingest import LEFT_OUT
from diaflow.report import plots, refusals, repeatability, static_sky
from diaflow.store import tables
from diaflow.store.files import write_text

N_OBJECTS = 20  # DIAObjects that are shown, chosen
MAX_ROWS = 2000  # of the table of images, failures first, chosen
STAMP_RADIUS = 20  # [pixel], chosen

VISIT_COLUMNS = {
    "visit": ("visit", "d"),
    "detector": ("detector", "d"),
    "band": ("band", "s"),
    "mjd": ("MJD (TAI)", ".4f"),
    "seeing": ("seeing [″]", ".2f"),
    "zero_point": ("zero point [mag]", ".3f"),
    "zero_point_scatter": ("its scatter [mag]", ".3f"),
    "astrom_scatter": ("astrometric scatter [″]", ".3f"),
    "depth": ("depth [mag]", ".2f"),
    "template_coverage": ("template coverage", ".0%"),
    "noise_ratio": ("noise ratio", ".3f"),
    "n_dia_sources": ("DIASources", "d"),
}
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 1150px; margin: 2.5em auto; padding: 0 1.5em; }
h1 { font-size: 1.7em; margin-bottom: 0.2em; } h2 { font-size: 1.25em; margin-top: 2em; } h3 { font-size: 1em; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 600; vertical-align: bottom; border-bottom: 1px solid #8a94a3; }
th, td { padding: 2px 9px; } td { text-align: right; border-bottom: 1px solid #e6e9ee; }
td:last-child, th:last-child, table.list td:first-child { text-align: left; }
table.refused td, table.refused th { text-align: left; vertical-align: top; }
tr.failed td { background: #fdecea; } tr.failed td:last-child { color: #a3241b; font-weight: 600; }
.scroll { max-height: 32em; overflow: auto; border: 1px solid #d7dce3; }
.scroll th { position: sticky; top: 0; background: #f4f6f9; }
img { max-width: 100%; } p.note { color: #5c6675; }
"""


def write(
    path: str | Path,
    run: str,
    collected: Mapping[str, str | Path],
    products: str | Path,
    validation: Mapping[str, float] | None = None,
    templates: Iterable[str | Path] = (),
    pictures: Iterable[str | Path] = (),
    objects: str | Path | None = None,
) -> None:
    """Write the report of a run.

    Parameters
    ----------
    path : path
        The HTML file; it appears under its name only when it is complete.
    run : str
        Name of the run, the title.
    collected : dict of paths
        The collected tables visit, source, dia_source, dia_object, dia_forced_source.
    products : path
        Folder that holds `calexp/{visit}/{detector}.fits`, `diffim/{visit}/{detector}.fits` and
        `diffim/{visit}/{detector}_template.fits`; images that are not there are left out of the page.
    validation : dict, optional
        Figures to list, by description.
    templates : iterable of paths
        Template coadds, to list those without inputs.
    pictures : iterable of paths
        Folders of colour pictures of tracts (see `colour`), named {kind}/{tract}.
    objects : path, optional
        Table "object" of a run with Objects.

    Raises
    ------
    InputError
        When a table is missing or a file unreadable; the message names it.
    """
    visits = tables.read("visit", collected["visit"])
    sections = [
        f"<h1>{escape(run)}</h1>",
        _summary(visits, collected),
        "<h2>What was refused or left out</h2>",
        refusals.section(visits, templates),
        "<h2>Images</h2>",
        _visit_table(visits),
        "<h2>Conditions</h2>",
        _image(
            plots.conditions(visits[visits["ingest_status"] == "ok"]),
            "Seeing, depth and noise of every image against time",
        ),
        *([static_sky.section(objects)] if objects else []),
        *_colour_pictures(pictures),
        *_repeatability(visits, collected["source"]),
        _figures(validation) if validation else "",
        "<h2>Most significant DIAObjects</h2>",
        *_dia_objects(collected, Path(products)),
    ]
    head = f'<meta charset="utf-8"><title>diaflow: {escape(run)}</title><style>{STYLE}</style>'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>\n' + "\n".join(sections) + "\n</body></html>\n"
    write_text(page, path)


def _summary(visits: np.ndarray, collected: Mapping) -> str:
    """How much there is of everything, and how much failed."""

    def ok_of(step: str) -> str:
        ok, bad, out = ((visits[f"{step}_status"] == status).sum() for status in ("ok", *refusals.NOT_TAKEN))
        return f"{ok} ok" + (f", <b>{bad} failed</b>" if bad else "") + (f", {out} left out" if out else "")

    counts = {
        "visits": len(np.unique(visits["visit"][(visits["visit"] >= 0) & (visits["ingest_status"] != LEFT_OUT)])),
        "images": f"{len(visits)} ({ok_of('ingest')})",
        "calibrated images": ok_of("calexp"),
        "difference images": ok_of("diffim"),
    }
    titles = {"source": "sources", "dia_source": "DIASources", "dia_object": "DIAObjects"}
    titles["dia_forced_source"] = "forced measurements"
    counts |= {title: f"{_n_rows(name, collected[name]):,}" for name, title in titles.items()}
    rows = "".join(f"<tr><td>{title}</td><td>{count}</td></tr>" for title, count in counts.items())
    return f'<table class="list">{rows}</table>'


def _n_rows(name: str, path: str | Path) -> int:
    """Number of rows of a table, from its footer."""
    tables.read(name, path, only=[next(iter(tables.schema(name)))])  # names an unreadable file
    return pq.ParquetFile(path).metadata.num_rows


def _visit_table(visits: np.ndarray) -> str:
    """All images, those that failed first, then those that were left out."""
    steps = refusals.refused_step(visits)
    failed = np.any([visits[f"{step}_status"] == "failed" for step in refusals.STEPS], axis=0)
    order = np.lexsort((steps == "", ~failed))
    header = "".join(f"<th>{title}</th>" for title, _ in VISIT_COLUMNS.values()) + "<th>status</th>"
    rows = [_visit_row(visits[i], steps[i]) for i in order[:MAX_ROWS]]
    rest = len(visits) - len(rows)
    note = f'<p class="note">{rest} more images in tables/visit.parquet.</p>' if rest else ""
    return f'<div class="scroll"><table><tr>{header}</tr>\n' + "\n".join(rows) + f"</table></div>{note}"


def _visit_row(row: np.void, step: str) -> str:
    values = [_number(row[name], form) for name, (_, form) in VISIT_COLUMNS.items()]
    if step:
        what = Path(row["path"]).name + ": " if row["visit"] < 0 else ""
        status = f"{refusals.STEPS[step]} {row[f'{step}_status']}: {what}{row[f'{step}_reason']}"
    elif row["diffim_status"] == "ok":
        status = "ok, part of the template" if row["visit_in_template"] else "ok"
    else:
        status = "not differenced" if row["calexp_status"] == "ok" else "not run"
    cells = "".join(f"<td>{escape(value)}</td>" for value in [*values, status])
    failed = step and row[f"{step}_status"] == "failed"
    return f'<tr class="failed">{cells}</tr>' if failed else f"<tr>{cells}</tr>"


def _colour_pictures(folders: Iterable[str | Path]) -> list[str]:
    """The coadds of each tract in colour."""
    folders = [Path(folder) for folder in folders]
    if not folders:
        return []
    sections = [
        "<h2>Coadds in colour</h2>",
        '<p class="note">The reddest bands, up to three, are red, green and blue, at equal noise (Lupton et al. 2004). '
        "Black: no data in one of them; white: saturated. Every patch alone is in the folder pictures/.</p>",
    ]
    for folder in folders:
        title = f"{folder.parent.name}, tract {folder.name}"
        try:
            picture = Path(folder, "tract.jpg").read_bytes()
        except OSError as error:
            raise InputError(f"{folder}/tract.jpg: {error.strerror}") from error
        sections += [f"<h3>{escape(title)}</h3>", _image(picture, f"The coadds of {title}, in colour", "jpeg")]
    return sections


def _repeatability(visits: np.ndarray, sources: str | Path) -> list[str]:
    """How well the magnitudes of stars repeat; nothing where none is seen often enough."""
    stars = repeatability.stars(repeatability.read_sources(sources))
    if not stars:
        return []
    depths = {band: float(np.nanmedian(visits["depth"][visits["band"] == band])) for band in stars}
    models = {band: repeatability.fit(found, band, depths[band]) for band, found in stars.items()}
    return [
        "<h2>Repeatability</h2>",
        '<p class="note">Standard deviation of the PSF magnitudes of each star that three visits or more have seen, '
        "its medians in bins, and the model of Ivezić et al. (2008) through those that are at least 0.5 mag above the "
        "median depth of the images (grey line); dotted: its floor. PA1: median of stars of S/N 200 or more; PF1: "
        "share of their magnitudes that are more than 15 mmag from the mean of the star.</p>",
        _image(plots.repeatability(stars, models, depths), "Scatter of the magnitudes of stars against magnitude"),
    ]


def _figures(validation: Mapping[str, float]) -> str:
    """The figures of the validation."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{_number(value, '.4g')}</td></tr>" for name, value in validation.items()
    )
    return f'<h2>Against the truth</h2><table class="list">{rows}</table>'


def _dia_objects(collected: Mapping, products: Path) -> list[str]:
    """The most significant DIAObjects with light curve and stamps."""
    ids, significance = _most_significant(collected["dia_source"])
    if len(ids) == 0:
        return ['<p class="note">No DIASource belongs to a DIAObject.</p>']
    objects = _rows_of("dia_object", collected["dia_object"], ids)
    sources = _rows_of("dia_source", collected["dia_source"], ids)
    forced = _rows_of("dia_forced_source", collected["dia_forced_source"], ids)
    sections = [
        '<p class="note">By the S/N of all their DIASources added in quadrature. Fluxes are on the difference images, '
        "forced at the position of the object; open symbols are visits of the template. Stamps are of the "
        "most significant detection.</p>"
    ]
    for object_id, total in zip(ids, significance):
        row = objects[objects["diaObjectId"] == object_id][0]
        own = sources[sources["diaObjectId"] == object_id]
        best = own[np.nanargmax(np.abs(own["snr"]))]
        first, last = (_number(row[f"{end}DiaSourceMjdTai"], ".3f") for end in ("first", "last"))
        sections.append(
            f"<h3>{object_id} at {row['ra']:.6f} {row['dec']:+.6f}</h3>"
            f'<p class="note">DIASources: {row["nDiaSources"]}, MJD {first} to {last}, total S/N {total:.0f}; '
            f"stamps: visit {best['visit']}, detector {best['detector']}, {escape(best['band'])}, "
            f"S/N {best['snr']:.1f}</p>"
        )
        picture = plots.dia_object(forced[forced["diaObjectId"] == object_id], _stamps(best, products))
        sections.append(_image(picture, f"Light curve and stamps of {object_id}"))
    return sections


def _most_significant(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Ids and quadratic sums of S/N of the `N_OBJECTS` most significant DIAObjects, in that order."""
    sources = tables.read("dia_source", path, only=["diaObjectId", "snr"])
    sources = sources[(sources["diaObjectId"] != 0) & np.isfinite(sources["snr"])]
    ids, index = np.unique(sources["diaObjectId"], return_inverse=True)
    total = np.sqrt(np.bincount(index, sources["snr"].astype(float) ** 2, len(ids)))
    order = np.argsort(-total, kind="stable")[:N_OBJECTS]
    return ids[order], total[order]


def _rows_of(name: str, path: str | Path, ids: np.ndarray) -> np.ndarray:
    """The rows of some DIAObjects without columns per band, one row group in memory at a time."""
    file, columns, parts = pq.ParquetFile(path), list(tables.columns(name)), []
    for group in range(file.num_row_groups):
        data = file.read_row_group(group, columns)
        data = data.filter(pa.array(np.isin(data["diaObjectId"].to_numpy(), ids)))
        parts.append(tables.from_columns(name, **{column: data[column].to_numpy() for column in columns}))
    return tables.concatenate(name, parts)


def _stamps(source: np.void, products: Path) -> list[np.ndarray | None]:
    """Science, template and difference around a DIASource; None where the image is not kept."""
    visit, detector = source["visit"], source["detector"]
    names = (f"calexp/{visit}/{detector}", f"diffim/{visit}/{detector}_template", f"diffim/{visit}/{detector}")
    return [cutout(products / f"{name}.fits", source["x"], source["y"]) for name in names]


def cutout(path: Path, x: float, y: float) -> np.ndarray | None:
    """Pixels of an exposure's file around a position.

    Parameters
    ----------
    path : path
    x, y : float
        Position [pixel].

    Returns
    -------
    (2 STAMP_RADIUS + 1, 2 STAMP_RADIUS + 1) array or None
        NaN beyond the image; None where there is no file.

    Raises
    ------
    InputError
        When the file is truncated or not an exposure; the message names it.
    """
    if not path.exists():
        return None
    side = 2 * STAMP_RADIUS + 1
    left, bottom = round(float(x)) - STAMP_RADIUS, round(float(y)) - STAMP_RADIUS
    stamp = np.full((side, side), np.nan)
    try:
        with fits.open(path) as hdus:
            image = hdus["IMAGE"]
            ny, nx = image.shape
            x0, x1, y0, y1 = max(left, 0), min(left + side, nx), max(bottom, 0), min(bottom + side, ny)
            if x0 < x1 and y0 < y1:
                stamp[y0 - bottom : y1 - bottom, x0 - left : x1 - left] = image.section[y0:y1, x0:x1]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a readable exposure ({error})") from error
    return stamp


def _number(value: object, form: str) -> str:
    """A value as text; a dash for what is not finite."""
    if form == "s":
        return str(value)
    return format(value, form) if np.isfinite(value) else "–"


def _image(data: bytes, text: str, kind: str = "png") -> str:
    """A picture in the page, with a text for those who do not see it."""
    return f'<img alt="{escape(text)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
