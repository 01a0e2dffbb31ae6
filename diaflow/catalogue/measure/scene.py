"""The sources of a coadd and their pixels: each one on an image from which all others have been taken out.

`Scene.rest` is the coadd without the deblended pixels of any source, so that footprints are empty in it.  A loop over
sources puts the pixels of one back (`put_back`), measures it, and takes them out again: a source is never seen with the
light of a neighbour that deblending gave to that one.  Beyond all footprints the pixels are those of the coadd.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numba import njit

from diaflow.catalogue.blends import Blends
from diaflow.image.exposure import Exposure
from diaflow.jit import EXACT
from diaflow.measure import photometry
from diaflow.psf.stampfield import moments_sigma, resized
from diaflow.sky.wcs import central_pixel_scale

BATCH = 2000  # PSF stamps that are evaluated together
SAMPLE = 200  # of which the median PSF is taken: it has their common core, which is free of noise


@dataclass(frozen=True)
class Scene:
    """One band of a patch with its sources.

    Attributes
    ----------
    exposure : Exposure
        The coadd, with its PSF [nJy].
    blends : Blends
        n sources.
    """

    exposure: Exposure
    blends: Blends

    @classmethod
    def of_points(cls, exposure: Exposure, x: np.ndarray, y: np.ndarray) -> "Scene":
        """A scene of which only the positions are known yet.

        Parameters
        ----------
        exposure : Exposure
        x, y : (n,) arrays
            [pixel]

        Returns
        -------
        Scene
            Of leaves without pixels.
        """
        n = len(x)
        nothing = np.empty(0, np.float32)
        boxes = np.tile([0, 0, -1, -1], (n, 1))
        offsets = np.zeros(n + 1, int)
        return cls(exposure, Blends(x, y, np.full(n, -1), np.zeros(n, int), boxes, offsets, nothing, nothing > 0))

    def moved(self, x: np.ndarray, y: np.ndarray) -> "Scene":
        """The same points a little elsewhere, with the PSFs that they have.

        Parameters
        ----------
        x, y : (n,) arrays
            [pixel]

        Returns
        -------
        Scene
        """
        scene = Scene.of_points(self.exposure, x, y)
        vars(scene).update(usable=self.usable, stamps=self.stamps, psf_sigma=self.psf_sigma)
        return scene

    def part(self, which: np.ndarray, image: np.ndarray) -> "Scene":
        """Some of the points, on an image that the others have been taken out of.

        Parameters
        ----------
        which : (n,) bool array
        image : (ny, nx) float32 array

        Returns
        -------
        Scene
        """
        scene = Scene.of_points(replace(self.exposure, image=image), self.x[which], self.y[which])
        vars(scene).update(usable=self.usable, stamps=self.stamps[which], psf_sigma=self.psf_sigma)
        return scene

    @cached_property
    def x(self) -> np.ndarray:
        """(n,) positions [pixel]."""
        return np.ascontiguousarray(self.blends.x, float)

    @cached_property
    def y(self) -> np.ndarray:
        """(n,) positions [pixel]."""
        return np.ascontiguousarray(self.blends.y, float)

    @cached_property
    def order(self) -> np.ndarray:
        """(n,) sources from below upwards: neighbours find their pixels in the processor's cache."""
        return np.argsort(self.y, kind="stable")

    @cached_property
    def image(self) -> np.ndarray:
        """(ny, nx) float32 pixels of the coadd."""
        return photometry.as_pixels(self.exposure.image)

    @cached_property
    def variance(self) -> np.ndarray:
        """(ny, nx) float32 variance plane."""
        return photometry.as_pixels(self.exposure.variance)

    @cached_property
    def usable(self) -> np.ndarray:
        """(ny, nx) bool, pixels that count in fits."""
        variance = self.variance
        known = np.isfinite(self.image) & (variance > 0) & np.isfinite(variance)
        return known & ~self.exposure.flagged(*photometry.UNUSABLE)

    @cached_property
    def rest(self) -> np.ndarray:
        """(ny, nx) float32 coadd without the pixels of the leaves; loops change it and restore it."""
        rest = self.image.copy()
        take_out(rest, *self.pixels, np.asarray(self.blends.n_child) == 0)
        return rest

    @cached_property
    def pixels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, offsets and pixels of the sources, as `put_back` takes them."""
        blends = self.blends
        boxes, offsets = (np.ascontiguousarray(a, np.int64) for a in (blends.boxes, blends.offsets))
        return boxes, offsets, photometry.as_pixels(blends.pixels)

    @cached_property
    def stamps(self) -> np.ndarray:
        """(n, k, k) float32 PSFs of unit sum at the sources; NaN where it is not known."""
        n = len(self.x)
        parts = [self.exposure.psf(self.x[i : i + BATCH], self.y[i : i + BATCH]) for i in range(0, n, BATCH)]
        size = max((part.shape[-1] for part in parts), default=1)
        stamps = np.empty((n, size, size), np.float32)
        for number, part in enumerate(parts):
            stamps[number * BATCH : number * BATCH + len(part)] = resized(part, size)
        return stamps

    @cached_property
    def psf_sigma(self) -> float:
        """Radius of the median PSF [pixel]; NaN where no source has one."""
        middle = self.stamps.shape[-1] // 2
        known = np.flatnonzero(np.isfinite(self.stamps[:, middle, middle]))
        some = self.stamps[known[:: 1 + len(known) // SAMPLE]]
        return moments_sigma(np.median(some, axis=0)) if len(some) else float("nan")

    @cached_property
    def pixel_scale(self) -> float:
        """[arcsec]."""
        return central_pixel_scale(self.exposure.wcs, self.exposure.shape)


@njit(**EXACT)
def put_back(rest, boxes, offsets, pixels, n, saved):
    """Add the pixels of a source to an image.

    Parameters
    ----------
    rest : (ny, nx) float32 array
    boxes, offsets, pixels : arrays
        `Scene.pixels`.
    n : int
        The source.
    saved : float32 array
        Set to what the pixels were before; as long as the box of the source at least.
    """
    x0, y0, x1, y1 = boxes[n]
    at = 0
    for j in range(y0, y1 + 1):
        for i in range(x0, x1 + 1):
            saved[at] = rest[j, i]
            rest[j, i] += pixels[offsets[n] + at]
            at += 1


@njit(**EXACT)
def take_away(rest, boxes, n, saved):
    """Undo `put_back`.

    Parameters
    ----------
    rest : (ny, nx) float32 array
    boxes : (n, 4) array
    n : int
        The source.
    saved : float32 array
        As `put_back` has set it.
    """
    x0, y0, x1, y1 = boxes[n]
    at = 0
    for j in range(y0, y1 + 1):
        for i in range(x0, x1 + 1):
            rest[j, i] = saved[at]
            at += 1


@njit(**EXACT)
def room(offsets):
    """Space for the pixels of any source.

    Parameters
    ----------
    offsets : (n + 1,) array

    Returns
    -------
    float32 array
    """
    longest = 1
    for n in range(len(offsets) - 1):
        longest = max(longest, offsets[n + 1] - offsets[n])
    return np.empty(longest, np.float32)


@njit(**EXACT)
def take_out(image, boxes, offsets, pixels, chosen):
    """Subtract the pixels of sources from an image.

    Parameters
    ----------
    image : (ny, nx) float32 array
    boxes, offsets, pixels : arrays
        `Scene.pixels`.
    chosen : (n,) bool array
        Which sources.
    """
    for n in range(len(boxes)):
        if chosen[n]:
            x0, y0, x1, y1 = boxes[n]
            at = offsets[n]
            for j in range(y0, y1 + 1):
                for i in range(x0, x1 + 1):
                    image[j, i] -= pixels[at]
                    at += 1
