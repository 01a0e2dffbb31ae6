"""The report of a made-up run: complete, self-contained, failures first, images optional, large tables streamed."""

import base64
import re

import numpy as np
import pytest
from astropy.io import fits

from diaflow.errors import InputError, Kind
from diaflow.report import page, plots, refusals
from diaflow.store import ids, tables

pytestmark = pytest.mark.slow  # every page draws its pictures

OBJECTS = [ids.source_ids(visit, 0, 1)[0] for visit in (1, 2, 3)]


def make_run(folder, n_visits=12):
    """Tables and some images of a run: three objects, a faint one, a bright one and one of a single source."""
    rng = np.random.default_rng(0)
    visit = np.arange(1, n_visits + 1)
    band = np.array(["g", "r"] * (n_visits // 2), object)
    visits = tables.from_columns(
        "visit",
        visit=np.append(visit, -1),
        band=np.append(band, ""),
        mjd=np.append(59000.0 + 3 * visit, np.nan),
        path=[f"images/{v}.fits" for v in visit] + ["images/broken&bad.fits"],
        ingest_status=["ok"] * n_visits + ["failed"],
        ingest_reason=[""] * n_visits + ["truncated <file>"],
        ingest_kind=[""] * n_visits + [Kind.FILE],
        calexp_status=["ok"] * (n_visits - 1) + ["failed", "not run"],
        calexp_reason=[""] * (n_visits - 1) + ["only 3 stars", ""],
        calexp_kind=[""] * (n_visits - 1) + [Kind.PSF, ""],
        diffim_status=["ok"] * (n_visits - 2) + ["failed", "not run", "not run"],
        diffim_reason=[""] * (n_visits - 2) + ["no template", "", ""],
        diffim_kind=[""] * (n_visits - 2) + [Kind.TEMPLATE, "", ""],
        seeing=rng.uniform(0.8, 1.4, n_visits + 1),
        depth=rng.uniform(23, 24, n_visits + 1),
        diffim_depth=rng.uniform(22.5, 23.5, n_visits + 1),
        noise_ratio=rng.normal(1, 0.02, n_visits + 1),
        zero_point=np.append(31.5 + np.zeros(n_visits), np.nan),
        visit_in_template=np.append(visit < 3, False),
    )
    tables.write("visit", visits, folder / "visit.parquet")

    # S/N 6 in ten visits (19 in all), 50 in eight (141), 8 once.
    rows = [(v, OBJECTS[0], 6.0) for v in visit[:10]] + [(v, OBJECTS[1], 50.0) for v in visit[:8]]
    rows += [(3, OBJECTS[2], 8.0), (4, 0, 1000.0)]
    at, object_, snr = (np.array(column) for column in zip(*sorted(rows)))
    sources = tables.from_columns(
        "dia_source",
        diaSourceId=[ids.source_ids(v, 0, i + 1)[i] for i, v in enumerate(at)],
        visit=at,
        diaObjectId=object_,
        snr=snr,
        band=band[at - 1],
        x=np.where(object_ == OBJECTS[1], 30.3, 2.0),
        y=40.0,
    )
    sources["snr"][(at == 5) & (object_ == OBJECTS[1])] = -90
    tables.write("dia_source", sources, folder / "dia_source.parquet")
    objects = tables.from_columns("dia_object", ["g", "r"], diaObjectId=OBJECTS, ra=[10.5, 359.9, 11], dec=[-1.5, 0, 2])
    objects["nDiaSources"] = [10, 8, 1]
    tables.write("dia_object", objects, folder / "dia_object.parquet")
    n = n_visits * 3
    forced = tables.from_columns(
        "dia_forced_source",
        visit=np.repeat(visit, 3),
        diaObjectId=np.tile(OBJECTS, n_visits),
        band=np.repeat(band, 3),
        midpointMjdTai=np.repeat(59000.0 + 3 * visit, 3),
        psfFlux=3000 * np.exp(-0.5 * (np.repeat(visit, 3) - 6) ** 2 / 4) + rng.normal(0, 150, n),
        psfFluxErr=150,
        psfFlux_flag=rng.random(n) < 0.1,
        visitInTemplate=np.repeat(visit < 3, 3),
    )
    tables.write("dia_forced_source", forced, folder / "dia_forced_source.parquet")
    tables.write("source", tables.empty("source", 1234), folder / "source.parquet")

    y, x = np.mgrid[:90, :70]
    star = 500 * np.exp(-((x - 30) ** 2 + (y - 40) ** 2) / 8)
    sky = rng.normal(0, 10, (3, 90, 70)).astype(np.float32)
    for name, image in (("calexp/5/0", 2 * star), ("diffim/5/0_template", 3 * star), ("diffim/5/0", -star)):
        path = folder / f"{name}.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        hdu = fits.ImageHDU((image + sky[0]).astype(np.float32), name="IMAGE")
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    names = ("visit", "source", "dia_source", "dia_object", "dia_forced_source")
    return {name: folder / f"{name}.parquet" for name in names}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    collected = make_run(folder)
    page.write(folder / "report" / "index.html", "my <run>", collected, folder, {"completeness": 0.98765})
    return folder, collected, (folder / "report" / "index.html").read_text(encoding="utf-8")


def pictures(html):
    return [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', html)]


def test_the_page_is_self_contained(run):
    html = run[2]
    assert html.startswith("<!doctype html>") and html.rstrip().endswith("</html>")
    assert not re.search(r"https?://|<script|<link|url\(", html)
    assert len(re.findall("src=", html)) == len(pictures(html)) == 1 + 3
    assert all(picture.startswith(b"\x89PNG") for picture in pictures(html))


def test_colour_pictures_are_shown_and_a_missing_one_is_named(run, tmp_path):
    products, collected, html = run
    tract = tmp_path / "pictures/template/7"
    with pytest.raises(InputError, match="tract.jpg"):
        page.write(tmp_path / "page.html", "run", collected, products, pictures=[tract])
    tract.mkdir(parents=True)
    (tract / "tract.jpg").write_bytes(b"a picture")
    page.write(tmp_path / "page.html", "run", collected, products, pictures=[tract])
    shown = (tmp_path / "page.html").read_text()
    assert "template, tract 7" in shown and base64.b64encode(b"a picture").decode() in shown
    assert "Coadds in colour" in shown and "Coadds in colour" not in html


def test_the_summary_counts_what_was_done(run):
    text = re.sub("<[^>]+>", " ", run[2])
    for words in (
        r"visits\s+12\b",
        r"images\s+13 \(12 ok,\s+1 failed",
        r"calibrated images\s+11 ok,\s+1 failed",
        r"difference images\s+10 ok,\s+1 failed",
        r"sources\s+1,234",
        r"DIASources\s+20",
        r"DIAObjects\s+3",
        r"forced measurements\s+36",
        r"completeness\s+0.9877",
    ):
        assert re.search(words, text), words


def test_failures_come_first_with_their_reason(run):
    rows = re.findall(r"<tr( class=.failed.)?><td>(-?\d+)</td>.*?<td>([^<]*)</td></tr>", run[2])
    assert len(rows) == 13
    assert [bool(mark) for mark, _, _ in rows] == [True] * 3 + [False] * 10
    assert [(visit, status) for _, visit, status in rows[:4]] == [
        ("11", "subtraction failed: no template"),
        ("12", "calibration failed: only 3 stars"),
        ("-1", "ingest failed: broken&amp;bad.fits: truncated &lt;file&gt;"),
        ("1", "ok, part of the template"),
    ]


def test_names_are_escaped_and_missing_numbers_are_dashes(run):
    assert "<h1>my &lt;run&gt;</h1>" in run[2]
    assert "nan" not in re.sub('base64,[^"]+', "", run[2])


def test_objects_are_in_order_of_their_summed_significance(run):
    shown = re.findall(r"<h3>(\d+) at ([\d.]+) ([+-][\d.]+)</h3>", run[2])
    assert [int(id_) for id_, _, _ in shown] == [OBJECTS[1], OBJECTS[0], OBJECTS[2]]
    assert shown[0][1:] == ("359.900000", "+0.000000")
    assert "visit 5, detector 0, g, S/N -90.0" in run[2]


def test_the_number_of_objects_is_limited(run, tmp_path, monkeypatch):
    folder, collected, _ = run
    monkeypatch.setattr(page, "N_OBJECTS", 1)
    monkeypatch.setattr(page, "MAX_ROWS", 5)
    page.write(tmp_path / "p.html", "run", collected, folder)
    html = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert html.count("<h3>") == 1 and "8 more images in tables/visit.parquet" in html
    assert "Against the truth" not in html


def test_stamps_are_centred_and_padded(run):
    folder = run[0]
    stamp = page.cutout(folder / "diffim/5/0.fits", 30.3, 40.0)
    side = 2 * page.STAMP_RADIUS + 1
    assert stamp.shape == (side, side) and np.isfinite(stamp).all()
    assert np.unravel_index(stamp.argmin(), stamp.shape) == (page.STAMP_RADIUS, page.STAMP_RADIUS)
    corner = page.cutout(folder / "diffim/5/0.fits", 0.0, 89.0)
    assert np.isnan(corner[:, : page.STAMP_RADIUS]).all() and np.isnan(corner[page.STAMP_RADIUS + 1 :]).all()
    assert np.isfinite(corner[: page.STAMP_RADIUS + 1, page.STAMP_RADIUS :]).all()
    assert np.isnan(page.cutout(folder / "diffim/5/0.fits", 500.0, -500.0)).all()
    assert page.cutout(folder / "diffim/6/0.fits", 30.0, 40.0) is None


def test_pictures_show_what_they_are_given():
    forced = tables.from_columns("dia_forced_source", midpointMjdTai=[1.0, 2.0], psfFlux=[5.0, 6.0], psfFluxErr=1.0)
    forced["band"] = ["g", "N540"]
    blank = [None, None, None]
    empty = plots.dia_object(forced[:0], blank)
    assert plots.dia_object(forced, blank) != empty
    assert plots.dia_object(forced[:0], [np.eye(9)] * 3) != empty
    moved = forced.copy()
    moved["psfFlux"] += [0, 20]
    assert plots.dia_object(moved, blank) != plots.dia_object(forced, blank)
    assert plots.colours(["N540", "g", "VR"]) == [plots.OTHER_COLOURS[0], plots.COLOURS["g"], plots.OTHER_COLOURS[1]]


def test_the_same_run_gives_the_same_page(run, tmp_path):
    folder, collected, html = run
    page.write(tmp_path / "p.html", "my <run>", collected, folder, {"completeness": 0.98765})
    assert (tmp_path / "p.html").read_text(encoding="utf-8") == html


def page_of(visits, folder):
    """The page of a run that has visits and nothing else."""
    names = ("visit", "source", "dia_source", "dia_object", "dia_forced_source")
    for name in names:
        tables.write(name, visits if name == "visit" else tables.empty(name), folder / name)
    page.write(folder / "p.html", "run", {name: folder / name for name in names}, folder)
    return (folder / "p.html").read_text(encoding="utf-8")


def test_a_run_without_anything_has_a_page(tmp_path):
    html = page_of(tables.empty("visit"), tmp_path)
    assert "No DIASource belongs to a DIAObject" in html and refused(html) == []


def test_a_truncated_image_is_named(run, tmp_path):
    whole = (run[0] / "diffim/5/0.fits").read_bytes()
    for share in (0.05, 0.4):
        (tmp_path / "cut.fits").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match="cut.fits"):
            page.cutout(tmp_path / "cut.fits", 30.0, 40.0)


def test_an_unreadable_table_is_named_and_leaves_no_page(run, tmp_path):
    folder, collected, _ = run
    (tmp_path / "source.parquet").write_bytes(b"not parquet")
    with pytest.raises(InputError, match="source.parquet"):
        page.write(tmp_path / "p.html", "run", dict(collected) | {"source": tmp_path / "source.parquet"}, folder)
    assert not (tmp_path / "p.html").exists()


def refused(html):
    """Rows of the section on what was refused: step, kind of reason, number, names, first reason, what to do."""
    section = html.split("<h2>What was refused or left out</h2>")[1].split("<h2>")[0]
    return [re.findall("<td>(.*?)</td>", row) for row in section.split("<tr>")[2:]]


def test_what_was_refused_is_counted_by_kind_with_what_to_do(run):
    rows = refused(run[2])
    assert [row[:5] for row in rows] == [
        ["ingest", "the file cannot be read", "1", "broken&amp;bad.fits", "truncated &lt;file&gt;"],
        ["calibration", "no PSF", "1", "12/0", "only 3 stars"],
        ["subtraction", "no template, or too little of it", "1", "11/0", "no template"],
    ]
    assert all(row[5] for row in rows)


def test_every_kind_of_reason_has_words_and_an_advice():
    assert set(refusals.KINDS) == set(Kind)


def test_an_image_counts_once_and_only_a_few_are_named():
    visits = tables.from_columns("visit", visit=np.arange(9), ingest_status="ok", calexp_status="failed")
    visits["calexp_reason"], visits["calexp_kind"] = [f"{n} stars" for n in range(9)], Kind.PSF
    visits["diffim_status"], visits["diffim_reason"], visits["diffim_kind"] = "failed", "no calexp", Kind.NO_CALEXP
    visits["calexp_kind"][8] = Kind.MATCH
    rows = refused("<h2>What was refused or left out</h2>" + refusals.section(visits, []))
    assert [row[2:5] for row in rows] == [
        ["8", "0/0, 1/0, 2/0, 3/0, 4/0 and 3 more", "0 stars"],
        ["1", "8/0", "8 stars"],
    ]


def test_images_that_a_run_does_not_take_are_listed_but_not_red(tmp_path):
    visits = tables.from_columns("visit", visit=[3, 4], ingest_status=["ok", "left out"], calexp_status="not run")
    visits["diffim_status"], visits["ingest_kind"][1], visits["ingest_reason"][1] = "not run", Kind.NOT_WANTED, "band i"
    html = page_of(visits, tmp_path)
    assert re.search(r"<tr><td>4</td>.*<td>ingest left out: band i</td></tr>", html) and 'class="failed"' not in html
    assert [row[2:5] for row in refused(html)] == [["1", "4/0", "band i"]]
    assert re.search(r"visits</td><td>1</td>.*images</td><td>2 \(1 ok, 1 left out\)", html)


def test_templates_without_inputs_are_named(tmp_path):
    for patch, status in (("0_0", "failed"), ("1_0", "ok")):
        header = fits.Header({"TRACT": 0, "PATCH": patch, "BAND": "r", "STATUS": status})
        header.update({"REASON": "no warps to coadd", "KIND": "template"} if status == "failed" else {})
        fits.PrimaryHDU(header=header).writeto(tmp_path / f"{patch}.fits")
    paths = [tmp_path / "0_0.fits", tmp_path / "1_0.fits"]
    (row,) = refused("<h2>What was refused or left out</h2>" + refusals.section(tables.empty("visit"), paths))
    assert row[:5] == ["template", "no template, or too little of it", "1", "0/0_0/r", "no warps to coadd"]
    (tmp_path / "1_0.fits").write_bytes(b"")
    with pytest.raises(InputError, match="1_0.fits"):
        refusals.section(tables.empty("visit"), paths)


def test_objects_are_counted_by_kind_and_band(run, tmp_path):
    products, collected, html = run
    table = tables.empty("object", 6, ["g", "i"])
    table["detect_isPrimary"] = [False, True, True, True, True, True]
    table["detect_fromBlend"] = [False, True, True, False, False, False]
    table["deblend_nChild"][0], table["deblend_skipped"][:3] = 2, True
    table["refExtendedness"] = [0, 0, 1, 1, 1, np.nan]
    table["i_psfFlux"], table["i_psfFluxErr"], table["i_psfDepth"] = [900, 900, 40, 60, 80, 10], 10, 24.25
    tables.write("object", table, tmp_path / "object.parquet")
    page.write(tmp_path / "page.html", "run", collected, products, objects=tmp_path / "object.parquet")
    text = re.sub("<[^>]+>", " ", (tmp_path / "page.html").read_text())
    for words in (
        r"detect_isPrimary\)\s+5\b",
        r"point-like\s+1\b",
        r"extended\s+3\b",
        r"children of blends\s+2\b",
        r"to take apart\s+1\b",
        r"\bi\s+3\s+24\.25",
        r"\bg\s+0\s+–",
    ):
        assert re.search(words, text), words
    assert "Objects (detect_isPrimary)" not in html
