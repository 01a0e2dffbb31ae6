"""All benchmarks: prints the table of ours beside the peers and writes benchmarks/results.json."""

import json
from pathlib import Path

import associate
import calexp
import diffim
import dry_run
import forced
import objects
import refcat
import small_visits
import startup
import subtract
import warp


def line(row: dict) -> str:
    """One line of the table."""
    peer = (
        f"{row['peer']} {row['peer_cpu_s']:.2f} s, ratio {row['ratio']:.2f}"
        if row["ratio"]
        else row["peer"] or "no peer"
    )
    return f"{row['name']:60s} {row['ours_cpu_s']:8.2f} CPU s {row['peak_mb']:7.0f} MB   {peer}"


def main() -> None:
    """Run every benchmark in turn."""
    rows = []
    for benchmark in (
        startup,
        warp,
        calexp,
        subtract,
        diffim,
        objects,
        associate,
        forced,
        dry_run,
        refcat,
        small_visits,
    ):
        new = benchmark.main()
        print("\n".join(map(line, new)), flush=True)
        rows += new
    Path(__file__).with_name("results.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
