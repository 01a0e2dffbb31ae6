"""What tests are made of: stamps, stars, sky grids, exposures and rows of tables; no other file makes an Exposure."""

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, Sip
from scipy.special import erf

from diaflow.image.exposure import Exposure
from diaflow.image.noise import WHITE
from diaflow.psf.stampfield import StampField
from diaflow.sky.wcs import central_pixel_scale, header_wcs, image_corners
from diaflow.store import tables

IDENTITY = {"visit": 7, "detector": 3, "band": "r", "mjd": 60000.0, "exptime": 30.0}


def gaussian(sigma, size=31, dx=0.0, dy=0.0):
    """Gaussian stamp of unit sum, sampled at the middle of the pixels, offset from the centre pixel."""
    t = np.arange(size) - size // 2
    stamp = np.exp(-0.5 * ((t[:, None] - dy) ** 2 + (t - dx) ** 2) / sigma**2)
    return stamp / stamp.sum()


def elliptical(sigma_x, sigma_y, size, angle=0.0):
    """Gaussian stamp of unit sum whose axes are turned by `angle` [radian]."""
    t = np.arange(size) - size // 2
    u, v = t * np.cos(angle) + t[:, None] * np.sin(angle), t[:, None] * np.cos(angle) - t * np.sin(angle)
    stamp = np.exp(-0.5 * ((u / sigma_x) ** 2 + (v / sigma_y) ** 2))
    return stamp / stamp.sum()


def pixel_gaussian(sigma, size, dx=0.0, dy=0.0):
    """Gaussian of unit flux integrated over pixels, offset from the centre pixel; what is outside the stamp is lost."""
    t = np.arange(size) - size // 2

    def along(d):
        return (erf((t + 0.5 - d) / (sigma * 2**0.5)) - erf((t - 0.5 - d) / (sigma * 2**0.5))) / 2

    return np.outer(along(dy), along(dx))


def constant_psf(stamp, shape):
    """The PSF of an image that is `stamp` everywhere."""
    return StampField(stamp[None], 0, shape)


def star_image(shape, x, y, sigma, flux=1.0):
    """Image of one Gaussian star, sampled at the middle of the pixels."""
    ny, nx = shape
    gx = np.exp(-((np.arange(nx) - x) ** 2) / (2 * sigma**2))
    gy = np.exp(-((np.arange(ny) - y) ** 2) / (2 * sigma**2))
    return flux * gy[:, None] * gx / (2 * np.pi * sigma**2)


def tan_header(ra=150.0, dec=2.0, scale=0.5, angle=0.0, parity=-1.0, shape=(1000, 800)):
    """Header of a TAN image centred on (ra, dec), y axis turned by `angle` [deg]."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    cd = np.array([[parity * c, s], [-parity * s, c]]) * scale / 3600
    header = fits.Header({"NAXIS": 2, "NAXIS1": shape[1], "NAXIS2": shape[0]})
    header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg"})
    header.update({"CRVAL1": ra, "CRVAL2": dec, "CRPIX1": (shape[1] + 1) / 2, "CRPIX2": (shape[0] + 1) / 2})
    header.update({"CD1_1": cd[0, 0], "CD1_2": cd[0, 1], "CD2_1": cd[1, 0], "CD2_2": cd[1, 1]})
    return header


def tan_wcs(shape, scale=0.2, rotation=0.0, shift=(0.0, 0.0), centre=(359.999, -30.0), sip=None):
    """TAN about the middle of an image; scale ["/pixel], rotation [deg], shift [pixel], centre [deg], terms of SIP."""
    wcs = WCS(tan_header(*centre, scale, rotation, shape=shape))
    wcs.wcs.crpix += shift
    if sip:
        wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
        wcs.sip = Sip(*sip, None, None, wcs.wcs.crpix)
    wcs.wcs.set()
    return wcs


def quadratic(k):
    """SIP terms of an arbitrary distortion of second order."""
    return np.array([[0, 0, 0], [0, -k, 0], [k, 0, 0]]), np.array([[0, 0, k], [0, 0, 0], [-k, 0, 0]])


def cubic(k):
    """SIP terms of the radial distortion k r**3."""
    a = np.zeros((4, 4))
    a[3, 0] = a[1, 2] = k
    return a, a.T


def exposure(image, variance=1.0, psf=None, wcs=None, noise=WHITE, **metadata):
    """Pixels without flaws; the variance is a number or an image."""
    image = np.array(image, np.float32)
    variance = np.broadcast_to(variance, image.shape).astype(np.float32)
    wcs = tan_wcs(image.shape) if wcs is None else wcs
    return Exposure(image, variance, np.zeros(image.shape, np.int32), wcs, psf, noise=noise, metadata=metadata)


def source_table(x, y, flux, error):
    """Stars of a known place and flux, as calibration tabulates them."""
    return tables.from_columns("source", x=x, y=y, psfFlux=flux, psfFluxErr=error, extendedness=0.0)


def exposure_row(shape, **values):
    """Row of the exposure table."""
    known = IDENTITY | {"nx": shape[1], "ny": shape[0], "status": "ok"}
    return tables.from_columns("exposure", **(known | values))[0]


def exposure_table(headers):
    """Exposure table with one visit per header."""
    table = tables.empty("exposure", len(headers))
    table["visit"], table["band"], table["status"] = np.arange(len(headers)) + 1, "r", "ok"
    for row, header in zip(table, headers):
        shape = header["NAXIS2"], header["NAXIS1"]
        wcs = header_wcs(header)
        for k, (ra, dec) in enumerate(zip(*image_corners(wcs, shape)), start=1):
            row[f"ra_{k}"], row[f"dec_{k}"] = ra, dec
        row["pixel_scale"] = central_pixel_scale(wcs, shape)
    return table
