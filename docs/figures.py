"""The pictures of the docs, from the demo run: a supernova before, after and subtracted, and its light curve."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from diaflow.image.exposure import Exposure
from diaflow.store import tables

RUN = Path("results/demo")
OUT = Path(__file__).with_name("images")
HALF = 60
COLOURS = {"g": "tab:green", "r": "tab:red"}


def best_transient(sources: np.ndarray) -> np.void:
    """The most significant DIASource, on a host galaxy, of the most often detected object that was never negative."""
    clean = sources[(sources["diaObjectId"] > 0) & ~sources["pixelFlags"]]
    objects, index, counts = np.unique(clean["diaObjectId"], return_inverse=True, return_counts=True)
    faded = np.zeros(len(objects), bool)
    np.logical_or.at(faded, index, clean["psfFlux"] < 0)
    hosted = clean["templateFlux"] > 0.1 * clean["psfFlux"]
    rank = np.where(hosted & ~faded[index], counts[index], 0)
    return clean[np.lexsort((clean["snr"], rank))[-1]]


def triplet(source: np.void) -> None:
    """Science, template and difference around a DIASource."""
    folder = RUN / f"diffim/{source['visit']}"
    paths = {
        "science": RUN / f"calexp/{source['visit']}/{source['detector']}.fits",
        "template": folder / f"{source['detector']}_template.fits",
        "difference": folder / f"{source['detector']}.fits",
    }
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
    sigma = None
    for axis, (name, path) in zip(axes, paths.items()):
        exposure = Exposure.read(path)
        x, y = (int(np.clip(source[c], HALF, n - HALF - 1)) for c, n in zip("xy", exposure.shape[::-1]))
        sigma = sigma or np.sqrt(np.median(exposure.variance))
        cutout = exposure.image[y - HALF : y + HALF + 1, x - HALF : x + HALF + 1]
        axis.imshow(cutout, origin="lower", cmap="gray", vmin=-3 * sigma, vmax=12 * sigma)
        axis.set(title=name, xticks=[], yticks=[])
    figure.savefig(OUT / "triplet.png", dpi=100)


def light_curve(object_id: int, forced: np.ndarray) -> None:
    """Forced fluxes of one DIAObject."""
    figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
    rows = forced[(forced["diaObjectId"] == object_id) & ~forced["psfFlux_flag"]]
    for band in np.unique(rows["band"].astype(str)):
        r = rows[rows["band"] == band]
        axis.errorbar(r["midpointMjdTai"], r["psfFlux"], r["psfFluxErr"], fmt="o", color=COLOURS[band], label=band)
    axis.axhline(0, color="0.7", lw=0.8)
    axis.set(xlabel="MJD (TAI)", ylabel="forced flux [nJy]")
    axis.legend(frameon=False)
    figure.savefig(OUT / "light_curve.png", dpi=100)


def main() -> None:
    """Write the pictures into docs/images/."""
    OUT.mkdir(exist_ok=True)
    sources, forced = (
        tables.read(name, RUN / f"tables/{name}.parquet") for name in ("dia_source", "dia_forced_source")
    )
    source = best_transient(sources)
    triplet(source)
    light_curve(source["diaObjectId"], forced)


if __name__ == "__main__":
    main()
