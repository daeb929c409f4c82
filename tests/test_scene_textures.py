"""Photographs as textures."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from vae4d.errors import ConfigError, MissingInputError
from vae4d.scenes import load_textures
from vae4d.scenes.textures import SHIPPED, build, shipped_photographs


def sample(textures, u, v, blur=1.0, photo=0):
    u, v = torch.broadcast_tensors(torch.as_tensor(u, dtype=torch.float32), torch.as_tensor(v, dtype=torch.float32))
    return textures.sample(torch.full((len(u),), photo), u, v, torch.full((len(u),), float(blur)))


def test_all_shipped_photographs_are_there():
    assert [path.name for path in shipped_photographs()] == sorted(SHIPPED)


def test_splits_share_no_photograph():
    train, test, everything = (load_textures(split=split, size=64).names for split in ("train", "test", "all"))
    assert not set(train) & set(test) and set(train) | set(test) == set(everything)
    assert len(test) == 5


def test_the_split_goes_by_content(tmp_path):
    for path in shipped_photographs():
        shutil.copy(path, tmp_path / f"a-{path.name}")
    assert load_textures(tmp_path, "test", 64).names == tuple(f"a-{name}" for name in load_textures(split="test", size=64).names)
    (tmp_path / "a-astronaut.png").unlink()
    assert len(load_textures(tmp_path, "test", 64)) == 5


def test_texels_lie_where_they_should():
    ramp = ((torch.arange(64) + 0.5) / 64).expand(1, 3, 64, 64)
    textures = build(["ramp"], ramp)
    u = torch.linspace(0.2, 0.8, 50)
    for blur in (1, 2, 3, 4):  # a ramp stays what it is under any symmetric low-pass, away from the ends
        torch.testing.assert_close(sample(textures, u, 0.5, blur)[0], u, atol=0.006, rtol=0)
    torch.testing.assert_close(sample(build(["ramp"], ramp.mT), 0.3, u)[1], u, atol=1e-3, rtol=0)


def test_mirrored_without_a_seam():
    textures = build(["noise"], torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    u = torch.linspace(0, 1, 101)
    for other in (-u, 2 - u, 2 + u, u - 4):
        torch.testing.assert_close(sample(textures, other, 0.3), sample(textures, u, 0.3), atol=1e-4, rtol=0)
    across = sample(textures, torch.linspace(0.99, 1.01, 201), 0.4)
    assert across.diff(dim=1).abs().max() < 0.02


def test_neighbours_in_the_atlas_never_mix():
    textures = build(["black", "white", "black"], torch.tensor([0.0, 1, 0])[:, None, None, None].expand(3, 3, 64, 64))
    u, v = torch.rand(2, 500, generator=torch.Generator().manual_seed(0)) * 4 - 2
    for blur in (0.1, 1, 1.7, 5, 100):
        for photo, value in enumerate((0, 1, 0)):
            for x, y in ((u, v), (u.round(), v.round())):
                torch.testing.assert_close(sample(textures, x, y, blur, photo), torch.full((3, 500), float(value)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("blur", [1, 1.4, 2, 3, 4])
def test_width_of_the_low_pass(blur):
    step = (torch.arange(256) >= 128).float().expand(1, 3, 256, 256)
    u = 0.5 + torch.linspace(-4 * blur, 4 * blur, 4001) / 256
    profile = sample(build(["step"], step), u, 0.5, blur)[0]
    place, weight = (u[1:] + u[:-1]).sub(1).mul(128).double(), profile.diff().double()
    sigma = math.sqrt((weight * place**2).sum() / weight.sum())
    assert blur * 0.97 < sigma < blur * 1.12  # a step's derivative is the Gaussian; bilinear sampling widens it somewhat


def test_more_blur_is_smoother():
    textures = load_textures(size=64)
    u = torch.linspace(0, 1, 400)
    rough = [sample(textures, u, 0.37, blur).diff(dim=1).abs().mean().item() for blur in (1, 1.5, 2, 3, 4, 6)]
    assert rough == sorted(rough, reverse=True)


def picture(path, width, height, value=128):
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)


def test_a_folder_of_images(tmp_path):
    picture(tmp_path / "b.png", 100, 80, 200)
    picture(tmp_path / "a.jpg", 64, 64, 100)
    (tmp_path / "notes.txt").write_text("no image")
    Image.fromarray(np.zeros((70, 70), np.uint8)).save(tmp_path / "grey.tif")
    textures = load_textures(tmp_path, size=64)
    assert textures.names == ("a.jpg", "b.png", "grey.tif") and len(textures) == 3


def test_a_tiny_image_is_named(tmp_path):
    picture(tmp_path / "fine.png", 64, 64)
    picture(tmp_path / "stamp.png", 100, 63)
    with pytest.raises(ConfigError, match=r"stamp\.png has 100 x 63 px: give images of at least 64 px a side"):
        load_textures(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_an_unreadable_image_is_named(tmp_path, content):
    picture(tmp_path / "fine.png", 200, 200)
    if content is None:  # cut off half-way
        Image.effect_noise((200, 200), 50).convert("RGB").save(tmp_path / "noise.png")
        content = (tmp_path / "noise.png").read_bytes()[:5000]
        (tmp_path / "noise.png").unlink()
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.png cannot be read as an image"):
        load_textures(tmp_path)


def test_no_image_and_no_folder(tmp_path):
    with pytest.raises(MissingInputError, match="No image in"):
        load_textures(tmp_path)
    with pytest.raises(MissingInputError, match="no folder"):
        load_textures(tmp_path / "none")
    picture(tmp_path / "one.png", 64, 64)
    empty = [split for split in ("train", "test") if not names_or_none(tmp_path, split)]
    assert len(empty) == 1
    with pytest.raises(MissingInputError, match=f"None of the 1 images in .* falls into the {empty[0]} split"):
        load_textures(tmp_path, empty[0])


def names_or_none(folder, split):
    try:
        return load_textures(folder, split, 64).names
    except MissingInputError:
        return None


def test_wrong_split_and_size():
    with pytest.raises(ConfigError, match="train, test, all"):
        load_textures(split="validate")
    for size in (100, 32, 64.0):
        with pytest.raises(ConfigError, match="power of two"):
            load_textures(size=size)
