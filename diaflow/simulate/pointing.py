"""Where and when the camera looks: visits, dithers, observing conditions, headers and the exposure table.

Season one makes the template, season two has the transients.  Every night observes all bands, one visit each.
The header knows each visit roughly: its WCS has a pointing error and no distortion, its seeing and zero point
are estimates, and it does not know of clouds that the configuration names.  Only numpy is needed here.
"""

import math
import zlib
from dataclasses import dataclass

import numpy as np

from diaflow.simulate import field
from diaflow.simulate.camera import cd_matrix, reference_pixel
from diaflow.sky import sphere

# All of these are chosen.
FIRST_NIGHT = {"template": 60200, "science": 60560}  # MJD (UTC)
CADENCE = 6  # days between observing nights
NIGHT_START, BAND_DELAY = 0.2, 0.02  # first exposure of a night, and time to the next band [d]
REVISIT = 0.06  # time between visits of a band in one night [d]
EXPTIME = 100.0  # s
ROTATION = 0.4  # largest position angle [deg]
GAIN, READ_NOISE, SATURATION, BIAS = 1.6, 6.0, 60000.0, 1000.0  # e/DN, e, DN, DN
ZERO_POINT, CLOUDS = 30.0, 0.1  # mean AB mag of 1 DN in the exposure, and its scatter [mag]
SKY = 800.0  # mean sky level [DN]
SKY_RANGE = (0.7, 1.3)  # of a visit over the mean
START_JITTER = 0.01  # largest delay of an exposure [d]
# Errors of the header: seeing over the true one, and largest error of the zero point [mag].
HEADER_SEEING, HEADER_ZERO_POINT = (0.9, 1.1), 0.1
ROTATION_ERROR = 0.01  # rms of the header WCS's angle [deg]
TAI_MINUS_UTC = 37.0  # since 2017 [s] (IERS Bulletin C 52)
DAY = 86400.0  # [s]


@dataclass(frozen=True)
class Pointing:
    """Where the camera looks.

    Attributes
    ----------
    ra, dec : float
        Of the reference point of its WCS [deg]: its centre, unless the configuration has it elsewhere.
    rotation : float
        Angle of its y axis east of north at that point [deg].
    """

    ra: float
    dec: float
    rotation: float


@dataclass(frozen=True)
class Visit:
    """One exposure of the whole camera.

    Attributes
    ----------
    visit : int
        Number, 1, 2, ... in order of time.
    band : str
    mjd_start : float
        Start of the exposure, MJD in UTC.
    true, header : Pointing
        Where the camera looked, and where the header says so.
    seeing, header_seeing : float
        PSF FWHM at the centre of the camera and the header's estimate [arcsec].
    zero_point, header_zero_point : float
        AB magnitude of 1 DN in the whole exposure and the header's estimate.
    sky : float
        Sky level at the centre [DN].
    sky_gradient : (2,) tuple
        Relative change of the sky from the centre to the edge of the camera in x and y.
    """

    visit: int
    band: str
    mjd_start: float
    true: Pointing
    header: Pointing
    seeing: float
    header_seeing: float
    zero_point: float
    header_zero_point: float
    sky: float
    sky_gradient: tuple[float, float]

    @property
    def mjd(self) -> float:
        """Middle of the exposure, MJD in TAI."""
        return self.mjd_start + (EXPTIME / 2 + TAI_MINUS_UTC) / DAY


def stream(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A random generator that depends on its arguments alone, so that no draw disturbs another.

    Parameters
    ----------
    seed : int
        Of the survey.
    purpose : str
        What is drawn.
    *numbers : int
        For which visit, detector, ...

    Returns
    -------
    numpy.random.Generator
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *numbers])


def visits(config: dict) -> list[Visit]:
    """All visits of the survey.

    Parameters
    ----------
    config : dict
        The `simulate` section.

    Returns
    -------
    list of Visit
        In order of time.
    """
    slots = sorted(slot for i, band in enumerate(config["bands"]) for slot in _slots(config, i, band))
    return [_visit(config, number, mjd, band) for number, (mjd, band) in enumerate(slots, start=1)]


def _slots(config: dict, i: int, band: str) -> list[tuple[float, str]]:
    """Times before which no exposure of the i-th band starts, MJD in UTC."""
    slots = []
    for season, first in FIRST_NIGHT.items():
        for k in range(_number(config, season, band)):
            night, turn = divmod(k, config["visits_per_night"])
            slots.append((first + CADENCE * night + NIGHT_START + i * BAND_DELAY + turn * REVISIT, band))
    return slots


def _number(config: dict, season: str, band: str) -> int:
    """Visits of a band in a season."""
    return _of_band(config[f"{season}_visits"], band)


def _of_band(value, band: str):
    """A value of the configuration that is the same in all bands, or has one for each."""
    return value[band] if isinstance(value, dict) else value


def length(config: dict, season: str) -> int:
    """Days from the first night of a season to the one after its last.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    season : str
        ``template`` or ``science``.

    Returns
    -------
    int
    """
    most = max(_number(config, season, band) for band in config["bands"])
    return CADENCE * math.ceil(most / config["visits_per_night"])


def _visit(config: dict, number: int, mjd_start: float, band: str) -> Visit:
    rng = stream(config["seed"], "visit", number)
    dither_x, dither_y = rng.uniform(-field.DITHER, field.DITHER, 2) / 3600
    true = _pointing(config, dither_x, dither_y, rng.uniform(-ROTATION, ROTATION))
    error_x, error_y = rng.normal(0, config["pointing_error"] / math.sqrt(2), 2) / 3600
    header = _mistaken(config, true, error_x, error_y, rng.normal(0, ROTATION_ERROR))
    seeing = _between(rng, *_of_band(config["seeing"], band))
    clear = rng.normal(ZERO_POINT, CLOUDS)
    gradient = config["sky"]["gradient"]
    return Visit(
        visit=number,
        band=band,
        mjd_start=round(mjd_start + rng.uniform(0, START_JITTER), 6),
        true=true,
        header=header,
        seeing=seeing,
        header_seeing=round(seeing * rng.uniform(*HEADER_SEEING), 2),
        zero_point=clear - dict(config["clouds"]).get(number, 0.0),
        header_zero_point=round(clear + rng.uniform(-HEADER_ZERO_POINT, HEADER_ZERO_POINT), 3),
        sky=SKY * rng.uniform(*SKY_RANGE),
        sky_gradient=tuple(rng.uniform(-gradient, gradient, 2)),
    )


def _between(rng: np.random.Generator, smallest: float, *others: float) -> float:
    """A random number from the smallest to the largest: uniform, or a power of that with a median in between."""
    *median, largest = others
    if not median:
        return rng.uniform(smallest, largest)
    power = math.log((median[0] - smallest) / (largest - smallest)) / math.log(0.5)
    return smallest + (largest - smallest) * rng.uniform() ** power


def _pointing(config: dict, east: float, north: float, rotation: float) -> Pointing:
    """Of a camera whose centre is this far from that of the field [deg], turned by an angle at the field's centre."""
    middle = field.centre(config)
    ra, dec = field.moved(config, *middle, east, north)
    rotation += field.convergence(config, *middle, ra, dec)
    if any(config["reference_offset"]):
        x, y = (-3600 / config["pixel_scale"] * part for part in config["reference_offset"])
        reference = field.moved(config, ra, dec, *cd_matrix(config, rotation) @ (x, y))
        rotation += field.convergence(config, ra, dec, *reference)
        ra, dec = reference
    return Pointing(float(ra), float(dec), float(rotation))


def _mistaken(config: dict, true: Pointing, east: float, north: float, rotation: float) -> Pointing:
    """What the header has for a pointing: it is off [deg] and turned by an angle [deg]."""
    if config["field"] is None:
        stretch = math.cos(math.radians(field.FIELD[1]))
        return Pointing(true.ra + east / stretch, true.dec + north, true.rotation + rotation)
    ra, dec = field.moved(config, true.ra, true.dec, east, north)
    rotation += true.rotation + field.convergence(config, true.ra, true.dec, ra, dec)
    return Pointing(float(ra), float(dec), float(rotation))


def folder(config: dict) -> str:
    """Where the survey lies.

    Parameters
    ----------
    config : dict
        The `simulate` section.

    Returns
    -------
    str
        ``demo``, or ``simulated/{name}`` of a survey with a name.
    """
    return "demo" if config["name"] is None else f"simulated/{config['name']}"


def header(config: dict, visit: Visit, detector: int) -> dict[str, tuple]:
    """FITS keywords of a raw image.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    visit : Visit
    detector : int

    Returns
    -------
    dict
        (value, comment) by key; the WCS has the pointing of the header and no distortion.
    """
    x0, y0 = reference_pixel(config, detector)
    cd = cd_matrix(config, visit.header.rotation)
    return {
        "VISIT": (visit.visit, "number of the visit"),
        "DETECTOR": (detector, "number of the CCD"),
        "FILTER": (visit.band, "filter name"),
        "TIMESYS": ("UTC", "time system"),
        "MJD-OBS": (visit.mjd_start, "start of the exposure [d]"),
        "EXPTIME": (EXPTIME, "exposure time [s]"),
        "GAIN": (GAIN, "gain [electron/DN]"),
        "RDNOISE": (READ_NOISE, "read noise [electron]"),
        "SATURATE": (SATURATION, "saturated from here [DN]"),
        "BIASLVL": (BIAS, "soft bias [DN]"),
        "SEEING": (visit.header_seeing, "approximate PSF FWHM [arcsec]"),
        "MAGZERO": (visit.header_zero_point, "approximate AB mag of 1 DN in the exposure"),
        "RADESYS": ("ICRS", "reference frame"),
        "CTYPE1": ("RA---TAN", "projection"),
        "CTYPE2": ("DEC--TAN", "projection"),
        "CUNIT1": ("deg", "unit of CRVAL1, CD1_j"),
        "CUNIT2": ("deg", "unit of CRVAL2, CD2_j"),
        "CRVAL1": (visit.header.ra, "reference right ascension [deg]"),
        "CRVAL2": (visit.header.dec, "reference declination [deg]"),
        "CRPIX1": (x0 + 1, "reference pixel"),
        "CRPIX2": (y0 + 1, "reference pixel"),
        **{f"CD{i + 1}_{j + 1}": (float(cd[i, j]), "pixel to degree") for i in range(2) for j in range(2)},
    }


def plan(config: dict) -> np.ndarray:
    """The exposure table that `ingest.ingest_images` makes of the written images, without making them.

    Parameters
    ----------
    config : dict
        The complete `simulate` section.

    Returns
    -------
    "exposure" table
        One row per visit and detector; paths are ``images/{visit}_{detector}.fits`` in its folder.
    """
    from diaflow.store import tables

    exposures = [(visit, detector) for visit in visits(config) for detector in range(config["detectors"])]
    size = config["size"]
    edge = np.array([[-0.5, -0.5], [size - 0.5, -0.5], [size - 0.5, size - 0.5], [-0.5, size - 0.5]])
    points = np.vstack([[[(size - 1) / 2] * 2], edge])
    sky = np.array([_tangent_to_sky(config, visit.header, detector, points) for visit, detector in exposures])
    names = ["", "_1", "_2", "_3", "_4"]
    positions = {f"{axis}{name}": sky[:, i, k] for i, axis in enumerate(("ra", "dec")) for k, name in enumerate(names)}
    return tables.from_columns(
        "exposure",
        imagetype="science",
        visit=[visit.visit for visit, _ in exposures],
        detector=[detector for _, detector in exposures],
        band=[visit.band for visit, _ in exposures],
        mjd=[visit.mjd for visit, _ in exposures],
        exptime=EXPTIME,
        gain=GAIN,
        read_noise=READ_NOISE,
        saturation=SATURATION,
        bias=BIAS,
        zero_point=[visit.header_zero_point for visit, _ in exposures],
        seeing=[visit.header_seeing for visit, _ in exposures],
        nx=size,
        ny=size,
        pixel_scale=config["pixel_scale"],
        path=[f"{folder(config)}/images/{visit.visit}_{detector}.fits" for visit, detector in exposures],
        status="ok",
        **positions,
    )


def _tangent_to_sky(config: dict, pointing: Pointing, detector: int, points: np.ndarray) -> tuple:
    """Sky positions ra (n,), dec (n,) [deg] of pixels (n, 2) through a gnomonic projection."""
    offset = points - reference_pixel(config, detector)
    xi, eta = np.radians(cd_matrix(config, pointing.rotation) @ offset.T)
    return sphere.from_gnomonic(xi, eta, pointing.ra, pointing.dec)
