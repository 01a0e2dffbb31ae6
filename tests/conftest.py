"""Fixtures that several test files share."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


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
