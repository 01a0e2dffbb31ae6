"""The same stars from every format and in every unit, as astropy, VizieR and SExtractor write them."""

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import Angle
from astropy.io import fits
from astropy.io.votable import tree
from astropy.table import MaskedColumn, Table

from diaflow.errors import InputError
from diaflow.refcat import store
from diaflow.refcat.convert import convert
from diaflow.run.config import validated
from diaflow.store import tables

N = 30
RNG = np.random.default_rng(4)
RA, DEC = np.sort(RNG.uniform(148, 152, N)), RNG.uniform(-3, 3, N)
MAG, ERR = RNG.uniform(14, 22, N), RNG.uniform(0.01, 0.1, N)
NANOJANSKY = 10 ** ((31.4 - MAG) / 2.5)
RELATIVE = ERR * np.log(10) / 2.5
FORMATS = ["ecsv", "ecsv_comma", "vot", "fits", "ldac", "tsv", "parquet", "parquet_votable"]


def stars(**columns) -> Table:
    """A table of the stars; a column is (values, unit as text, or "" for none)."""
    table = Table({"id": np.arange(N), "ra": RA, "dec": DEC, "r": MAG, "e": ERR})
    for name, (values, unit) in columns.items():
        table[name] = values
        if unit:
            table[name].unit = u.Unit(unit, parse_strict="silent")
    return table


def write(table: Table, path: Path, form: str) -> Path:
    """A file of a form; units are written as they are, also where the format does not know them."""
    units = {name: str(table[name].unit or "") for name in table.colnames}
    if form == "tsv":
        lines = ["#", "#   VizieR Astronomical Server", "#Column\tr\t(F6.3)\tmagnitude", "", "\t".join(units)]
        lines += ["\t".join(units.values()), "\t".join("-" * 8 for _ in units)]
        lines += ["\t".join(f"{value!s:>12}" for value in row) for row in table.as_array().tolist()]
        path.write_text("\n".join(lines) + "\n\n#END\n")
    elif form in ("fits", "ldac"):
        bare = table.copy()
        for name in bare.colnames:
            bare[name].unit = None
        hdu = fits.BinTableHDU(bare, name="LDAC_OBJECTS")
        for name, unit in units.items():
            hdu.columns[name].unit = unit or None
        head = fits.BinTableHDU.from_columns([fits.Column("Field Header Card", "80A", array=["x"])], name="LDAC_IMHEAD")
        fits.HDUList([fits.PrimaryHDU(), *([head] if form == "ldac" else []), hdu]).writeto(path)
    elif form == "vot":
        table.write(path, format="votable")
    elif form == "parquet_votable":
        import pyarrow as pa

        empty = tree.VOTableFile.from_table(table[:0])
        empty.to_xml(str(path))
        content = {b"IVOA.VOTable-Parquet.content": path.read_bytes()}
        values = {name: np.array(table[name]).tolist() for name in table.colnames}
        pq.write_table(pa.table(values).replace_schema_metadata(content), path)
    elif form == "parquet":
        table.write(path, format="parquet")
    else:
        table.write(path, format="ascii.ecsv", delimiter="," if form == "ecsv_comma" else " ")
    return path


def stored(path: Path, **changes) -> np.ndarray:
    """The rows that come out, in the order of their right ascension."""
    settings = {"path": str(path), "bands": {"r": "r"}, "errors": {"r": "e"}} | changes
    section = validated({"images": "x", "refcat": settings})["refcat"]
    with tempfile.TemporaryDirectory() as folder:
        convert([path], section, Path(folder, "store"))
        table = tables.read(store.TABLE, Path(folder, "store"))
    return table[np.argsort(table["ra"])]


def same_stars(table: np.ndarray, position=1e-9, magnitude=2e-6) -> None:
    """float32 magnitudes: 2e-6 at 22; positions of 1e-9 deg are 4 microarcseconds."""
    assert table["id"].tolist() == list(range(N))
    np.testing.assert_allclose(table["ra"], RA, rtol=0, atol=position)
    np.testing.assert_allclose(table["dec"], DEC, rtol=0, atol=position)
    np.testing.assert_allclose(table["r_mag"], MAG, rtol=0, atol=magnitude)
    np.testing.assert_allclose(table["r_mag_err"], ERR, rtol=1e-5)


MEASURES = {
    "mag": (MAG, ERR), "mmag": (1000 * MAG, 1000 * ERR), "": (MAG, ERR),
    "Jy": (NANOJANSKY * 1e-9, NANOJANSKY * RELATIVE * 1e-9), "mJy": (NANOJANSKY * 1e-6, NANOJANSKY * RELATIVE * 1e-6),
    "uJy": (NANOJANSKY * 1e-3, NANOJANSKY * RELATIVE * 1e-3), "nJy": (NANOJANSKY, NANOJANSKY * RELATIVE),
    "nanomaggy": (10 ** ((22.5 - MAG) / 2.5), 10 ** ((22.5 - MAG) / 2.5) * RELATIVE),
    "erg / (s cm2 Hz)": (NANOJANSKY * 1e-32, NANOJANSKY * RELATIVE * 1e-32),
}  # fmt: skip


@pytest.mark.parametrize("unit", MEASURES)
@pytest.mark.parametrize("form", FORMATS)
def test_magnitudes_and_fluxes_and_their_errors(form, unit, tmp_path):
    values, errors = MEASURES[unit]
    table = stars(r=(values, unit), e=(errors, unit))
    same_stars(stored(write(table, tmp_path / "stars", form)))
    # an error without a unit of its own has that of its column
    table = stars(r=(values, unit), e=(errors, ""))
    same_stars(stored(write(table, tmp_path / "again", form)))


@pytest.mark.parametrize(("unit", "factor"), [("nanomaggies", 1.0), ("nmgy", 1.0), ("maggy", 1e-9), ("nMgy", None)])
def test_other_names_of_maggies(unit, factor, tmp_path):
    values, errors = MEASURES["nanomaggy"]
    path = write(stars(r=(values * (factor or 1), ""), e=(errors * (factor or 1), "")), tmp_path / "stars.fits", "fits")
    with fits.open(path, mode="update") as hdus:
        hdus[1].header["TUNIT4"] = unit
    if factor:
        same_stars(stored(path))
    else:
        with pytest.raises(InputError, match=r"stars\.fits: column 'r' has the unknown unit nMgy"):
            stored(path)


@pytest.mark.parametrize("unit", ["mag(AB)", "ABmag", "AB mag", "Mag", "magnitude"])
def test_other_names_of_magnitudes(unit, tmp_path):
    path = write(stars(), tmp_path / "stars.fits", "fits")
    with fits.open(path, mode="update") as hdus:
        hdus[1].header["TUNIT4"] = unit
    same_stars(stored(path))


@pytest.mark.parametrize("unit", ["deg", "rad", "arcsec", "hourangle", "h", ""])
@pytest.mark.parametrize("form", FORMATS)
def test_positions(form, unit, tmp_path):
    scale = {"": 1.0, "h": 1 / 15}.get(unit) or u.deg.to(u.Unit(unit))
    dec_unit = "deg" if unit in ("h", "hourangle") else unit
    dec = DEC * (u.deg.to(u.Unit(dec_unit)) if dec_unit else 1)
    same_stars(stored(write(stars(ra=(RA * scale, unit), dec=(dec, dec_unit)), tmp_path / "stars", form)))


SEXAGESIMAL = {  # separator of astropy, units that the file states
    "colons without a unit": (":", "", ""),
    "blanks as VizieR has them": (" ", '"h:m:s"', '"d:m:s"'),
    "colons with a unit": (":", "hourangle", "deg"),
    "letters": ("fromunit", "", ""),
    "hours": (":", "h", "deg"),
    "degrees": (":", "deg", "deg"),
}


@pytest.mark.parametrize("kind", SEXAGESIMAL)
@pytest.mark.parametrize("form", ["ecsv", "vot", "fits", "tsv", "parquet"])
def test_sexagesimal_positions(form, kind, tmp_path):
    mark, ra_unit, dec_unit = SEXAGESIMAL[kind]
    hours = u.deg if kind == "degrees" else u.hourangle
    ra = Angle(RA, u.deg).to_string(hours, sep=mark, precision=7, pad=True)
    dec = Angle(DEC, u.deg).to_string(u.deg, sep=mark, precision=6, pad=True, alwayssign=True)
    path = write(stars(ra=(ra, ra_unit), dec=(dec, dec_unit)), tmp_path / "stars", form)
    same_stars(stored(path))


def test_declinations_just_south_of_the_equator_keep_their_sign(tmp_path):
    (tmp_path / "stars.tsv").write_text("id\tra\tdec\tr\n1\t00 00 01\t-00 00 30\t15\n2\t00 00 59.5\t+00 00 30\t16\n")
    table = stored(tmp_path / "stars.tsv", errors={})
    np.testing.assert_allclose(table["dec"], [-30 / 3600, 30 / 3600])
    np.testing.assert_allclose(table["ra"], [15 / 3600, 59.5 * 15 / 3600])


@pytest.mark.parametrize(
    ("column", "values", "unit", "message"),
    [
        ("ra", RA, "furlong", "column 'ra' has the unknown unit furlong"),
        ("ra", RA, "kg", "column 'ra' is in kg, which cannot be brought to deg"),
        ("dec", DEC, "h", "column 'dec' is in h, which cannot be brought to deg"),
        ("ra", RA, "hourangle", "column 'ra' has right ascensions beyond 24 hours"),
        ("r", MAG, "mag(ST)", r"column 'r' is in mag\(ST\), which cannot be brought to nJy"),
        ("r", MAG, "Vegamag", "column 'r' has the unknown unit Vegamag"),
        ("r", MAG, "mag / arcsec2", "column 'r' is in mag / arcsec2, which"),
        ("r", MAG, "adu", "column 'r' is in adu, which"),
        ("e", ERR, "1 / nmgy2", "column 'e' is in 1 / nmgy2, which"),
    ],
)
def test_a_unit_that_is_not_understood_is_refused_with_file_and_column(column, values, unit, message, tmp_path):
    path = write(stars(), tmp_path / "stars.fits", "fits")
    with fits.open(path, mode="update") as hdus:
        hdus[1].header[f"TUNIT{1 + hdus[1].columns.names.index(column)}"] = unit
    with pytest.raises(InputError, match=f"reference catalogue .*stars.fits: {message}") as refused:
        stored(path)
    assert "\n" not in str(refused.value)


MOTIONS = {"mas/yr": 1.0, "arcsec/yr": 1e-3, "deg/yr": 1 / 3.6e6, "rad/yr": np.radians(1 / 3.6e6), "": 1.0}


@pytest.mark.parametrize("unit", MOTIONS)
@pytest.mark.parametrize("form", FORMATS)
def test_motions_epochs_and_errors_of_positions(form, unit, tmp_path):
    pm, error = RNG.normal(0, 100, (2, N)), RNG.uniform(1, 50, N)
    angle = unit.removesuffix("/yr")
    columns = {"a": (pm[0] * MOTIONS[unit], unit), "d": (pm[1] * MOTIONS[unit], unit)}
    columns |= {"s": (error * MOTIONS[unit], angle), "when": (np.full(N, 2016.0), "yr" if unit else "")}
    path = write(stars(**columns), tmp_path / "stars", form)
    table = stored(path, pm=["a", "d"], epoch="when", pos_err=["s"])
    np.testing.assert_allclose(table["pm_ra"], pm[0] / 3.6e6 / 365.25, rtol=1e-6)
    np.testing.assert_allclose(table["pm_dec"], pm[1] / 3.6e6 / 365.25, rtol=1e-6)
    np.testing.assert_allclose(table["pos_err"], error / 3.6e6, rtol=1e-6)
    np.testing.assert_allclose(table["epoch"], 51544.5 + 16 * 365.25)


@pytest.mark.parametrize("unit", ["s", "h", "JD"])
def test_a_date_that_is_neither_a_year_nor_a_day_is_refused(unit, tmp_path):
    path = write(stars(when=(np.full(N, 2016.0), "")), tmp_path / "stars.fits", "fits")
    with fits.open(path, mode="update") as hdus:
        hdus[1].header["TUNIT6"] = unit
    with pytest.raises(InputError, match=f"column 'when' .*{unit}"):
        stored(path, pm=["r", "e"], epoch="when")


@pytest.mark.parametrize("form", FORMATS)
def test_values_that_are_missing_are_missing(form, tmp_path):
    if form == "parquet_votable":
        pytest.skip("written here without nulls")
    table = stars()
    mask = np.arange(N) % 3 == 0
    # what stands under a mask is no measurement; TSV of VizieR has blanks there
    table["r"] = MaskedColumn(np.where(mask, 17.0, MAG), mask=mask, unit="mag")
    table["e"] = MaskedColumn(np.round(ERR * 1e5).astype(int), mask=mask, unit="1e-5 mag")
    if form == "tsv":
        path = tmp_path / "stars.tsv"
        lines = ["id\tra\tdec\tr\te", "\tdeg\tdeg\tmag\t1e-5 mag", "--\t--\t--\t--\t--"]
        for k, (ra, dec, mag, err) in enumerate(zip(RA, DEC, MAG, ERR)):
            lines.append(
                f"{k}\t{ra:.12f}\t{dec:+.12f}\t" + ("      \t   " if mask[k] else f"{mag:.9f}\t{err * 1e5:.0f}")
            )
        path.write_text("\n".join(lines))
    else:
        path = write(table, tmp_path / "stars", form)
    found = stored(path)
    np.testing.assert_array_equal(np.isnan(found["r_mag"]), mask)
    np.testing.assert_array_equal(np.isnan(found["r_mag_err"]), mask)
    np.testing.assert_allclose(found["r_mag"][~mask], MAG[~mask], atol=2e-6)
    np.testing.assert_allclose(found["r_mag_err"][~mask], ERR[~mask], atol=5.1e-6)


def test_ecsv_with_masks_in_columns_of_their_own(tmp_path):
    table = stars()
    mask = np.arange(N) % 3 == 0
    table["r"] = MaskedColumn(np.where(mask, 17.0, MAG), mask=mask)
    table.write(tmp_path / "stars.ecsv", serialize_method="data_mask")
    np.testing.assert_array_equal(np.isnan(stored(tmp_path / "stars.ecsv")["r_mag"]), mask)


@pytest.mark.parametrize("form", ["ecsv", "vot", "fits", "tsv"])
def test_what_a_file_is_its_content_says(form, tmp_path):
    path = write(stars(), tmp_path / "stars", form)
    for name, pack in (("stars.cat", bytes), ("stars.csv.download", gzip.compress)):
        (tmp_path / name).write_bytes(pack(path.read_bytes()))
        same_stars(stored(tmp_path / name))


def test_table_with_the_columns_is_found_and_two_of_them_are_refused(tmp_path):
    path = write(stars(), tmp_path / "stars.fits", "ldac")
    with fits.open(path) as hdus:
        fits.HDUList([*hdus, hdus[2].copy()]).writeto(tmp_path / "two.fits")
    with pytest.raises(InputError, match="two.fits: tables 2 LDAC_OBJECTS, 3 LDAC_OBJECTS all have these columns"):
        stored(tmp_path / "two.fits")


def test_a_column_with_several_values_per_row_is_refused(tmp_path):
    path = write(stars(r=(np.stack([MAG, MAG], axis=1), "")), tmp_path / "stars.fits", "fits")
    with pytest.raises(InputError, match="column 'r' has 2 values per row"):
        stored(path)


def test_two_columns_of_a_name_are_refused(tmp_path):
    (tmp_path / "stars.csv").write_text("id,ra,dec,r,r\n1,10,10,15,16\n")
    with pytest.raises(InputError, match="more than one column 'r'"):
        stored(tmp_path / "stars.csv", errors={})


def test_a_second_table_in_a_tsv_of_vizier_is_refused(tmp_path):
    text = "id\tra\tdec\tr\n\tdeg\tdeg\tmag\n--\t--\t--\t--\n1\t10\t10\t15\n\n"
    (tmp_path / "stars.tsv").write_text("#RESOURCE=1\n" + text + "#RESOURCE=2\n" + text)
    with pytest.raises(InputError, match="stars.tsv: column 'ra' is not numeric"):
        stored(tmp_path / "stars.tsv", errors={})


def test_fluxes_without_a_unit_are_no_magnitudes_and_say_so(tmp_path):
    path = write(stars(r=(NANOJANSKY, "")), tmp_path / "stars.fits", "fits")
    with pytest.raises(InputError, match=r"column 'r' \(refcat.bands.r\) has no magnitude between 0 and 40"):
        stored(path)


@pytest.mark.parametrize(
    ("keep", "message"),
    [({"id": "no"}, "'id' holds no text, 'no'"), ({"id": -1}, "no row has what refcat.keep asks for .id: -1.")],
)
def test_a_selection_that_selects_nothing_is_refused(keep, message, tmp_path):
    path = write(stars(), tmp_path / "stars.fits", "fits")
    with pytest.raises(InputError, match=message):
        stored(path, keep=keep)
