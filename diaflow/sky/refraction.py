"""Differential chromatic refraction: where the atmosphere puts the light of each part of a band.

In: the observatory, the date and the position of a field.  Out: refraction, and how far the sub-bands of a filter are
displaced towards the zenith, in pixels.  Refraction is that of Stone (1996, PASP 108, 1051), with the tan^3 term
subtracted; weather is that of the altitude, as errors of it scale all images of a run alike.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS

from diaflow.errors import InputError
from diaflow.sky.sphere import from_gnomonic, towards
from diaflow.sky.wcs import sky_to_pixel
from diaflow.units import ARCSEC

CELSIUS = 273.15  # 0 deg C [K]
# Of the standard atmosphere: at sea level [mbar, deg C], and the altitude over which pressure falls by e [m].
PRESSURE, TEMPERATURE, SCALE_HEIGHT = 1013.25, 10.0, 8149.9
HUMIDITY = 40.0  # relative [%]
# Of the saturated vapour pressure (Magnus) [mbar, 1, deg C].
MAGNUS = 6.1121, 17.67, 243.5
# Largest zenith distance at which the formula holds [deg].
MAX_ZENITH_DISTANCE = 80.0
MJD_0 = 2400000.5  # Julian date of MJD 0 [d]


def pressure_at(altitude: float) -> float:
    """Pressure of the standard atmosphere.

    Parameters
    ----------
    altitude : float
        [m]

    Returns
    -------
    float
        [mbar]
    """
    return PRESSURE * float(np.exp(-altitude / SCALE_HEIGHT))


def refractivity(
    wavelength: np.ndarray, pressure: float = PRESSURE, temperature: float = TEMPERATURE, humidity: float = HUMIDITY
) -> np.ndarray:
    """Refractive index of air minus one (Stone 1996, eqs. 14 to 18), for 230 to 2059 nm.

    Parameters
    ----------
    wavelength : array
        [nm]
    pressure, temperature, humidity : float
        [mbar, deg C, %]

    Returns
    -------
    array
    """
    s2 = (1000 / np.asarray(wavelength, float)) ** 2
    kelvin = temperature + CELSIUS
    water = humidity / 100 * MAGNUS[0] * np.exp(MAGNUS[1] * temperature / (temperature + MAGNUS[2]))
    air = pressure - water
    dry_density = (1 + air * (57.90e-8 - 9.3250e-4 / kelvin + 0.25844 / kelvin**2)) * air / kelvin
    wet_density = water * (1 + water * (1 + 3.7e-4 * water) * _wet_compression(kelvin)) / kelvin
    dry = 2371.34 + 683939.7 / (130 - s2) + 4547.3 / (38.9 - s2)
    wet = 6487.31 + 58.058 * s2 - 0.71150 * s2**2 + 0.08851 * s2**3
    return 1e-8 * (dry * dry_density + wet * wet_density)


def _wet_compression(kelvin: float) -> float:
    return -2.37321e-3 + 2.23366 / kelvin - 710.792 / kelvin**2 + 7.75141e4 / kelvin**3


def refraction(
    wavelength: np.ndarray,
    zenith_distance: float,
    latitude: float,
    altitude: float = 0.0,
    pressure: float | None = None,
    temperature: float = TEMPERATURE,
    humidity: float = HUMIDITY,
) -> np.ndarray:
    """Refraction: how much higher an object appears than it is.

    Parameters
    ----------
    wavelength : array
        [nm]
    zenith_distance : float
        Without refraction, at most `MAX_ZENITH_DISTANCE` [deg].
    latitude, altitude : float
        Of the observatory [deg, m].
    pressure, temperature, humidity : float
        [mbar, deg C, %]; by default the pressure of the standard atmosphere at the altitude.

    Returns
    -------
    array
        [arcsec]
    """
    excess = refractivity(wavelength, pressure_at(altitude) if pressure is None else pressure, temperature, humidity)
    beta = 4.5908e-6 * (temperature + CELSIUS)
    sin2, sin2_double = np.sin(np.radians([latitude, 2 * latitude])) ** 2
    kappa = 1 + 0.005302 * sin2 - 0.00000583 * sin2_double - 3.15e-7 * altitude
    tan = np.tan(np.radians(zenith_distance))
    first, second = kappa * excess * (1 - beta), kappa * excess * (beta - excess / 2)
    return (first * tan - second * tan**3) / ARCSEC


def zenith(mjd: float, latitude: float, longitude: float, altitude: float) -> tuple[float, float]:
    """ICRS position of the zenith.

    Without the rotation of the Earth that tables tell (UT1 - UTC, below 0.9 s or 14 arcsec) and without polar motion.

    Parameters
    ----------
    mjd : float
        TAI [d].
    latitude, longitude, altitude : float
        Of the observatory, geodetic and east of Greenwich [deg, deg, m].

    Returns
    -------
    ra, dec : float
        [deg]
    """
    import warnings

    import erfa

    with warnings.catch_warnings():
        # says that leap seconds of years to come are not known
        warnings.simplefilter("ignore", erfa.ErfaWarning)
        utc = erfa.taiutc(MJD_0, mjd)
        place = np.radians(longitude), np.radians(latitude), altitude
        ra, dec = erfa.atoc13(b"A", 0.0, 0.0, *utc, 0.0, *place, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5)
    return float(np.degrees(ra)), float(np.degrees(dec))


@dataclass(frozen=True)
class Subbands:
    """Equal parts of a band, seen from an observatory.

    Attributes
    ----------
    latitude, longitude, altitude : float
        Of the observatory, geodetic and east of Greenwich [deg, deg, m].
    low, high : float
        Ends of the band [nm].
    n : int
        Odd number of sub-bands; the middle one has the effective wavelength.
    """

    latitude: float
    longitude: float
    altitude: float
    low: float
    high: float
    n: int

    @classmethod
    def from_config(cls, settings: dict, band: str) -> "Subbands":
        """The sub-bands that a configuration asks for.

        Parameters
        ----------
        settings : dict
            Section `template.dcr`.
        band : str

        Returns
        -------
        Subbands
        """
        place = (settings[name] for name in ("latitude", "longitude", "altitude"))
        return cls(*place, *settings["bands"][band], settings["subbands"])

    @classmethod
    def from_metadata(cls, metadata: dict) -> "Subbands | None":
        """The inverse of `metadata`.

        Parameters
        ----------
        metadata : dict
            Of an exposure.

        Returns
        -------
        Subbands or None
            None for an image without sub-bands.
        """
        names = [f"dcr_{name}" for name in cls.__dataclass_fields__]
        return cls(*(metadata[name] for name in names)) if names[-1] in metadata else None

    def metadata(self) -> dict:
        """Entries for the header of an image with sub-bands.

        Returns
        -------
        dict
            Keys dcr_latitude, dcr_longitude, ...
        """
        return {f"dcr_{name}": getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def middle(self) -> int:
        """Index of the middle sub-band."""
        return self.n // 2

    @property
    def wavelengths(self) -> np.ndarray:
        """Middle of each sub-band [nm]."""
        return self.low + (np.arange(self.n) + 0.5) * (self.high - self.low) / self.n

    def offsets(self, mjd: float, wcs: WCS, shape: tuple[int, int]) -> np.ndarray:
        """Where the light of each sub-band falls, relative to that of the middle one.

        Parameters
        ----------
        mjd : float
            TAI [d].
        wcs, shape
            Of an image; the geometry is that of its middle.

        Returns
        -------
        (n, 2) array
            x and y [pixel].

        Raises
        ------
        InputError
            When the field is not above the horizon there and then.
        """
        x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
        ra, dec = (float(value) for value in wcs.all_pix2world(x, y, 0))
        distance, angle = towards(ra, dec, *zenith(mjd, self.latitude, self.longitude, self.altitude))
        if not distance <= MAX_ZENITH_DISTANCE:
            raise InputError(
                f"config: template.dcr: at MJD {mjd:.4f} the field is {distance:.0f} deg from the zenith of the "
                "observatory; are latitude, longitude (east of Greenwich) and the dates of the images right?"
            )
        total = refraction(self.wavelengths, distance, self.latitude, self.altitude)
        east, north = ARCSEC * np.sin(np.radians(angle)), ARCSEC * np.cos(np.radians(angle))
        box = (0, 0, shape[1] - 1, shape[0] - 1)
        one_up = np.array(sky_to_pixel(wcs, *from_gnomonic(east, north, ra, dec), box)) - (x, y)
        return (total - total[self.middle])[:, None] * one_up


def check(config_coadd: dict, bands: Iterable[str], section: str = "template") -> None:
    """Refuse a configuration that asks for method dcr without saying where and in which bands.

    Parameters
    ----------
    config_coadd : dict
        Section `template` or `deep`.
    bands : iterable of str
        Bands of the run.
    section : str
        Which of the two it is.

    Raises
    ------
    InputError
        The message names the key.
    """
    if config_coadd["method"] != "dcr":
        return
    settings = config_coadd["dcr"]
    for name in ("latitude", "longitude"):
        if settings[name] is None:
            raise InputError(f"config: {section}.dcr.{name}: method dcr needs the position of the observatory")
    missing = sorted(set(bands) - set(settings["bands"]))
    if missing:
        raise InputError(f"config: {section}.dcr.bands: no wavelengths of band {', '.join(missing)}")
    for band, (low, high) in settings["bands"].items():
        if low >= high:
            raise InputError(f"config: {section}.dcr.bands.{band}: {low:g} to {high:g} nm is no band")
