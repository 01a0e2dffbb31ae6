"""What is known of a DIAObject from its DIASources: mean position, times, and flux statistics in each band.

In: a "dia_source" table and the object index of each row.  Out: a "dia_object" table.  The statistics are those of
LSST's DIAObject table (`diaCalculationPlugins` of meas_base): fluxes count when they and their errors are finite;
`statistics` has those that are options.
Sums run over the sources of an object in the order of visit, detector and diaSourceId, whatever else is in the
table, so that two patches that see the same sources get the same bits.
"""

from collections.abc import Collection, Sequence

import numpy as np

from diaflow.associate.statistics import STATISTICS, Fluxes
from diaflow.sky import sphere
from diaflow.store import tables

# What is read of DIASources, but for flags.
COLUMNS = (
    "diaSourceId", "visit", "detector", "band", "midpointMjdTai", "ra", "dec", "raErr", "decErr",
    "psfFlux", "psfFluxErr", "scienceFlux", "scienceFluxErr", "pixelFlags",
)  # fmt: skip


def flag_columns() -> list[str]:
    """The flags of DIASources that make the aggregate `flags`.

    Returns
    -------
    list of str
    """
    columns = tables.schema("dia_source").items()
    return [name for name, entry in columns if entry["type"] == "bool" and "flag" in name.lower()]


def dia_objects(
    sources: np.ndarray, object_index: np.ndarray, bands: Sequence[str], options: Collection[str] = ()
) -> np.ndarray:
    """Aggregates of the sources of each object.

    Parameters
    ----------
    sources : "dia_source" table, shape (n,)
    object_index : (n,) int array
        Object of each source, 0 ... n_objects - 1 without gaps; -1 for none.
    bands : sequence of str
        Bands to make columns for.
    options : collection of str
        More columns: options of the table. Those of fpFlux stay empty.

    Returns
    -------
    "dia_object" table, shape (n_objects,)
        Row i is object i; diaObjectId is the diaSourceId of its first source; tract and patch are left empty.
        Positions are mean directions (spherical mean); raErr includes cos(dec) and, like decErr, is propagated
        from the errors of the sources.
    """
    rows = np.flatnonzero(object_index >= 0)
    rows = rows[np.lexsort([sources[name][rows] for name in ("diaSourceId", "detector", "visit")])]
    index = object_index[rows]
    n_objects = index.max(initial=-1) + 1
    count = np.bincount(index, minlength=n_objects)
    objects = tables.empty("dia_object", n_objects, bands, options)
    founders = np.unique(index, return_index=True)[1]
    objects["diaObjectId"] = sources["diaSourceId"][rows][founders]
    objects["ra"], objects["dec"] = _mean_position(sources["ra"][rows], sources["dec"][rows], index, n_objects)
    for name in ("raErr", "decErr"):
        squares = sources[name][rows].astype(float) ** 2
        objects[name] = np.sqrt(_sums(index, squares, n_objects)) / count
    objects["nDiaSources"] = count
    objects["nDiaSourcesUnflagged"] = np.bincount(index[~sources["pixelFlags"][rows]], minlength=n_objects)
    mjd = sources["midpointMjdTai"][rows]
    np.fmin.at(objects["firstDiaSourceMjdTai"], index, mjd)
    np.fmax.at(objects["lastDiaSourceMjdTai"], index, mjd)

    if "ra_dec_Cov" in options:
        objects["ra_dec_Cov"] = _covariance(sources["ra"][rows], sources["dec"][rows], index, objects)
    if "flags" in options:
        for name in flag_columns():
            objects["flags"][index[sources[name][rows]]] = 1
    _add_fluxes(objects, sources, rows, index, mjd, bands, options)
    return objects


def _add_fluxes(objects, sources, rows, index, mjd, bands, options):
    """Fill the columns of each band; `rows` of the sources, with their objects and times."""
    n_objects = len(objects)
    psf, science = (_fluxes(sources, rows, name) for name in ("psfFlux", "scienceFlux"))
    band_of = sources["band"][rows]
    for band in bands:
        mine = band_of == band
        statistics = flux_statistics(index[mine], *(values[mine] for values in psf), mjd[mine], n_objects)
        for name, values in statistics.items():
            objects[f"{band}_psfFlux{name}"] = values
        mean, error, _ = weighted_mean(index[mine], *(values[mine] for values in science), n_objects)
        objects[f"{band}_scienceFluxMean"], objects[f"{band}_scienceFluxMeanErr"] = mean, error
        if "scienceFluxSigma" in options:
            total = flux_statistics(index[mine], *(values[mine] for values in science), mjd[mine], n_objects)
            objects[f"{band}_scienceFluxSigma"] = total["Sigma"]
        counts = np.flatnonzero(mine)[_measured(*(values[mine] for values in psf))]
        fluxes = Fluxes(index[counts], *(values[counts] for values in psf), mjd[counts], n_objects)
        for option in STATISTICS.keys() & set(options):
            for name, values in STATISTICS[option](fluxes).items():
                objects[f"{band}_{name}"] = values


def flux_statistics(
    index: np.ndarray, flux: np.ndarray, error: np.ndarray, mjd: np.ndarray, n_objects: int
) -> dict[str, np.ndarray]:
    """Statistics of the fluxes of each object: Mean, MeanErr, Sigma, Ndata, Chi2, Min, Max, MaxSlope, ErrMean.

    Parameters
    ----------
    index : (n,) int array
        Object of each flux.
    flux, error : (n,) arrays
        Fluxes that are not finite, or whose errors are not finite and positive, do not count.
    mjd : (n,) array
        Times, for MaxSlope: the largest (signed) slope between consecutive fluxes.
    n_objects : int

    Returns
    -------
    dict of (n_objects,) arrays
        NaN where an object has too few fluxes: none, or one for Sigma (ddof 1) and MaxSlope.
    """
    good = _measured(flux, error)
    index, flux, error, mjd = index[good], flux[good], error[good], mjd[good]
    mean, mean_error, count = weighted_mean(index, flux, error, n_objects)
    some, several = np.where(count > 0, count, np.nan), np.where(count > 1, count, np.nan)
    plain_mean = _sums(index, flux, n_objects) / some
    scatter = _sums(index, (flux - plain_mean[index]) ** 2, n_objects)
    chi2 = _sums(index, ((flux - mean[index]) / error) ** 2, n_objects)
    smallest, largest, steepest = np.full((3, n_objects), np.nan)
    np.fmin.at(smallest, index, flux)
    np.fmax.at(largest, index, flux)
    order = np.lexsort((mjd, index))
    d_flux, d_time = np.diff(flux[order]), np.diff(mjd[order])
    steps = (np.diff(index[order]) == 0) & (d_time > 0)
    np.fmax.at(steepest, index[order][1:][steps], d_flux[steps] / d_time[steps])
    return {
        "Mean": mean,
        "MeanErr": mean_error,
        "Sigma": np.sqrt(scatter / (several - 1)),
        "Ndata": count,
        "Chi2": np.where(count > 0, chi2, np.nan),
        "Min": smallest,
        "Max": largest,
        "MaxSlope": steepest,
        "ErrMean": _sums(index, error, n_objects) / some,
    }


def weighted_mean(
    index: np.ndarray, flux: np.ndarray, error: np.ndarray, n_objects: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inverse-variance weighted mean of the fluxes of each object.

    Parameters
    ----------
    index : (n,) int array
        Object of each flux.
    flux, error : (n,) arrays
        As in `flux_statistics` [nJy].
    n_objects : int

    Returns
    -------
    mean, error : (n_objects,) arrays
        NaN where an object has no flux [nJy].
    count : (n_objects,) int array
        Fluxes that count.
    """
    good = _measured(flux, error)
    index, flux, weight = index[good], flux[good], 1 / error[good] ** 2
    total = _sums(index, weight, n_objects)
    total[total == 0] = np.nan
    count = np.bincount(index, minlength=n_objects)
    return _sums(index, weight * flux, n_objects) / total, 1 / np.sqrt(total), count


def _mean_position(ra, dec, index, n_objects):
    sums = [_sums(index, component, n_objects) for component in sphere.unit_vectors(ra, dec).T]
    return sphere.sky_position(np.stack(sums, axis=-1))


def _covariance(ra, dec, index, objects):
    """Covariance of the mean position, from the scatter about it [deg**2]."""
    count = np.bincount(index, minlength=len(objects))
    centre = objects["ra"][index], objects["dec"][index]
    products = _sums(index, np.prod(sphere.offsets(ra, dec, *centre), axis=0), len(objects))
    return np.where(count > 1, products, np.nan) / np.maximum(count * (count - 1), 1)


def _sums(index, values, n_objects):
    return np.bincount(index, values, n_objects).astype(float)  # bincount of nothing would be integer


def _fluxes(sources, rows, name):
    return sources[name][rows].astype(float), sources[f"{name}Err"][rows].astype(float)


def _measured(flux, error):
    return np.isfinite(flux) & np.isfinite(error) & (error > 0)
