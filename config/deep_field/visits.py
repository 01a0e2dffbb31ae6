"""The visits of the example survey in docs/planning.md: a deep-drilling field, six bands, 1,200 visits in ten years.

Writes year_01.csv ... year_10.csv beside this file, the same at every run: 120 visits a year in six months, 20 in each
band, dithered by a CCD and rotated at random, with a log-normal seeing of median 0.85 arcsec in r.
"""

import csv
from pathlib import Path

import numpy as np

FIELD = (53.125, -28.1)  # ra, dec [deg]
FIRST_DAY, YEAR, SEASON = 61000, 365.25, 180  # MJD (TAI), d, d
SEEING = {"u": 0.97, "g": 0.91, "r": 0.85, "i": 0.81, "z": 0.79, "y": 0.77}  # median FWHM [arcsec]
VISITS = 20  # in each band and year
DITHER = 0.2  # largest along each axis [deg]


def main() -> None:
    """Write one list of visits for each year."""
    rng = np.random.default_rng(1)
    visit = 0
    for year in range(1, 11):
        dates = np.sort(rng.uniform(0, SEASON, (VISITS, len(SEEING))), axis=None) + FIRST_DAY + YEAR * (year - 1)
        bands = rng.permutation(list(SEEING) * VISITS)
        with open(Path(__file__).with_name(f"year_{year:02d}.csv"), "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["visit", "band", "mjd", "ra", "dec", "rotation", "seeing"])
            for date, band in zip(dates, bands):
                visit += 1
                east, north = rng.uniform(-DITHER, DITHER, 2)
                ra, dec = FIELD[0] + east / np.cos(np.radians(FIELD[1])), FIELD[1] + north
                seeing = SEEING[band] * rng.lognormal(0, 0.2)
                numbers = f"{date:.5f}", f"{ra:.5f}", f"{dec:.5f}", f"{rng.uniform(0, 360):.2f}", f"{seeing:.2f}"
                writer.writerow([visit, band, *numbers])


if __name__ == "__main__":
    main()
