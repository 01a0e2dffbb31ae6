"""Star fields in the file formats of other pipelines, with the cards that real headers have."""

from pathlib import Path

import numpy as np
import starfield
from astropy.io import fits

from diaflow.sky.localplane import from_plane

SIZE = 512
SAT, CR, DEAD, FLAGGED = np.s_[100:106, 200:204], np.s_[300:302, 60:75], np.s_[:, 400:402], np.s_[420:440, 20:40]

# Primary header and first CCD (S29) of c4d_190402_050618_ooi_VR_v1.fits.fz.
DECAM_PRIMARY = {
    "OBJECT": "", "PROCTYPE": "InstCal", "PRODTYPE": "image", "PIXSCAL1": 0.27, "PIXSCAL2": 0.27,
    "TELESCOP": "CTIO 4.0-m telescope", "OBSERVAT": "CTIO", "INSTRUME": "DECam", "EXPREQ": 120.0, "EXPTIME": 120.0,
    "EXPDUR": 120.0, "DARKTIME": 120.7646399, "OBSID": "ct4m20190402t050618",
    "DATE-OBS": "2019-04-02T05:06:18.382875", "TIME-OBS": "05:06:18.382875", "MJD-OBS": 58575.21271276,
    "MJD-END": 58575.214101649, "OPENSHUT": "2019-04-02T05:06:18.083850", "TIMESYS": "UTC", "EXPNUM": 845291,
    "OBSTYPE": "object", "CAMSHUT": "Open", "PROPID": "2019A-0337", "FILTER": "VR DECam c0007 6300.0 2600.0",
    "BAND": "VR", "TELRA": "14:23:28.889", "TELDEC": "-13:36:23.800", "AIRMASS": 1.1, "RADESYS": "FK5",
    "EQUINOX": 2000.0, "DETSIZE": "[1:29400,1:29050]", "CCDBIN1": 1, "CCDBIN2": 1, "PHOTREF": "PS1", "MAGZERO": 31.227,
    "MAGZPT": 26.029, "NPHTMTCH": 8579, "SKYSUB": 711.4468, "PLVER": "V4.1", "WCSCAL": "Successful",
    "RA": "14:23:27.81", "DEC": "-13:36:26.2",
}  # fmt: skip
DECAM_CCD = {
    "INHERIT": True, "DETSEC": "[2053:4092,8197:12284]", "DETECTOR": "S3-06_123195-15-3", "CCDNUM": 1, "DETPOS": "S29",
    "GAINA": 3.67992805005758, "RDNOISEA": 6.13928, "SATURATA": 42423.5001001058, "GAINB": 3.62499716613638,
    "RDNOISEB": 5.981542, "SATURATB": 39146.1577751372, "WCSAXES": 2, "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV",
    "CUNIT1": "deg", "CUNIT2": "deg", "CRPIX1": 13422.2, "CRPIX2": 6306.33300000001, "CRVAL1": 215.8658553515,
    "CRVAL2": -13.6072849842, "CD1_1": -1.973017594683e-07, "CD1_2": 7.286055904046e-05,
    "CD2_1": -7.285778428117e-05, "CD2_2": -1.89611031888e-07, "PV1_0": 0.002478697073169, "PV1_1": 1.014909365671,
    "PV1_2": -0.004867599457293, "PV1_3": 0.0, "PV1_4": 0.007388662735536, "PV1_5": -0.02021260128597,
    "PV1_6": 0.004342524624952, "PV1_7": -0.000502494416618, "PV1_8": -0.007273053780327,
    "PV1_9": 0.008010888416329, "PV1_10": -0.001341296365071, "PV2_0": -0.01104562339251, "PV2_1": 1.041073973972,
    "PV2_2": -0.007612743263759, "PV2_3": 0.0, "PV2_4": -0.04706165367744, "PV2_5": 0.01490579602482,
    "PV2_6": -0.01030286078988, "PV2_7": 0.01792576002572, "PV2_8": -0.007518309987306, "PV2_9": 0.007645285959324,
    "PV2_10": -0.002834364628169, "LTM1_1": 1.0, "LTM2_2": 1.0, "LTV1": -1.0, "LTV2": -1.0,
    "SATURATE": 42423.5001001058,
    "FWHM": 6.308315, "ELLIPTIC": 0.1431857, "AVSKY": 711.8328, "AVSIG": 14.43527, "WAT0_001": "system=image",
    "WAT1_001": "wtype=tpv axtype=ra", "WAT2_001": "wtype=tpv axtype=dec", "CENRA1": 215.55, "CENDEC1": -12.70227,
    "COR1RA1": 215.3973, "COR1DEC1": -12.62727, "COR2RA1": 215.3965, "COR2DEC1": -12.77638, "COR3RA1": 215.7036,
    "COR3DEC1": -12.62822, "COR4RA1": 215.703, "COR4DEC1": -12.77718, "ARAWGAIN": 4.34,
}  # fmt: skip
ZTF = {
    "ORIGIN": "Zwicky Transient Facility", "TELESCOP": "Samuel Oschin 48-inch", "INSTRUME": "ZTF/MOSAIC",
    "IMGTYPE": "object", "SHUTOPEN": "2018-03-27T03:15:31.9", "SHUTCLSD": "2018-03-27T03:16:01.9",
    "OBSMJD": 58204.1357870, "OBSJD": 2458204.6357870, "EXPTIME": 30.0, "AEXPTIME": 29.999, "FILTER": "ZTF_r",
    "FILTERID": 2, "FIELDID": 246, "CCDID": 7, "QID": 2, "RCID": 25, "GAIN": 6.2, "READNOI": 10.3, "DARKCUR": 1.0,
    "SATURATE": 52000.0, "PIXSCALE": 1.012, "SEEING": 2.4, "MAGZP": 26.275, "MAGZPUNC": 8.0e-6, "MAGZPRMS": 0.025,
    "CLRCOEFF": 0.09, "CLRCOUNC": 2.0e-5, "RADESYS": "ICRS", "EQUINOX": 2000.0, "WCSAXES": 2, "CTYPE1": "RA---TPV",
    "CTYPE2": "DEC--TPV", "CUNIT1": "deg", "CUNIT2": "deg", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 256.5,
    "CRPIX2": 256.5, "CD1_1": -2.812e-4, "CD1_2": 1.1e-6, "CD2_1": 1.0e-6, "CD2_2": -2.812e-4, "PV1_0": 0.0,
    "PV1_1": 1.0, "PV1_2": 0.0, "PV1_4": 2.1e-4, "PV1_5": -1.7e-4, "PV1_6": 1.2e-4, "PV1_7": 8.0e-4, "PV1_8": 1.0e-4,
    "PV1_9": 7.0e-4, "PV1_10": -1.0e-4, "PV2_0": 0.0, "PV2_1": 1.0, "PV2_2": 0.0, "PV2_4": -1.5e-4, "PV2_5": 2.0e-4,
    "PV2_6": 1.1e-4, "PV2_7": 9.0e-4, "PV2_8": -2.0e-4, "PV2_9": 6.0e-4, "PV2_10": 1.0e-4,
}  # fmt: skip
LSST_PRIMARY = {
    "EXPINFO_V": 2, "AR_HDU": 5, "BUNIT": "nJy", "INSTRUME": "LSSTComCam", "OBSID": "CC_O_20241126_000123",
    "DETNAME": "R22_S11", "DETSER": "ITL-3800C-206", "EXPTIME": 30.0, "DARKTIME": 30.03,
    "DATE-AVG": "2024-11-27T02:31:04.500000000", "TIMESYS": "TAI", "BORE-RA": 150.0, "BORE-DEC": 2.0,
    "ROTTYPE": "SKY", "FILTER": "r_03", "LSST BUTLER DATAID INSTRUMENT": "LSSTComCam",
    "LSST BUTLER DATAID DETECTOR": 4, "LSST BUTLER DATAID VISIT": 2024112600123, "LSST BUTLER DATAID BAND": "r",
}  # fmt: skip
LSST_WCS = {
    "CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "ICRS",
    "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 1656.5, "CRPIX2": 1256.5, "CD1_1": 1.6e-7, "CD1_2": -4.62e-5,
    "CD2_1": -4.66e-5, "CD2_2": 1.1e-7, "A_ORDER": 3, "A_0_2": 2.0e-07, "A_0_3": 5.5e-11, "A_1_1": 1.6e-06,
    "A_2_0": 5.2e-07, "A_3_0": -5.3e-11, "B_ORDER": 3, "B_0_2": 2.1e-06, "B_1_1": 3.3e-07, "B_2_0": 1.1e-06,
    "B_3_0": -8.4e-10, "LTV1": -1000.0, "LTV2": -700.0, "INHERIT": True, "CRVAL1A": 1000, "CRPIX1A": 1,
    "CTYPE1A": "LINEAR", "CUNIT1A": "PIXEL", "CRVAL2A": 700, "CRPIX2A": 1, "CTYPE2A": "LINEAR", "CUNIT2A": "PIXEL",
}  # fmt: skip
# Bits as in the HSC calexp of afw's tests, unlike those of diaflow from 8 on.
LSST_PLANES = {
    "BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "DETECTED": 5, "DETECTED_NEGATIVE": 6, "SUSPECT": 7,
    "CROSSTALK": 8, "NO_DATA": 9, "UNMASKEDNAN": 10, "BRIGHT_OBJECT": 11,
}  # fmt: skip


def star_field(seed: int = 1) -> tuple[starfield.Field, np.ndarray]:
    """Stars over a sky without soft bias, with saturated, cosmic-ray, dead and flagged pixels, and its variance."""
    field = starfield.make(size=SIZE, spacing=44, log_flux=(3.2, 5.3), seed=seed)
    image = field.image - starfield.BIAS
    variance = (field.noiseless + starfield.SKY) / starfield.GAIN + (starfield.READ_NOISE / starfield.GAIN) ** 2
    for where, counts in ((SAT, 50_000.0), (CR, 3000.0), (DEAD, 0.0)):
        image[where] = counts
    field.image = image.astype(np.float32)
    return field, variance.astype(np.float32)


def decam(folder: Path, fields: list[tuple[starfield.Field, np.ndarray]]) -> dict[int, fits.Header]:
    """The three files of an InstCal exposure with a CCD for each field; the header of each by its number."""
    names = {"S29": 1, "S30": 2, "S31": 3}
    parts = {"ooi": [], "ood": [], "oow": []}
    headers = {}
    for (field, variance), (name, number) in zip(fields, names.items()):
        header = fits.Header(DECAM_CCD | {"CCDNUM": number, "DETPOS": name, "EXTNAME": name})
        header["CRPIX2"] -= 4096.0 * (number - 1)
        header["GAINA"], header["GAINB"] = starfield.GAIN * 1.01, starfield.GAIN * 0.99
        header["SATURATE"], header["FWHM"] = 45_000.0, starfield.FWHM
        headers[number] = header
        codes = np.zeros((SIZE, SIZE), np.int32)
        for where, code in ((SAT, 3), (CR, 5), (DEAD, 1), (FLAGGED, 7)):
            codes[where] = code
        weight = np.where((codes > 0) & (codes < 7), 0, 1 / variance).astype(np.float32)
        for part, data in (("ooi", field.image), ("ood", codes), ("oow", weight)):
            parts[part].append(fits.CompImageHDU(data, header, name=name, quantize_level=16))
    kinds = {"ooi": "image", "ood": "dqmask", "oow": "wtmap"}
    for part, hdus in parts.items():
        # The order of the CCDs differs from file to file; their names do not.
        hdus = hdus if part == "ooi" else hdus[::-1]
        primary = fits.PrimaryHDU(header=fits.Header(DECAM_PRIMARY | {"PRODTYPE": kinds[part]}))
        fits.HDUList([primary, *hdus]).writeto(folder / f"c4d_190402_050618_{part}_VR_v1.fits.fz")
    return headers


def ztf(folder: Path, field: starfield.Field) -> fits.Header:
    """A science image and its mask; returns the header."""
    bits = np.zeros((SIZE, SIZE), np.int16)
    for where, number in ((SAT, 8), (CR, 7), (DEAD, 9), (FLAGGED, 0)):
        bits[where] |= 1 << number
    for x, y in zip(field.x, field.y):
        bits[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4] |= (1 << 1) | (1 << 11)
    header = fits.Header(ZTF | {"GAIN": starfield.GAIN, "READNOI": starfield.READ_NOISE})
    stem = "ztf_20180327135787_000246_zr_c07_o_q2"
    fits.PrimaryHDU(field.image, header).writeto(folder / f"{stem}_sciimg.fits")
    fits.PrimaryHDU(bits, header).writeto(folder / f"{stem}_mskimg.fits")
    return header


def lsst(path: Path, field: starfield.Field, variance: np.ndarray, **primary) -> fits.Header:
    """A calexp with its sky subtracted and an archive that is not read; returns the header of its image."""
    mask = np.zeros((SIZE, SIZE), np.int32)
    interpolated = field.image - starfield.SKY
    for where, names in ((SAT, "SAT"), (CR, "CR"), (DEAD, "NO_DATA"), (FLAGGED, "CROSSTALK")):
        mask[where] |= 1 << LSST_PLANES[names]
        if where is not FLAGGED:
            interpolated[where] = 0.0
            mask[where] |= 1 << LSST_PLANES["INTRP"]
    mask[interpolated > 1000] |= 1 << LSST_PLANES["DETECTED"]
    mask[200, 200] |= 1 << LSST_PLANES["BRIGHT_OBJECT"]
    header = fits.Header(LSST_WCS)
    hdus = [fits.PrimaryHDU(header=_hierarch(LSST_PRIMARY | primary))]
    hdus += [fits.ImageHDU(data, header) for data in (interpolated, mask, variance)]
    for hdu, kind in zip(hdus[1:], ("IMAGE", "MASK", "VARIANCE")):
        hdu.header["EXTTYPE"] = kind
    for name, bit in LSST_PLANES.items():
        hdus[2].header[f"HIERARCH MP_{name}"] = bit
    archive = fits.BinTableHDU.from_columns([fits.Column("id", "J", array=[1])])
    archive.header["EXTTYPE"] = "ARCHIVE_INDEX"
    fits.HDUList([*hdus, archive]).writeto(path)
    return header


def _hierarch(cards: dict) -> fits.Header:
    return fits.Header({key if len(key) <= 8 else f"HIERARCH {key}": value for key, value in cards.items()})


def refcat(field: starfield.Field, header: fits.Header, zero_point: float) -> np.ndarray:
    """The stars of a field where the header says they are."""
    table = starfield.refcat(field)
    table["ra"], table["dec"] = fits_sky(header, field.x, field.y)
    table["mag"] += zero_point - starfield.ZERO_POINT
    return table


def fits_sky(header: fits.Header, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination [deg] by the formulas of the TPV and SIP conventions."""
    u, v = np.asarray(x) + 1 - header["CRPIX1"], np.asarray(y) + 1 - header["CRPIX2"]
    if header["CTYPE1"].endswith("SIP"):
        terms = [(key, *map(int, key[2:].split("_"))) for key in header if key[:2] in ("A_", "B_") and key[2].isdigit()]
        shift = {name: sum(header[key] * u**p * v**q for key, p, q in terms if key[0] == name) for name in "AB"}
        u, v = u + shift["A"], v + shift["B"]
    xi = header["CD1_1"] * u + header["CD1_2"] * v
    eta = header["CD2_1"] * u + header["CD2_2"] * v
    if header["CTYPE1"].endswith("TPV"):
        xi, eta = (_tpv(header, axis, *plane) for axis, plane in ((1, (xi, eta)), (2, (eta, xi))))
    return from_plane(np.stack([xi, eta], -1), np.array([header["CRVAL1"], header["CRVAL2"]]))


def _tpv(header: fits.Header, axis: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    terms = [1, a, b, np.hypot(a, b), a**2, a * b, b**2, a**3, a**2 * b, a * b**2, b**3]
    return sum(header.get(f"PV{axis}_{number}", 0.0) * term for number, term in enumerate(terms))
