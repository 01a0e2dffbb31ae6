"""``python -m planner sky``: which tracts and patches have images, and a picture of them, before anything runs."""

import argparse
import os
import sys
from pathlib import Path

from diaflow.errors import InputError
from diaflow.report import sky_map
from diaflow.run import plan
from diaflow.run.config import of_chosen_methods, read, validated

DEFAULT = Path(__file__).parent.parent / "config.yaml"  # as the Snakefile has it


def main(words: list[str]) -> None:
    """Print the tracts and patches, and draw them where asked.

    Parameters
    ----------
    words : list of str
        Of the command line.

    Raises
    ------
    SystemExit
        When there is no image, or the configuration cannot be used; the message says why.
    """
    parser = argparse.ArgumentParser(prog="planner sky", description=__doc__)
    parser.add_argument("--configfile", type=Path, nargs="+", default=[DEFAULT])
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="where the run is")
    parser.add_argument("--visit", type=int, nargs="+", default=[], help="of these visits alone")
    parser.add_argument("--band", nargs="+", default=[], help="of these bands alone")
    parser.add_argument("--tract", type=int, nargs="+", default=[], help="on these tracts alone")
    parser.add_argument("--picture", type=Path, help="draw tracts, patches and images as PNG")
    options = parser.parse_args(words)
    picture = options.picture and options.picture.resolve()
    try:
        config = of_chosen_methods(validated(read(options.configfile, {})))
        os.chdir(options.directory)
        planned = plan.make(config, f"results/{config['run']}/exposures.parquet")
        overlaps = sky_map.select(planned.overlaps, options.visit, options.band, options.tract)
    except InputError as error:
        sys.exit(f"error: {error}")
    if picture:
        picture.write_bytes(sky_map.picture(planned.skymap, overlaps, planned.exposures))
    print(sky_map.text(planned.skymap, overlaps), end="")
