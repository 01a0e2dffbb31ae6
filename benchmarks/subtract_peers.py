"""One subtraction of the pair of `subtract.py` by another tool, run by the Python that has that tool.

``python subtract_peers.py TOOL FOLDER`` reads science_pixels.fits and template_pixels.fits and writes TOOL.fits.  The
tools see the same pixels; kernels have the size and the spatial order of ours where that can be chosen.
"""

import sys
from importlib.metadata import version
from pathlib import Path

HALF_WIDTH, KERNEL_ORDER, BACKGROUND_ORDER = 10, 1, 2


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


TOOLS = {"sfft": sfft}

if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(version(sys.argv[1]))
    else:
        TOOLS[sys.argv[1]](Path(sys.argv[2]))
