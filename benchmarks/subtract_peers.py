"""One subtraction of the pair of `subtract.py` by another tool, run by the Python that has that tool.

``python subtract_peers.py TOOL FOLDER`` reads science_pixels.fits and template_pixels.fits and writes TOOL.fits.  The
tools see the same pixels; kernels have the size and the spatial order of ours where that can be chosen.  The
Alard-Lupton method of OIS failed on them with a sky of second degree.
"""

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from astropy.io import fits

HALF_WIDTH, KERNEL_ORDER, BACKGROUND_ORDER = 10, 1, 2
CELLS = 4  # of a tool whose kernel does not vary, along each axis


def sfft(folder: Path) -> None:
    """SFFT (Hu et al. 2022) on the CPU; fitted to the neighbourhoods of stars, as its sparse flavour does."""
    from sfft.CustomizedPacket import Customized_Packet

    science, template = folder / "science_pixels.fits", folder / "template_pixels.fits"
    masked = folder / "template_stars.fits", folder / "science_stars.fits"
    Customized_Packet.CP(
        *map(str, (template, science, *masked)),
        ForceConv="REF",
        GKerHW=HALF_WIDTH,
        FITS_DIFF=str(folder / "sfft.fits"),
        KerPolyOrder=KERNEL_ORDER,
        BGPolyOrder=BACKGROUND_ORDER,
        BACKEND_4SUBTRACT="Numpy",
        NUM_CPU_THREADS_4SUBTRACT=1,
        VERBOSE_LEVEL=0,
    )


def ois(folder: Path) -> None:
    """Bramich (2008) as in OIS (Beroiz), in C, its own size of kernel: kernel pixels and sky of each of 4 x 4 cells."""
    from ois import optimal_system

    science, template = (fits.getdata(folder / f"{name}_pixels.fits").astype(float) for name in ("science", "template"))
    difference = optimal_system(science, template, bkgdegree=BACKGROUND_ORDER, gridshape=(CELLS, CELLS))[0]
    fits.writeto(folder / "ois.fits", np.asarray(difference, np.float32), overwrite=True)


def properimage(folder: Path) -> None:
    """ZOGY as in ProperImage (Sanchez et al. 2019), with one PSF for each image, found from its stars."""
    from properimage import SingleImage
    from properimage.operations import subtract

    science, template = (SingleImage(str(folder / f"{name}_pixels.fits")) for name in ("science", "template"))
    difference = subtract(ref=template, new=science, beta=False, shift=False)[0]
    fits.writeto(folder / "properimage.fits", np.real(difference).astype(np.float32), overwrite=True)


TOOLS = {"sfft": sfft, "ois": ois, "properimage": properimage}

if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(version(sys.argv[1]))
    else:
        TOOLS[sys.argv[1]](Path(sys.argv[2]))
