"""Glints: a tumbling satellite flashes several times in one exposure and leaves point sources on a line.

In come the positions of the sources of a difference image, out goes which of them are on such a line.  Every pair of
near neighbours proposes one; it counts when it holds at least five sources, more than chance puts on any line of the
image at the density of sources there.
"""

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import pdtrc

REACH = 500.0  # from a source to others on its line [pixel]
NEIGHBOURS = 32  # nearest ones that are looked at: in denser fields chance makes lines of any longer reach
OFF_LINE = 2.0  # largest distance of a member from the line [pixel]
MIN_MEMBERS = 5
CHANCE = 1e-3  # lines of chance in an image


def on_lines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which sources are on a line with at least four others.

    Parameters
    ----------
    x, y : (n,) arrays
        Positions on one image [pixel].

    Returns
    -------
    (n,) bool array

    Notes
    -----
    LSST's filter (ip_diffim) looks for the same groups by random samples; this search has no random element.
    """
    n = len(x)
    flagged = np.zeros(n, bool)
    if n < MIN_MEMBERS:
        return flagged
    position = np.column_stack([x, y])
    distance, index = cKDTree(position).query(position, k=min(n, NEIGHBOURS + 1), distance_upper_bound=REACH)
    distance, index = distance[:, 1:], index[:, 1:]
    near = np.isfinite(distance) & (distance > 0)
    step = np.where(near[..., None], position[np.where(near, index, 0)] - position[:, None], 0)
    unit = step / np.where(near, distance, 1)[..., None]
    off = unit[:, :, None, 0] * step[:, None, :, 1] - unit[:, :, None, 1] * step[:, None, :, 0]
    member = (np.abs(off) <= OFF_LINE) & near[:, :, None] & near[:, None, :]
    # The pair that proposes a line is on it; chance has to add the others.
    members = 1 + member.sum(2)
    reach = np.maximum(np.where(near, distance, 0).max(1), OFF_LINE)
    expected = 4 * OFF_LINE * near.sum(1) / (np.pi * reach)
    by_chance = pdtrc(np.maximum(members - 3, 0), expected[:, None]) * np.count_nonzero(near)
    line = (members >= MIN_MEMBERS) & (by_chance < CHANCE)
    flagged[line.any(1)] = True
    flagged[index[(member & line[:, :, None]).any(1)]] = True
    return flagged
