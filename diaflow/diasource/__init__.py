"""From a difference image to DIASources: cleaning, detection, dipoles, trails, glints, flags, figures of the image."""

__all__ = ["clean", "detection", "dipole", "flags", "glints", "leftovers", "quality", "shapes", "sharp", "trail"]
