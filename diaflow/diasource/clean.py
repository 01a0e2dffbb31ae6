"""What a difference image still has of the sky and of lines across it is dealt with before sources are detected.

The sky goes as far as it stands out of the noise (`diaflow.detect.binned`); lines become the mask plane STREAK
(`diaflow.detect.streaks`).
"""

import numpy as np

from diaflow.detect import streaks
from diaflow.detect.binned import BIN, MESH, Bins, background, expanded
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.measure import photometry


def clean(difference: Exposure) -> None:
    """Subtract what is left of the sky and mark streaks, in place.

    Parameters
    ----------
    difference : Exposure
        Its image and mask are changed; its metadata get `background_scatter`, the scatter of the sky per pixel beyond
        its noise [unit of the image].
    """
    bins = Bins.of(difference.image, difference.variance, difference.flagged(*photometry.UNUSABLE))
    left = background(bins)
    bins.subtract(left.cells)
    sky = expanded(left.cells, difference.shape, MESH * BIN) if left.scatter else np.float32(left.cells.flat[0])
    difference.image -= sky
    difference.image[difference.flagged("NO_DATA")] = 0
    difference.metadata["background_scatter"] = left.scatter
    difference.mask &= ~np.int32(bits("STREAK"))
    streaks.paint(difference.mask, streaks.find(bins), bits("STREAK"))
