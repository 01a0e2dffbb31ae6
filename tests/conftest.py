"""Fixtures that several test files share."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items):
    """Mark what runs Snakemake, and have it begin: its files take minutes, so that none of them is left for the end.

    The one that waits for SLURM comes first, beside those that use all cores.
    """
    for item in items:
        if item.path.parent.name in ("workflow", "slurm"):
            item.add_marker("workflow")
    items.sort(key=lambda item: item.get_closest_marker("workflow") is None)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real observations beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip("real images are not here: ../shared/data is absent")
    return SHARED / "data"
