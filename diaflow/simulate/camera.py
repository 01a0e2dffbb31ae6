"""The camera: CCDs side by side, and how their pixels lie about the reference point of the WCS."""

import math

import numpy as np

GAP = 24  # between neighbouring CCDs [pixel], chosen


def centre(config: dict, detector: int) -> tuple[float, float]:
    """Centre of the camera in the pixels of a detector.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    detector : int

    Returns
    -------
    x, y : float
        The first pixel is (0, 0).
    """
    size = config["size"]
    shift = (detector - (config["detectors"] - 1) / 2) * (size + GAP)
    return (size - 1) / 2 - shift, (size - 1) / 2


def reference_pixel(config: dict, detector: int) -> tuple[float, float]:
    """Reference point of the WCS in the pixels of a detector.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    detector : int

    Returns
    -------
    x, y : float
        The first pixel is (0, 0).
    """
    x, y = centre(config, detector)
    offset_x, offset_y = config["reference_offset"]
    return x - 3600 * offset_x / config["pixel_scale"], y - 3600 * offset_y / config["pixel_scale"]


def cd_matrix(config: dict, rotation: float) -> np.ndarray:
    """The linear part of a WCS.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    rotation : float
        Angle of the y axis east of north [deg]; x points west and y north at zero.

    Returns
    -------
    (2, 2) array
        (xi, eta) per (x, y) [deg/pixel].
    """
    scale, angle = config["pixel_scale"] / 3600, math.radians(rotation)
    return scale * np.array([[-math.cos(angle), math.sin(angle)], [math.sin(angle), math.cos(angle)]])
