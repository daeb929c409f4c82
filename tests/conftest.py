"""Shared fixtures."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def weights() -> Path:
    """The folder of real VGG-16 and AlexNet weights that `make setup` fetches."""
    folder = ROOT / "data" / "weights"
    assert (folder / "vgg16.safetensors").is_file(), "run `make setup` first: the tests compare with real weights"
    return folder


@pytest.fixture(scope="session")
def textures():
    """The photographs that come with scikit-image, as textures."""
    from vae4d.scenes import load_textures

    return load_textures()


@contextmanager
def file_size_limit(count: int):
    """Within the block no file may grow beyond `count` bytes: how a full disk looks to a writer."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk():
    """`with small_disk(20_000): ...`"""
    return file_size_limit
