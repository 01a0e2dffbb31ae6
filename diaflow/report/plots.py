"""Pictures of the report, as PNG bytes: the conditions of all visits, and one DIAObject in time and on the sky."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
