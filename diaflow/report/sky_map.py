"""Which tracts and patches have images, as text and as a picture: before anything runs, and for the record of a run."""

import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from diaflow.errors import InputError
from diaflow.report.plots import colours, png
from diaflow.sky import sphere
from diaflow.sky.skymap import rings
from diaflow.sky.skymap.maps import SkyMap
from diaflow.sky.skymap.tract import Tract

SIDE_POINTS = 9  # along the side of a tract, which is curved in the plane of another
MOST_NAMES = 150  # of patches that are written into a picture, chosen: more cannot be read


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
    """Tracts, the patches that have images, and the images, on the plane that touches the sky in their middle.

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
    visible = np.isin(exposures["visit"], overlaps["visit"]) & (exposures["status"] == "ok")
    images = exposures[visible]
    corners = [np.stack([images[f"{axis}_{k}"] for k in (1, 2, 3, 4)], axis=1) for axis in ("ra", "dec")]
    middle = sphere.sky_position(sphere.unit_vectors(*corners).sum(axis=(0, 1)))

    def on_plane(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        return np.degrees(np.stack(sphere.gnomonic(ra, dec, *middle), axis=-1))

    figure = Figure(figsize=(9, 9), layout="constrained")
    axes = figure.subplots()
    bands = sorted(set(images["band"]))
    for band, colour in zip(bands, colours(bands)):
        of_band = images["band"] == band
        shapes = on_plane(*(corner[of_band] for corner in corners))
        axes.add_collection(PolyCollection(shapes, facecolors="none", edgecolors=colour, lw=0.6, label=band))
    touched = sorted(set(zip(overlaps["tract"].tolist(), overlaps["patch"].tolist())))
    patches = [on_plane(*_outline(sky.tracts[tract], sky.tracts[tract].inner_box(patch))) for tract, patch in touched]
    axes.add_collection(LineCollection(patches, colors="0.7", lw=0.5, zorder=0))
    for shape, (_, patch) in zip(patches, touched if len(touched) <= MOST_NAMES else []):
        axes.text(*shape.mean(axis=0), patch, color="0.5", ha="center", va="center", fontsize=7, clip_on=True)
    for number in sorted({tract for tract, _ in touched}):
        tract = sky.tracts[number]
        shape = on_plane(*_outline(tract, (0, 0, tract.shape[1] - 1, tract.shape[0] - 1)))
        axes.plot(*shape.T, color="k", lw=1.2, zorder=1)
        near = np.array([patch for patch, (of, _) in zip(patches, touched) if of == number]).mean(axis=(0, 1))
        axes.text(*near, str(number), ha="center", va="center", fontsize=14, alpha=0.5, clip_on=True)
    shapes = np.concatenate(patches)
    axes.set(
        xlim=(shapes[:, 0].max(), shapes[:, 0].min()),  # east is left
        ylim=(shapes[:, 1].min(), shapes[:, 1].max()),
        aspect="equal",
        xlabel="east [deg]",
        ylabel="north [deg]",
        title=f"RA {middle[0]:.4f} Dec {middle[1]:+.4f}: {len(images)} images on {len(touched)} patches",
    )
    axes.margins(0.05)
    axes.legend(ncols=len(bands), loc="upper right")
    return png(figure)


def _outline(tract: Tract, box: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination of points around a box of pixels, closed."""
    x0, y0, x1, y1 = np.array(box) + (-0.5, -0.5, 0.5, 0.5)
    there, back = np.linspace(0, 1, SIDE_POINTS), np.linspace(1, 0, SIDE_POINTS)
    x = x0 + (x1 - x0) * np.concatenate([there, 0 * there + 1, back, 0 * back])
    y = y0 + (y1 - y0) * np.concatenate([0 * there, there, 0 * back + 1, back])
    return tract.wcs.all_pix2world(x, y, 0)
