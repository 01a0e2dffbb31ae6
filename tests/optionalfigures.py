"""Figures of the score that only some runs have."""

# Of runs that link what moves, and of those with positions of the user's.
TRACKLETS = {"tracklets_linked", "tracklets_false"}
POSITIONS = {"position_pull_median", "position_pull_width"}
OPTIONAL = TRACKLETS | POSITIONS
# Of runs with Objects.
STATIC = {
    "depth_offset",
    "false_objects",
    "star_purity",
    "star_completeness",
    "blends_found",
    "blend_flux_bias",
    "blend_given_bias",
}
STATIC |= {"object_flux_bias", "object_colour_bias", "object_repeatability"}
STATIC |= {
    f"{name}_{of}" for name in ("object_pull", "object_forced_pull", "coadd_sky_pull") for of in ("median", "width")
}
