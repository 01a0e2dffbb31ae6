"""From a difference image to DIASources: detection, dipoles, trails, glints, flags, figures of the image."""

__all__ = ["detection", "dipole", "flags", "glints", "leftovers", "quality", "shapes", "sharp", "surroundings", "trail"]
