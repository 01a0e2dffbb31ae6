"""Which tracts and patches have images, as text and as a picture: before anything runs, and for the record of a run."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from diaflow.errors import InputError
from diaflow.report.plots import colours, png
from diaflow.sky import sphere
from diaflow.sky.skymap import rings
from diaflow.sky.skymap.many import at
from diaflow.sky.skymap.maps import SkyMap
from diaflow.sky.skymap.tract import Tract
from diaflow.store import ids

SIDE_POINTS = 9  # along the side of a tract, which is curved in the plane of another
MOST_NAMES = 150  # of patches or tracts that are written into a picture, chosen: more cannot be read


def select(overlaps: np.ndarray, visits: list[int], bands: list[str], tracts: list[int]) -> np.ndarray:
    """The overlaps of some visits, bands and tracts.

    Parameters
    ----------
    overlaps : table "overlap"
    visits, bands, tracts : list
        Empty for all.

    Returns
    -------
    table "overlap"

    Raises
    ------
    InputError
        When there is none.
    """
    wanted = {"visit": visits, "band": bands, "tract": tracts}
    for column, values in wanted.items():
        overlaps = overlaps[np.isin(overlaps[column], values)] if values else overlaps
    if not len(overlaps):
        asked = [f"{column} {', '.join(map(str, values))}" for column, values in wanted.items() if values]
        raise InputError(f"no images found{' of ' * bool(asked)}{', '.join(asked)}: no tract or patch has any")
    return overlaps


def text(sky: SkyMap, overlaps: np.ndarray) -> str:
    """Tracts, and patches with the visits and images of each band that they have.

    Parameters
    ----------
    sky : SkyMap
    overlaps : table "overlap"

    Returns
    -------
    str
        Lines.  The last column is the area of all images on the patch over that of the patch with its border.
    """
    lines = [f"sky map {sky.kind}{_identity(sky)}"]
    for number in np.unique(overlaps["tract"]).tolist():
        tract, patches = sky.tracts[number], set(overlaps["patch"][overlaps["tract"] == number])
        where = f"tract {number} at RA {tract.ra:.4f} Dec {tract.dec:+.4f}"
        lines.append(f"{where}: {len(patches)} of {np.prod(tract.n_patches)} patches have images")
    heading = ("tract", "patch", "band", "visits", "images", "arcmin2", "coverage")
    lines += ["", "{:>6s} {:>7s} {:>5s} {:>7s} {:>7s} {:>9s} {:>9s}".format(*heading)]
    groups = {}
    for row in zip(*(overlaps[name].tolist() for name in ("tract", "patch", "band", "visit", "area"))):
        groups.setdefault(row[:3], []).append(row[3:])
    for (number, patch, band), images in groups.items():
        visits, areas = zip(*images)
        total = sum(areas)
        coverage = total / sky.tracts[number].patch_area(patch)
        place = f"{number:6d} {patch:>7s} {band:>5s}"
        lines.append(f"{place} {len(set(visits)):7d} {len(images):7d} {total:9.1f} {coverage:9.2f}")
    return "\n".join(lines) + "\n"


def _identity(sky: SkyMap) -> str:
    """That of LSST's butler, where a map has one."""
    if sky.kind != "rings":
        return ""
    tract = next(iter(sky.tracts.values()))
    grid = {"pixel_scale": tract.pixel_scale, "patch_size": tract.patch_size, "patch_border": tract.border}
    return f", identity {rings.identity(sky.options | grid)}"


def picture(sky: SkyMap, overlaps: np.ndarray, exposures: np.ndarray) -> bytes:
    """Tracts, the patches that have images, and the images, on a map of equal areas about their middle.

    Parameters
    ----------
    sky : SkyMap
    overlaps : table "overlap"
    exposures : table "exposure"
        With the images of the overlaps.

    Returns
    -------
    bytes
        PNG.
    """
    asked = set(zip(overlaps["visit"].tolist(), overlaps["detector"].tolist()))
    there = [image in asked for image in zip(exposures["visit"].tolist(), exposures["detector"].tolist())]
    images = exposures[np.array(there) & (exposures["status"] == "ok")]
    corners = [np.stack([images[f"{axis}_{k}"] for k in (1, 2, 3, 4)], axis=1) for axis in ("ra", "dec")]
    middle = sphere.sky_position(sphere.unit_vectors(*corners).sum(axis=(0, 1)))

    def on_plane(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        return np.degrees(np.stack(sphere.equal_area(ra, dec, *middle), axis=-1))

    figure = Figure(figsize=(9, 9), layout="constrained")
    axes = figure.subplots()
    bands = sorted(set(images["band"]))
    for band, colour in zip(bands, colours(bands)):
        of_band = images["band"] == band
        shapes = on_plane(*(corner[of_band] for corner in corners))
        axes.add_collection(PolyCollection(shapes, facecolors="none", edgecolors=colour, lw=0.6, label=band))
    patches = sorted(set(zip(overlaps["tract"].tolist(), overlaps["patch"].tolist())))
    row = ids.rows_of(sky.columns.id, np.array([tract for tract, _ in patches]))
    index = np.array([patch.split("_") for _, patch in patches], int).T
    low = index * at(sky.columns, row).patch_size
    shapes = on_plane(*_outlines(at(sky.columns, row[:, None]), low, low + at(sky.columns, row).patch_size))
    axes.add_collection(LineCollection(shapes, colors="0.7", lw=0.5, zorder=0))
    _write(axes, shapes, [patch for _, patch in patches], color="0.5", fontsize=7)
    used = np.unique(row)
    corner = np.stack(at(sky.columns, used).shape[::-1])
    of_tracts = on_plane(*_outlines(at(sky.columns, used[:, None]), 0 * corner, corner))
    axes.add_collection(LineCollection(of_tracts, colors="k", lw=1.2, zorder=1))
    _write(axes, [shapes[row == k].mean(axis=0) for k in used], sky.columns.id[used], fontsize=14, alpha=0.5)
    (west, south), (east, north) = np.nanmin(shapes, axis=(0, 1)), np.nanmax(shapes, axis=(0, 1))
    axes.set(
        xlim=(east, west),
        ylim=(south, north),
        aspect="equal",
        xlabel="east [deg]",
        ylabel="north [deg]",
        title=f"RA {middle[0]:.4f} Dec {middle[1]:+.4f}: {len(images)} images on {len(patches)} patches",
    )
    axes.margins(0.05)
    axes.legend(ncols=len(bands), loc="upper right")
    return png(figure)


def _outlines(tracts: Tract, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination of points around boxes of pixels, closed, (n, points) each."""
    there, back, ones = np.linspace(0, 1, SIDE_POINTS), np.linspace(1, 0, SIDE_POINTS), np.ones(SIDE_POINTS)
    parts = np.concatenate([there, ones, back, 0 * ones]), np.concatenate([0 * ones, there, ones, back])
    x, y = (low[k, :, None] - 0.5 + (high - low)[k, :, None] * parts[k] for k in (0, 1))
    return tracts.positions(x, y)


def _write(axes: Axes, shapes: Sequence[np.ndarray], names: Sequence, **style: object) -> None:
    """Names in the middle of shapes, where they are not too many to be read."""
    for shape, name in zip(shapes, names) if len(names) <= MOST_NAMES else ():
        axes.text(*shape.mean(axis=0), str(name), ha="center", va="center", clip_on=True, **style)
