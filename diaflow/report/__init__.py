"""The page that users look at, one self-contained HTML file, and colour pictures of the coadds."""

__all__ = ["colour", "page", "plots", "refusals", "repeatability", "static_sky"]
