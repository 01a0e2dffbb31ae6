"""From a difference image to DIASources: detection, dipoles, trails, glints, flags, and the figures of the image."""

__all__ = ["detection", "dipole", "glints", "quality", "shapes", "trail"]
