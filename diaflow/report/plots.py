"""Pictures of the report, as PNG bytes: conditions, repeatability of stars, one DIAObject in time and on the sky."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from diaflow.report.repeatability import Model, Stars, bins

COLOURS = {"u": "#6a3fb5", "g": "#1b9e5a", "r": "#d1372f", "i": "#c77d0a", "z": "#7a4b2a", "y": "#3b3b3b"}
OTHER_COLOURS = ["#2f6fd1", "#d12fa6", "#4f9aa8", "#8a8a1e"]
STAMP_TITLES = ("science", "template", "difference")
DPI = 90  # of the pictures, chosen
STRETCH = (2, 99.5)  # percentiles of the pixels of stamps that are black and white, chosen
# Legends stand above the axes, clear of the points.
ABOVE = {"loc": "lower right", "bbox_to_anchor": (1, 0.97), "frameon": False, "handletextpad": 0.1, "borderpad": 0}


def conditions(visits: np.ndarray) -> bytes:
    """Seeing, depth of calexps (filled) and differences (open), and noise ratio against time.

    Parameters
    ----------
    visits : "visit" table

    Returns
    -------
    bytes
        PNG.
    """
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    bands = sorted(set(visits["band"]) - {""})
    for band, colour in zip(bands, colours(bands)):
        rows = visits[visits["band"] == band]
        style = {"ls": "none", "color": colour, "ms": 4}
        axes[0].plot(rows["mjd"], rows["seeing"], "o", label=band, **style)
        axes[1].plot(rows["mjd"], rows["depth"], "o", **style)
        axes[1].plot(rows["mjd"], rows["diffim_depth"], "o", mfc="none", **style)
        axes[2].plot(rows["mjd"], rows["noise_ratio"], "o", mfc="none", **style)
    axes[2].axhline(1, color="0.6", lw=0.8, zorder=0)
    axes[0].set_ylabel("seeing FWHM [arcsec]")
    axes[1].set_ylabel("5$\\sigma$ depth [mag]\n(open: difference)")
    axes[2].set_ylabel("noise of difference\nmeasured / expected")
    axes[2].set_xlabel("MJD (TAI)")
    if bands:
        axes[0].legend(ncols=len(bands), **ABOVE)
    for ax in axes:
        _plain(ax)
    return png(figure)


def repeatability(found: Mapping[str, Stars], models: Mapping[str, Model | None], depths: Mapping[str, float]) -> bytes:
    """Scatter of the magnitudes of stars over the visits against magnitude, a panel for each band.

    Parameters
    ----------
    found : dict of str to Stars
        By band.
    models : dict of str to Model or None
        Drawn with its floor.
    depths : dict of str to float
        Magnitude at which a vertical line stands.

    Returns
    -------
    bytes
        PNG.
    """
    figure = Figure(figsize=(1 + 3.6 * len(found), 3.4), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for panel, (band, stars), colour in zip(panels, found.items(), colours(list(found))):
        panel.plot(stars.mag, 1e3 * stars.scatter, ".", color=colour, ms=3, alpha=0.35, mec="none")
        mag, scatter, _ = bins(stars, depths[band])
        panel.plot(mag, 1e3 * scatter, "o", color="black", ms=4)
        words = [f"PA1 {1e3 * stars.pa1:.1f} mmag, PF1 {stars.pf1:.1%}"] if np.isfinite(stars.pa1) else []
        if models[band]:
            line = np.linspace(stars.mag.min(), stars.mag.max(), 200)
            panel.plot(line, 1e3 * models[band].sigma(line), color="black", lw=1)
            panel.axhline(1e3 * models[band].floor, color="black", lw=0.8, ls=":")
            words.append(f"floor {1e3 * models[band].floor:.1f} mmag, 5$\\sigma$ at {models[band].depth:.2f}")
        panel.axvline(depths[band], color="0.6", lw=0.8, zorder=0)
        panel.set_title(f"{band}: {len(stars)} stars\n" + "\n".join(words), fontsize="small", loc="left")
        panel.set_yscale("log")
        panel.set_xlabel("magnitude")
        _plain(panel)
    panels[0].set_ylabel("scatter over the visits [mmag]")
    return png(figure)


def dia_object(forced: np.ndarray, stamps: Sequence[np.ndarray | None]) -> bytes:
    """One DIAObject: forced light curve beside science, template and difference stamps.

    Parameters
    ----------
    forced : "dia_forced_source" table
        Its forced photometry; open symbols where the visit is part of the template.
    stamps : three (k, k) arrays or None
        `STAMP_TITLES`; None where there is no image.

    Returns
    -------
    bytes
        PNG.
    """
    figure = Figure(figsize=(11, 2.5), layout="constrained")
    curve, *panels = figure.subplots(1, 4, width_ratios=[4.2, 1.2, 1.2, 1.2])
    good = forced[~forced["psfFlux_flag"] & np.isfinite(forced["psfFlux"])]
    bands = sorted(set(good["band"]))
    for band, colour in zip(bands, colours(bands)):
        for in_template in (False, True):
            rows = good[(good["band"] == band) & (good["visitInTemplate"] == in_template)]
            if len(rows):
                fill, label = ("white", None) if in_template else (colour, band)
                style = {"color": colour, "mfc": fill, "ms": 4, "elinewidth": 0.9, "label": label}
                curve.errorbar(rows["midpointMjdTai"], rows["psfFlux"], rows["psfFluxErr"], fmt="o", **style)
    curve.axhline(0, color="0.6", lw=0.8, zorder=0)
    curve.set_xlabel("MJD (TAI)")
    curve.set_ylabel("forced flux [nJy]")
    if bands:
        curve.legend(ncols=len(bands), **ABOVE)
    _plain(curve)
    science, template, difference = stamps
    sky_range = _sky_range([stamp for stamp in (science, template) if stamp is not None])
    for panel, title, stamp in zip(panels, STAMP_TITLES, stamps):
        panel.set_title(title, fontsize="small")
        panel.set_axis_off()
        if stamp is None or not np.isfinite(stamp).any():
            panel.text(0.5, 0.5, "no image", ha="center", va="center", color="0.5", transform=panel.transAxes)
            continue
        low, high = _symmetric(difference) if title == "difference" else sky_range
        panel.imshow(stamp, origin="lower", cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    return png(figure)


def colours(bands: Sequence[str]) -> list[str]:
    """One colour per band.

    Parameters
    ----------
    bands : sequence of str

    Returns
    -------
    list of str
        The usual ones for ugrizy.
    """
    others = [band for band in bands if band not in COLOURS]
    return [COLOURS.get(band) or OTHER_COLOURS[others.index(band) % len(OTHER_COLOURS)] for band in bands]


def _sky_range(stamps: Sequence[np.ndarray]) -> tuple[float, float]:
    """Pixel values that are black and white on science image and template."""
    pixels = np.concatenate([stamp[np.isfinite(stamp)] for stamp in stamps]) if stamps else np.zeros(0)
    return tuple(np.percentile(pixels, STRETCH)) if len(pixels) else (0, 1)


def _symmetric(stamp: np.ndarray) -> tuple[float, float]:
    """The same on the difference, with zero in the middle."""
    limit = np.percentile(np.abs(stamp[np.isfinite(stamp)]), STRETCH[1])
    return -limit, limit


def _plain(ax: Axes) -> None:
    """Few ticks, no offset of the times, no frame on the upper and right side."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(7))
    ax.ticklabel_format(useOffset=False, axis="x")


def png(figure: Figure) -> bytes:
    """A picture as the bytes of a file.

    Parameters
    ----------
    figure : matplotlib.figure.Figure

    Returns
    -------
    bytes
        PNG.
    """
    buffer = io.BytesIO()
    # Without the version of matplotlib, so that the same run gives the same bytes.
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
