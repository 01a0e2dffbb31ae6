"""DIASources at given places anywhere on the sky, and two tracts that overlap."""

import numpy as np

from diaflow.sky.skymap.maps import SkyMap, Tract
from diaflow.store import ids, tables
from diaflow.units import ARCSEC

# What every algorithm of association reads.
COMMON = {
    "radius": 1.0,
    "bands": [],
    "min_snr": 0,
    "flags": ["pixelFlags", "psfFlux_flag", "glint_trail"],
    "aggregates": [],
}


def around(ra0, dec0, east, north):
    """RA, Dec [deg] of tangent-plane offsets [arcsec] from a point; exact at the poles."""
    a, d = np.deg2rad(ra0), np.deg2rad(dec0)
    axes = np.array(
        [
            [np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)],
            [-np.sin(a), np.cos(a), 0],
            [-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)],
        ]
    )
    x, y, z = axes[0][:, None] + ARCSEC * (np.outer(axes[1], east) + np.outer(axes[2], north))
    return np.rad2deg(np.arctan2(y, x)) % 360, np.rad2deg(np.arctan2(z, np.hypot(x, y)))


def dia_sources(visit, detector, ra, dec, **columns):
    """A "dia_source" table with ids as in a run: numbered within visit and detector."""
    visit, detector = np.asarray(visit), np.broadcast_to(detector, np.shape(visit))
    id_ = np.zeros(len(visit), np.int64)
    for key in set(zip(visit.tolist(), detector.tolist())):
        rows = np.flatnonzero((visit == key[0]) & (detector == key[1]))
        id_[rows] = ids.source_ids(*key, len(rows))
    return tables.from_columns(
        "dia_source", **{"diaSourceId": id_, "visit": visit, "detector": detector, "ra": ra, "dec": dec, **columns}
    )


def two_tracts(ra, dec):
    """3 x 3 patches of 100 pixels with a border of 20, pixels of 0.5 arcsec, 75 arcsec around each of two centres."""
    tracts = {
        id_: Tract(id_, ra + east / 3600 / np.cos(np.deg2rad(dec)), dec, 74.6 / 3600, 0.5, 100, 20)
        for id_, east in ((7, 0), (9, 75))
    }
    assert all(tract.n_patches == (3, 3) for tract in tracts.values())
    return SkyMap("discrete", tracts)
