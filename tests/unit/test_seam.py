"""Stars on and beside the border of two tracts: fluxes, errors and noise of a template do not show that it is there."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.wcs import WCS
from builders import constant_psf, exposure, exposure_table, gaussian, tan_header
from scenes import add_stars

from diaflow import warp
from diaflow.coadd import combine, direct, template
from diaflow.measure import photometry
from diaflow.run import config
from diaflow.sky import overlaps
from diaflow.sky.skymap import rings

pytestmark = pytest.mark.slow

SHAPE, SCALE, SIGMA = (1000, 1000), 0.5, 2.2  # [pixel, arcsec, pixel]
N_VISITS = 3
# In the middle of the western border of a tract of DC2's map, near the equator.
CENTRE = 150.2479338842975 - 180 / 242, 2.2314049586776834


def images(rng, ra, dec, flux, *angles):
    """Headers of images turned and shifted a little, and the images with noise of 1 nJy per pixel."""
    for angle in angles:
        header = tan_header(*CENTRE, SCALE, angle, shape=SHAPE)
        header["CRPIX1"], header["CRPIX2"] = np.array([500, 500]) + rng.uniform(-8, 8, 2)
        image = rng.normal(0, 1, SHAPE)
        add_stars(image, *WCS(header).all_world2pix(ra, dec, 0), flux, SIGMA)
        yield header, image


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Template of two tracts on another image; of its stars true and measured fluxes, and how many tracts have each."""
    rng, folder = np.random.default_rng(5), tmp_path_factory.mktemp("seam")
    steps = np.arange(35, 965, 19.0)
    x, y = (grid.ravel() + rng.uniform(-3, 3, grid.size) for grid in np.meshgrid(steps, steps))
    ra, dec = WCS(tan_header(*CENTRE, SCALE, shape=SHAPE)).all_pix2world(x, y, 0)
    flux = rng.uniform(300, 600, len(ra))
    headers, pixels = zip(*images(rng, ra, dec, flux, *rng.uniform(-0.5, 0.5, N_VISITS)))
    psf = constant_psf(gaussian(SIGMA, 31), SHAPE)
    calexps = [
        exposure(image, 1.0, psf, wcs=WCS(header), visit=k, detector=0, band="r", mjd=60000.0 + k)
        for k, (header, image) in enumerate(zip(headers, pixels), 1)
    ]
    section = {"type": "rings", "pixel_scale": SCALE, "patch_size": 1100, "patch_border": 50}
    options = config.validated({"images": "x", "skymap": section})["skymap"]
    sky, found = overlaps.lay_out(options, exposure_table(list(headers)), rings, 10.0)
    assert tuple(sky.tracts) == (9812, 9813)
    coadds = []
    for number, patch in sorted(set(zip(found["tract"].tolist(), found["patch"]))):
        paths = []
        for calexp in calexps:
            made = warp.visit_on_patch([calexp], *sky.tracts[number].patch_wcs(patch))
            if made is not None:
                # All images have one PSF: they are matched as they are.
                paths.append([folder / f"{name}_{number}_{patch}_{len(paths)}.fits" for name in ("warp", "matched")])
                made.write(paths[-1][0])
                replace(made, psf=constant_psf(gaussian(SIGMA, 31), made.shape)).write(paths[-1][1])
        if paths:
            coadd = combine.combine_warps(*zip(*paths), direct.combine)
            coadd.metadata["band"] = "r"
            coadds.append(str(folder / f"{number}_{patch}.fits"))
            coadd.write(coadds[-1])
    grid = WCS(tan_header(*CENTRE, SCALE, 0.3, shape=SHAPE))
    static = template.assemble(coadds, grid, SHAPE)
    x, y = grid.all_world2pix(ra, dec, 0)
    result = photometry.exposure_flux(static, x, y)
    n_tracts = np.sum([tract.contains(ra, dec) for tract in sky.tracts.values()], axis=0)
    good = ~result.flag & (static.flagged("NO_DATA")[np.round(y).astype(int), np.round(x).astype(int)] == 0)
    return static, grid, sky, (x, y), flux[good], result.flux[good], result.err[good], n_tracts[good]


def test_fluxes_and_errors_are_right_on_the_border_and_beside_it(measured):
    *_, flux, found, err, n_tracts = measured
    assert len(flux) > 2000 and (n_tracts == 2).sum() > 500 and (n_tracts == 1).sum() > 500
    ratio, pull = found / flux, (found - flux) / err
    assert pull.std() == pytest.approx(1.0, abs=0.05)
    for here in (n_tracts == 1, n_tracts == 2):
        assert abs(ratio[here].mean() - 1) < 0.003
        assert pull[here].std() == pytest.approx(1.0, abs=0.05 + 2 / np.sqrt(2 * here.sum()))
    step = ratio[n_tracts == 2].mean() - ratio[n_tracts == 1].mean()
    assert abs(step) < 4 * np.hypot(*(ratio[n_tracts == n].std() / np.sqrt((n_tracts == n).sum()) for n in (1, 2)))


def test_noise_has_no_seam(measured):
    """Far from stars, pixels scatter as their variances say, on one tract as on two."""
    static, grid, sky, stars, *_ = measured
    y, x = np.indices(SHAPE)
    n_tracts = np.sum([tract.contains(*grid.all_pix2world(x, y, 0)) for tract in sky.tracts.values()], axis=0)
    shown = np.ones(SHAPE)
    add_stars(shown, *stars, np.ones(len(stars[0])), SIGMA)
    empty = (static.mask == 0) & (shown < 1 + 1e-6)
    widths = []
    for n in (1, 2):
        noise = (static.image / np.sqrt(static.variance))[empty & (n_tracts == n)]
        widths.append(noise.std())
        # Neighbours are correlated: an effective number of a tenth of the pixels leaves 1 %.
        assert len(noise) > 50_000 and widths[-1] == pytest.approx(1.0, abs=0.03)
    assert widths[0] == pytest.approx(widths[1], rel=0.02)
