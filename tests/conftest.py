"""Shared fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def weights() -> Path:
    """The folder of real VGG-16 and AlexNet weights that `make setup` fetches."""
    folder = ROOT / "data" / "weights"
    assert (folder / "vgg16.safetensors").is_file(), "run `make setup` first: the tests compare with real weights"
    return folder
