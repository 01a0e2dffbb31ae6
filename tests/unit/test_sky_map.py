"""Which tracts and patches have images, as a user asks: lists, the picture, and the command that needs no run."""

import pytest
import yaml
from builders import exposure_table, tan_header

from diaflow.errors import InputError
from diaflow.report import sky_map
from diaflow.run import config
from diaflow.sky import overlaps
from diaflow.sky.skymap import rings
from planner import sky as command

SECTION = {"type": "rings", "pixel_scale": 0.2, "patch_size": 4000}


@pytest.fixture(scope="module")
def laid_out():
    """Three images where two tracts meet: two visits in r, one of them twice as far to the east, and one in g."""
    headers = [tan_header(ra, 2.23, 0.5) for ra in (149.5, 149.7, 149.5)]
    table = exposure_table(headers)
    table["band"] = ["r", "r", "g"]
    options = config.validated({"images": "x", "skymap": SECTION})["skymap"]
    return table, *overlaps.lay_out(options, table, rings, 0.0)


def test_the_list_has_visits_images_and_area_of_each_patch_and_band(laid_out):
    _, sky, found = laid_out
    lines = sky_map.text(sky, found).splitlines()
    assert lines[0] == "sky map rings, identity Hl+oX+JCYGQmUo9fe42/Acuq/54="
    assert [line.split(":")[0] for line in lines[1:3]] == [
        "tract 9812 at RA 148.7603 Dec +2.2314",
        "tract 9813 at RA 150.2479 Dec +2.2314",
    ]
    rows = [line.split() for line in lines[5:]]
    assert {tuple(row[:3]) for row in rows} == set(zip(found["tract"].astype(str), found["patch"], found["band"]))
    total = {band: sum(float(row[5]) for row in rows if row[2] == band) for band in "rg"}
    # Patches overlap: more than the images themselves have, 800 x 1000 pixels of half an arcsec each.
    assert total["g"] > 800 * 1000 * 0.25 / 3600 and total["r"] > 2 * total["g"] * 0.7
    images = {row[2]: int(row[4]) for row in rows if row[0] == "9813" and row[3] == row[4]}
    assert images.keys() == {"r", "g"}


def test_a_patch_inside_an_image_is_covered_once_by_each():
    options = config.validated({"images": "x", "skymap": SECTION | {"patch_size": 1000}})["skymap"]
    table = exposure_table([tan_header(150.2, 2.2, 1.0)] * 3)
    sky, found = overlaps.lay_out(options, table, rings, 0.0)
    coverage = [float(line.split()[-1]) for line in sky_map.text(sky, found).splitlines()[4:]]
    assert max(coverage) == 3.0


def test_overlaps_are_chosen_by_visit_band_and_tract(laid_out):
    _, _, found = laid_out
    chosen = sky_map.select(found, [1, 3], ["r"], [9813])
    assert len(chosen) and set(chosen["visit"].tolist()) == {1} and set(chosen["tract"].tolist()) == {9813}
    assert len(sky_map.select(found, [], [], [])) == len(found)
    with pytest.raises(InputError, match="no images found of visit 7, band r, z: no tract or patch has any"):
        sky_map.select(found, [7], ["r", "z"], [])


def test_the_picture_is_the_same_bytes_each_time(laid_out):
    table, sky, found = laid_out
    picture = sky_map.picture(sky, found, table)
    assert picture.startswith(b"\x89PNG") and picture == sky_map.picture(sky, found, table)


def test_the_command_needs_a_list_of_visits_and_nothing_else(tmp_path, monkeypatch, capsys):
    rows = ["visit,band,mjd,ra,dec,rotation,seeing", "1,r,60000,150,2.2,0,0.8", "2,g,60001,150,2.2,0,0.8"]
    (tmp_path / "visits.csv").write_text("\n".join(rows))
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({"images": "visits.csv", "skymap": SECTION}))
    monkeypatch.chdir(tmp_path)
    command.main(["--configfile", "my.yaml", "--band", "g", "--picture", "sky.png"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("tract 9813") and {line.split()[2] for line in lines[4:]} == {"g"}
    assert (tmp_path / "sky.png").stat().st_size > 10_000
    with pytest.raises(SystemExit, match="error: no images found of tract 5: no tract or patch has any"):
        command.main(["--configfile", "my.yaml", "--tract", "5"])
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({"images": "visits.csv", "skymap": {"type": "rings"}}))
    with pytest.raises(SystemExit, match="error: skymap.pixel_scale: the tracts of rings"):
        command.main(["--configfile", "my.yaml"])
