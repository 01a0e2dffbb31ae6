"""What happens when processes are killed, disks are full or may not be written to, and files are not what they were."""

import ctypes
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import command

from diaflow.forced.diffim import forced_photometry
from diaflow.forced.positions import Positions
from diaflow.image.exposure import Exposure

RUN = Path("results/tiny")
TABLES = ["visit", "source", "dia_source", "dia_object", "dia_forced_source"]
SCRIPTS = ".snakemake/scripts"
KILLS = 10
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2  # of prctl(2) and capabilities(7)
WHOLE = 5  # one kill in this many is that of the whole run


def products(folder: Path, names: list[str]) -> list[bytes]:
    return [(folder / RUN / name).read_bytes() for name in names]


def failed(done: subprocess.CompletedProcess) -> str:
    """The output of a run that must have failed with a clear line, not with a traceback."""
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in output, output
    return output


def leftovers(folder: Path) -> list[Path]:
    """Files that were being written when something failed."""
    return list(folder.rglob(".*.part"))


@contextmanager
def tmpfs(folder: Path, options: str):
    """A file system of its own on `folder`, gone when the block ends."""
    if os.geteuid():
        pytest.skip("only root can mount a disk to fill or to protect")
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def let_rights_count() -> None:
    """In a process that is about to start a program: to root, too, files are closed that may not be read."""
    for capability in CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def a_job_of(run: subprocess.Popen) -> psutil.Process | None:
    """A process that computes: a script of the workflow or one of its workers."""
    try:
        below = psutil.Process(run.pid).children(recursive=True)
        jobs = [
            process
            for process in below
            if process.name().startswith("python") and SCRIPTS in " ".join(process.cmdline()[-1:])
        ]
    except psutil.NoSuchProcess:
        return None
    return random.choice(jobs) if jobs else None


def test_kills_at_random_moments_leave_the_same_tables(tmp_path, tiny_run, snakemake, tiny, root):
    """Eight kills hit a job, which Snakemake starts again, two the whole run, which is unlocked before.

    One or two jobs end between two kills, so that these are spread over the run however fast the machine is.
    """
    random.seed(1)
    shutil.copytree(tiny_run / "demo", tmp_path / "demo")

    def finished() -> int:
        return sum(log.read_text().count("Finished jobid") for log in tmp_path.glob("*.log"))

    tables = [f"{RUN}/tables/{name}.parquet" for name in TABLES]
    run, killed, due = None, 0, 1
    while killed < KILLS:
        if run is None:
            words = command(root, tmp_path, tiny, *tables, "--retries", str(KILLS))
            with open(tmp_path / f"{killed}.log", "w") as log:
                run = subprocess.Popen(words, cwd=tmp_path, start_new_session=True, stdout=log, stderr=log)
        time.sleep(random.uniform(0, 1))
        assert run.poll() is None, f"the run ended after {killed} kills: {Path(log.name).read_text()[-3000:]}"
        job = a_job_of(run) if finished() >= due else None
        if job is None:
            continue
        killed += 1
        due = finished() + random.randint(1, 2)
        if killed % WHOLE:
            with suppress(psutil.NoSuchProcess):
                job.kill()
            continue
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        run = None
        assert snakemake(tmp_path, tiny, "--unlock").returncode == 0
    done = snakemake(tmp_path, tiny, *tables)
    assert done.returncode == 0, done.stderr[-5000:]
    assert all((tmp_path / name).read_bytes() == (tiny_run / name).read_bytes() for name in tables)
    assert not leftovers(tmp_path)


def test_full_disk_is_named_nothing_is_corrupt_and_the_run_completes_after_room_is_made(
    tmp_path, tiny_run, snakemake, tiny
):
    disk, target = tmp_path / "disk", f"{RUN}/calexp/1"
    with tmpfs(disk, "size=1g"):
        shutil.copytree(tiny_run, disk, dirs_exist_ok=True)
        for name in (f"{RUN}/calexp", f"{RUN}/warp", f"{RUN}/warp_matched", f"{RUN}/diffim"):
            shutil.rmtree(disk / name)
        used = shutil.disk_usage(disk).used
        remount(disk, f"size={used + 2_000_000}")  # a calexp has 3 MB
        output = failed(snakemake(disk, tiny, target))
        assert f"{target}/0.fits: cannot be written" in output and "space" in output
        assert not list((disk / RUN).rglob("calexp/1/*")) and not leftovers(disk)
        remount(disk, "size=1g")
        done = snakemake(disk, tiny, target)
        assert done.returncode == 0, done.stderr[-5000:]
        names = ["calexp/1/0.fits", "calexp/1/1.fits", "src/1.parquet"]
        assert products(disk, names) == products(tiny_run, names)


def test_read_only_output_is_named(tmp_path, tiny_run, snakemake, tiny):
    shutil.copytree(tiny_run / "demo", tmp_path / "demo")
    with tmpfs(tmp_path / "results", "size=1m,ro"):
        output = failed(snakemake(tmp_path, tiny, f"{RUN}/exposures.parquet"))
    assert "Read-only file system" in output and "results" in output and "a folder of your own (--directory)" in output


def test_record_that_may_not_be_read_is_named(tiny_run, tiny, root):
    """As one of a colleague with mode 660 is, who is in another group."""
    record = next(path for path in (tiny_run / ".snakemake/metadata").rglob("*") if path.is_file())
    mode = record.stat().st_mode
    record.chmod(0)
    try:
        words = command(root, tiny_run, tiny, "--dry-run")
        with_rights = {"cwd": tiny_run, "preexec_fn": let_rights_count}
        output = failed(subprocess.run(words, text=True, capture_output=True, **with_rights))
    finally:
        record.chmod(mode)
    assert (
        f"{record.name}: this record of Snakemake may not be read" in output and "chmod -R g+rwX .snakemake" in output
    )


def test_truncated_product_is_found_removed_and_made_again(tmp_path, tiny_run, snakemake, tiny):
    shutil.copytree(tiny_run, tmp_path, dirs_exist_ok=True)
    coadds = sorted((tmp_path / RUN).glob("coadd/template/0/*/g.fits"), key=lambda path: path.stat().st_mtime)
    broken = coadds[len(coadds) // 2].relative_to(tmp_path)
    with open(tmp_path / broken, "r+b") as file:
        file.truncate((tmp_path / broken).stat().st_size // 2)
    target = f"{RUN}/dia_source/4.parquet"
    output = failed(snakemake(tmp_path, tiny, target))
    assert f"{broken} damaged; removed {broken}" in output
    done = snakemake(tmp_path, tiny, target)
    assert done.returncode == 0, done.stderr[-5000:]
    names = [str(broken.relative_to(RUN)), "dia_source/4.parquet"]
    assert products(tmp_path, names) == products(tiny_run, names)


def test_warps_that_are_not_kept_are_gone_when_the_coadd_is_made_and_nothing_is_to_be_done_again(
    tmp_path, tiny_run, snakemake, tiny
):
    shutil.copytree(tiny_run, tmp_path, dirs_exist_ok=True)
    coadd = "coadd/template/0/1_0/g.fits"
    for name in ("warp", "warp_matched"):
        shutil.rmtree(tmp_path / RUN / name)
    (tmp_path / RUN / coadd).unlink()
    config = tiny | {"storage": {"keep_warps": False}}
    done = snakemake(tmp_path, config, f"{RUN}/{coadd}")
    assert done.returncode == 0, done.stderr[-5000:]
    assert products(tmp_path, [coadd]) == products(tiny_run, [coadd])
    assert not list((tmp_path / RUN).glob("warp*/0/*"))
    again = snakemake(tmp_path, config, f"{RUN}/{coadd}", "--dry-run")
    assert "Nothing to be done" in again.stdout + again.stderr


def test_compressed_differences_have_the_same_forced_fluxes_and_a_third_of_the_size(tmp_path, tiny_run):
    """Quantisation in steps of a 16th of the noise adds a variance of 1/12/16**2 of a pixel's, 0.018 sigma."""
    pulls, sizes = [], []
    rng = np.random.default_rng(1)
    for path in sorted((tiny_run / RUN / "diffim/4").glob("[0-9].fits")):
        science = Exposure.read(tiny_run / RUN / "calexp/4" / path.name)
        difference = Exposure.read(path)
        difference.write(tmp_path / path.name, compress=True)
        science.write(tmp_path / f"calexp_{path.name}", compress=True)
        sky = science.wcs.all_pix2world(*rng.uniform(0, 511, (2, 1000)), 0)
        positions = Positions(*sky, {"diaObjectId": np.arange(1000)})
        forced, forced_compressed = (
            forced_photometry(d, s, d.variance, positions, 1.0, 1.0)
            for d, s in (
                (difference, science),
                (Exposure.read(tmp_path / path.name), Exposure.read(tmp_path / f"calexp_{path.name}")),
            )
        )
        pulls.append((forced_compressed["psfFlux"] - forced["psfFlux"]) / forced["psfFluxErr"])
        np.testing.assert_allclose(forced_compressed["psfFluxErr"], forced["psfFluxErr"], rtol=1e-4)
        sizes.append((tmp_path / path.name).stat().st_size / path.stat().st_size)
    pulls = np.concatenate(pulls)
    pulls = pulls[np.isfinite(pulls)]
    expected = 1 / np.sqrt(12) / 16
    assert len(pulls) > 1500
    assert abs(pulls.mean()) < 4 * expected / np.sqrt(len(pulls))
    assert pulls.std() < 1.2 * expected  # a tile's noise, from which the steps follow, is that of its own pixels
    assert max(sizes) < 1 / 3


def test_two_runs_at_once_in_one_directory_are_refused(tmp_path, tiny_run, snakemake, tiny, root):
    shutil.copytree(tiny_run / "demo", tmp_path / "demo")
    first = subprocess.Popen(
        command(root, tmp_path, tiny),
        cwd=tmp_path,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(".snakemake/locks/*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        output = failed(snakemake(tmp_path, tiny))
        assert first.poll() is None
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert "Directory cannot be locked" in output


def test_spaces_and_quotes_in_file_names_are_safe(tmp_path, tiny_run, snakemake, tiny):
    folder = tmp_path / """night one's "best" run"""
    images = folder / """it's "raw" data"""
    images.mkdir(parents=True)
    files = sorted((tiny_run / "demo/images").glob("*_0.fits"))
    for file in (files[0], files[-1]):
        shutil.copy(file, images / f"""a 'b' "{file.name}""")
    shutil.copy(tiny_run / "demo/refcat.parquet", folder / """the star's "list".parquet""")
    config = {key: value for key, value in tiny.items() if key != "simulate"} | {
        "images": f"{images.name}/*.fits",
        "refcat": tiny["refcat"] | {"path": """the star's "list".parquet"""},
        "skymap": {"patch_size": 1500},
    }
    done = snakemake(folder, config)
    assert done.returncode == 0, done.stderr[-5000:]
    visits = (folder / RUN / "tables/visit.parquet").read_bytes()
    assert b"a 'b' \"" in visits
    assert (folder / RUN / "report/index.html").exists()
