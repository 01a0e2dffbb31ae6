"""The page that users look at, one self-contained HTML file; colour pictures of the coadds; the sky map."""

__all__ = ["colour", "page", "plots", "refusals", "repeatability", "sky_map", "static_sky"]
