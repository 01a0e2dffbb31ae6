"""How many peaks the matched filter of white noise has (Kaiser 2004; LSST DMTN-006), and differences have.

As a script it counts peaks on differences of pure noise, whose kernels are known, over an area that is too large for a
test: ``PYTHONPATH=tests python tests/unit/noisepeaks.py [images of 4096 x 4096 per case]``.
"""

import sys

import numpy as np
from builders import IDENTITY, constant_psf, exposure, gaussian
from scipy.ndimage import binary_erosion

from diaflow.detect import footprints
from diaflow.measure import matchedfilter
from diaflow.psf.stampfield import moments_sigma
from diaflow.psfmatch.solution import KernelSolution
from diaflow.subtract import alard_lupton, zogy

SIZE, NOISES, SIGMAS = 4096, (0.1, 0.3, 1.0), ((2.0, 1.7), (1.7, 2.0))
THRESHOLDS = 4.0, 5.0, 5.5


def peak_density(threshold: float, stamp: np.ndarray) -> float:
    """Peaks of both signs beyond a threshold [sigma] per pixel.

    nu exp(-nu^2 / 2) / (2^{5/2} pi^{3/2}) per sigma_g^2 and sign, where the Gaussian of radius sigma_g has filtered
    noise of the same curvature as the PSF `stamp`.
    """
    slopes = sum((derivative**2).sum() for derivative in np.gradient(stamp))
    density = threshold * np.exp(-(threshold**2) / 2) / (2**2.5 * np.pi**1.5)
    return float(2 * density * slopes / (stamp**2).sum())


def difference_of_noise(algorithm: str, sigmas: tuple[float, float], noise: float, seed: int):
    """Difference of two images without stars by the code of an algorithm after its fits."""
    rng = np.random.default_rng(seed)
    pair = []
    for sigma, width in zip((1.0, noise), sigmas):
        image = sigma * rng.standard_normal((SIZE, SIZE), np.float32)
        pair.append(exposure(image, sigma**2, constant_psf(gaussian(width), (SIZE, SIZE)), **IDENTITY))
    sky = np.ones((SIZE, SIZE), bool)
    if algorithm == "zogy":
        return zogy.difference_pair(*pair, zogy.kernel_fields(*pair, sky), (0.0, 0.0))[0]
    sign = 1 if sigmas[0] < sigmas[1] else -1
    kernel = constant_psf(gaussian(np.sqrt(abs(sigmas[0] ** 2 - sigmas[1] ** 2)), 21), (SIZE, SIZE))
    solution = KernelSolution(kernel, np.zeros(1), 0, *(np.zeros(0),) * 2, 0, 1.0, 0.0, 0.0)
    one = constant_psf(np.ones((1, 1)), (SIZE, SIZE))
    return alard_lupton.MatchedPair.matched(*pair[::sign], solution, one, sky, sign).decorrelated(sky)[0]


def main(n_images: int) -> None:
    """Print counts and expectations."""
    for algorithm in ("alard_lupton", "zogy"):
        total = np.zeros((len(THRESHOLDS), 2))
        for case, noise in enumerate(NOISES):
            counts = np.zeros((len(THRESHOLDS), 2))
            for k in range(n_images):
                difference = difference_of_noise(algorithm, SIGMAS[k % 2], noise, seed=1000 * case + k)
                stamp, good = difference.psf.centre(), difference.mask == 0
                snr = matchedfilter.smooth_snr(difference.image, difference.variance, ~good, stamp)
                good = binary_erosion(good, np.ones((3, 3)))  # sources with missing pixels in their centre are flagged
                for row, threshold in zip(counts, THRESHOLDS):
                    found = footprints.find(snr, threshold, moments_sigma(stamp), difference.mask.copy())
                    row += good[found.y, found.x].sum(), good.sum() * peak_density(threshold, stamp)
            report(f"{algorithm} noise {noise}", counts)
            total += counts
        report(f"{algorithm} all", total)


def report(name: str, counts: np.ndarray) -> None:
    """Count, expectation and ratio with its Poisson error."""
    for threshold, (n, expected) in zip(THRESHOLDS, counts):
        ratio = f"ratio {n / expected:.3f} +- {1 / np.sqrt(expected):.3f}"
        print(f"{name:22s} {threshold} sigma: {n:.0f} peaks, theory {expected:.1f}, {ratio}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
