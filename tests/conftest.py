"""Fixtures that many tests share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Numbers of the published implementation and real IU-Xray material, whose licence keeps them outside."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared: the published numbers and real IU-Xray studies are not part of the project")
    return SHARED
