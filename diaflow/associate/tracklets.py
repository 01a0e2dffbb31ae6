"""Tracklets: DIASources of one night that move along a great circle at constant speed, as asteroids do.

Every pair of sources of two visits that is slow enough proposes a motion, and with it where there should be a source in
the other visits of the night, by the errors of the positions.  The motion with the most sources is believed first,
among those with equally many the one that fits best; a source is of one tracklet alone.  What is seen at one place in
two visits of the night stands still, and what is negative is gone from its place: both are left to DIAObjects.  After
the linking of Kubica et al. (2007, Icarus 189, 151), whose trees of tracks are not needed for the few hours of a night.
"""

import numpy as np
from scipy.spatial import cKDTree

from diaflow.sky import sphere
from diaflow.store import ids, tables
from diaflow.units import ARCSEC

SIGMAS = 3.0  # of the position of a source about where a motion has it, and of one place about another
HOUR = 1 / 24  # [d]
# Fluxes of one thing in one band, the larger over the smaller, beyond their errors, chosen: 1 mag, by which few
# asteroids vary as they turn.
MAX_RATIO = 2.5
LEAST_ERROR = 0.05  # of a position in one coordinate, chosen: of a WCS, and of what moves while it is exposed [arcsec]


def link(sources: np.ndarray, usable: np.ndarray, config: dict) -> tuple[np.ndarray, np.ndarray]:
    """Tracklets among the DIASources of one night.

    Parameters
    ----------
    sources : "dia_source" table
        Of all visits of the night.
    usable : (n,) bool array
        Which of them may be linked; negative ones are not.
    config : dict
        Section `associate` of the configuration: `max_rate` [arcsec/h], `tracklet_members`, `radius` [arcsec].

    Returns
    -------
    tracklets : "tracklet" table
        In the order of their identifiers.
    links : "tracklet_link" table
        Sorted by diaSourceId.
    """
    rows = np.flatnonzero(usable & ~sources["isNegative"])
    rows = rows[np.lexsort([sources[name][rows] for name in ("diaSourceId", "detector", "visit", "midpointMjdTai")])]
    night = _Night(sources[rows], config)
    members = night.chosen(night.motions(), config["tracklet_members"])
    found = [night.fitted(each) for each in members]
    table = tables.concatenate("tracklet", [tables.empty("tracklet"), *found])
    links = tables.from_columns(
        "tracklet_link",
        diaSourceId=np.array([i for each in members for i in night.sources["diaSourceId"][each]], np.int64),
        trackletId=np.repeat(table["trackletId"], [len(each) for each in members]),
    )[: sum(map(len, members))]
    return np.sort(table, order="trackletId"), np.sort(links, order="diaSourceId")


class _Night:
    """The sources of a night, in the order of their dates, by visit."""

    def __init__(self, sources: np.ndarray, config: dict):
        self.sources = sources
        self.mjd = sources["midpointMjdTai"]
        self.points = sphere.unit_vectors(sources["ra"], sources["dec"])
        errors = [np.nan_to_num(sources[name].astype(float), nan=0.0) for name in ("raErr", "decErr")]
        self.error2 = np.maximum(np.radians(errors) ** 2, (LEAST_ERROR * ARCSEC) ** 2).mean(0)
        self.flux, self.flux_error = (sources[name].astype(float) for name in ("psfFlux", "psfFluxErr"))
        self.radius = config["radius"] * ARCSEC
        self.max_rate = config["max_rate"] * ARCSEC / HOUR
        self.visits = [np.flatnonzero(sources["visit"] == visit) for visit in dict.fromkeys(sources["visit"].tolist())]
        moving = ~self._still()
        self.visits = [rows[moving[rows]] for rows in self.visits if moving[rows].any()]
        self.trees = [cKDTree(self.points[rows]) for rows in self.visits]

    def _still(self) -> np.ndarray:
        """Sources at the place of one in another visit of the night."""
        still = np.zeros(len(self.sources), bool)
        farthest = self._limit(self.error2.max(initial=0.0) * 2)
        pairs = (
            cKDTree(self.points).query_pairs(farthest, output_type="ndarray") if len(still) else np.empty((0, 2), int)
        )
        i, j = pairs[self.sources["visit"][pairs[:, 0]] != self.sources["visit"][pairs[:, 1]]].T
        together = sphere.separation(self.points[i], self.points[j]) <= self._limit(self.error2[i] + self.error2[j])
        still[i[together]] = still[j[together]] = True
        return still

    def _limit(self, error2: np.ndarray) -> np.ndarray:
        """Largest distance of two detections of what stands still; `error2` is the variance of one coordinate."""
        return np.sqrt(self.radius**2 + SIGMAS**2 * 2 * error2)

    def motions(self) -> list[np.ndarray]:
        """Sources that each proposed motion meets: rows, those of a pair and the nearest in every other visit."""
        found = []
        for a in range(len(self.visits)):
            for b in range(a + 1, len(self.visits)):
                i, j = self._pairs(a, b)
                if not len(i):
                    continue
                met = [self._met(i, j, c) for c in range(len(self.visits)) if c not in (a, b)]
                found += [row[row >= 0] for row in np.column_stack([i, j, *met])]
        return found

    def _pairs(self, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of two visits that may be one thing."""
        days = self.mjd[self.visits[b][0]] - self.mjd[self.visits[a][0]]
        if days <= 0:
            return np.empty(0, int), np.empty(0, int)
        near = self.trees[a].query_ball_tree(self.trees[b], 2 * np.sin(min(days * self.max_rate, np.pi) / 2))
        i = self.visits[a][np.repeat(np.arange(len(near)), [len(each) for each in near])]
        j = self.visits[b][np.array([k for each in near for k in each], int)]
        alike = self._alike(i, j)
        return i[alike], j[alike]

    def _alike(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Whether two sources may be one thing by their fluxes."""
        brighter, fainter = (choose(self.flux[i], self.flux[j]) for choose in (np.maximum, np.minimum))
        error = np.hypot(self.flux_error[i], MAX_RATIO * self.flux_error[j])
        other_band = self.sources["band"][i] != self.sources["band"][j]
        return other_band | (brighter - MAX_RATIO * fainter <= SIGMAS * error)

    def _met(self, i: np.ndarray, j: np.ndarray, visit: int) -> np.ndarray:
        """The source of a visit that is nearest to where each pair would be then, or -1."""
        rows = self.visits[visit]
        part = (self.mjd[rows[0]] - self.mjd[i]) / (self.mjd[j] - self.mjd[i])
        distance, k = self.trees[visit].query(sphere.between(self.points[i], self.points[j], part))
        k = rows[k]
        error2 = (1 - part) ** 2 * self.error2[i] + part**2 * self.error2[j] + self.error2[k]
        fits = (distance**2 <= SIGMAS**2 * 2 * error2) & self._alike(i, k) & self._alike(j, k)
        return np.where(fits, k, -1)

    def chosen(self, motions: list[np.ndarray], fewest: int) -> list[np.ndarray]:
        """The rows of each tracklet, in order: most members first, then the best fit."""
        motions = {tuple(np.sort(each)) for each in motions if len(each) >= fewest}
        ranked = sorted((-len(each), float(self.fitted(np.array(each))["chi2"][0]), each) for each in motions)
        taken, kept = np.zeros(len(self.sources), bool), []
        for _, _, each in ranked:
            rows = np.array(each)
            if not taken[rows].any():
                taken[rows] = True
                kept.append(rows)
        return kept

    def fitted(self, rows: np.ndarray) -> np.ndarray:
        """The row of table "tracklet" of some sources: least squares in the plane that touches the sky there."""
        ra, dec = sphere.sky_position(self.points[rows].mean(0))
        plane = np.stack(sphere.gnomonic(self.sources["ra"][rows], self.sources["dec"][rows], ra, dec), axis=1)
        weight = 1 / self.error2[rows]
        mean_mjd = np.average(self.mjd[rows], weights=weight)
        days = self.mjd[rows] - mean_mjd
        origin = np.average(plane, axis=0, weights=weight)
        speed = (weight * days) @ plane / (weight @ days**2)
        off2 = ((plane - origin - days[:, None] * speed) ** 2).sum(1)
        freedom = 2 * len(rows) - 4
        at = sphere.from_gnomonic(*origin[:, None], np.array([ra]), np.array([dec]))
        return tables.from_columns(
            "tracklet",
            trackletId=self.sources["diaSourceId"][rows[0]],
            nDiaSources=len(rows),
            firstDiaSourceMjdTai=self.mjd[rows].min(),
            lastDiaSourceMjdTai=self.mjd[rows].max(),
            mjd=mean_mjd,
            ra=at[0][0],
            dec=at[1][0],
            rate=np.hypot(*speed) * HOUR / ARCSEC,
            positionAngle=np.degrees(np.arctan2(*speed)) % 360,
            residual=np.sqrt(off2.sum() / freedom) / ARCSEC if freedom > 0 else np.nan,
            chi2=(weight * off2).sum(),
        )


def columns(rows: np.ndarray, links: np.ndarray) -> dict[str, np.ndarray]:
    """The tracklet of each DIASource.

    Parameters
    ----------
    rows : "dia_source" table
    links : "tracklet_link" table

    Returns
    -------
    dict of str to (n,) array
        Column trackletId: 0 for none.
    """
    row = ids.rows_of(links["diaSourceId"], rows["diaSourceId"])
    return {"trackletId": np.append(links["trackletId"], 0)[row]}  # -1 is the last
