"""Checkpoints are whole or absent, and say what they are."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vae4d import build_model, checkpoint, load_model
from vae4d.checkpoint import locate, read_checkpoint, save_checkpoint, shipped
from vae4d.errors import CheckpointError, ConfigError, MissingInputError, StorageError
from vae4d.files import atomic_path, sha256


@pytest.fixture(scope="module")
def model():
    return build_model("small", seed=3, padding_mode="border")


def test_roundtrip(model, tmp_path):
    path = save_checkpoint(tmp_path / "a.safetensors", model, "flow", {"step": 7}, {"optimizer.0.exp_avg": torch.ones(2)})
    loaded = load_model(path, "small")
    assert loaded.config == model.config and loaded.flow_trained and not loaded.training
    for (name, a), b in zip(loaded.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    meta, tensors = read_checkpoint(path)
    assert meta["extra"] == {"step": 7} and tensors["optimizer.0.exp_avg"].tolist() == [1, 1]
    assert not load_model(save_checkpoint(tmp_path / "b.safetensors", model, "base")).flow_trained
    assert load_model(save_checkpoint(tmp_path / "c.safetensors", loaded, "base")).flow_trained, "the base stage forgot the flow"


def test_shipped_weights_are_found_by_name_and_described(tmp_path):
    assert "small" in shipped()
    for name in shipped():
        path = locate(name)
        assert path.stat().st_size <= 8e6
        assert load_model(name).flow_trained
        card = path.with_suffix(".md").read_text(encoding="utf-8")
        assert sha256(path) in card, f"the card of {name} is of other weights"
        assert f"{sha256(path)}  {path.name}" in (checkpoint.WEIGHTS / checkpoint.CHECKSUMS).read_text(encoding="utf-8").splitlines()
        for part in ("Recipe", "Data", "Figures", "Limits", "Licence"):
            assert f"## {part}" in card
    assert locate("small.safetensors") == Path("small.safetensors") and locate(tmp_path / "small") == tmp_path / "small"
    with pytest.raises(MissingInputError, match="name one that is here already: small"):
        load_model("smal")


def test_wrong_files_are_refused_with_a_remedy(model, tmp_path):
    good = save_checkpoint(tmp_path / "good.safetensors", model, "base")
    with pytest.raises(MissingInputError, match="02_train_autoencoder"):
        load_model(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="'small', not 'original'"):
        load_model(good, "original")
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(good.read_bytes()[:-1000])
    noise = tmp_path / "noise.safetensors"
    noise.write_bytes(b"not a checkpoint at all")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.ones(1)}, foreign)
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    wrong = ((truncated, "copy it again"), (noise, "not a whole"), (empty, "not a whole"), (foreign, "no vae4d checkpoint"))
    for path, message in wrong:
        with pytest.raises(CheckpointError, match=message) as caught:
            load_model(path)
        assert path.name in str(caught.value)


def test_missing_tensors_are_named(model, tmp_path, monkeypatch):
    state = model.state_dict()
    state.pop("rotate.conv3d_1.weight")
    monkeypatch.setattr(model, "state_dict", lambda: state)
    path = save_checkpoint(tmp_path / "part.safetensors", model, "base")
    with pytest.raises(CheckpointError, match=r"rotate\.conv3d_1\.weight"):
        load_model(path)


def rewritten(path: Path, old: str, new: str) -> Path:
    """The checkpoint with a piece of its metadata replaced."""
    with safe_open(path, framework="pt") as stream:
        meta, tensors = stream.metadata()["vae4d"], {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    assert old in meta
    save_file(tensors, path.with_name("other.safetensors"), metadata={"vae4d": meta.replace(old, new)})
    return path.with_name("other.safetensors")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"preset": "small"', '"preset": "huge"', "unknown to this version .*'huge'.*use the version that wrote it"),
        ('"depth": 16', '"depth": 16, "heads": 4', "unknown to this version .*'heads'"),
        ('"format": 1', '"format": 2', "format 2, newer than this version's 1: update vae4d"),
        ('"depth": 16', '"depth": 32', r"does not fit its own config .*is \(.*\), not \(.*\)"),
        ('"resnet_layers": [1, 2, 2, 1]', '"resnet_layers": [1]', "unknown to this version"),
        ('"resnet_width": 16', '"resnet_width": 1000000', "does not fit its own config"),
        ('"resnet_width": 16', '"resnet_width": {}', "unknown to this version"),
    ],
)
def test_metadata_of_a_newer_version_or_altered_is_refused(model, tmp_path, old, new, message):
    path = rewritten(save_checkpoint(tmp_path / "model.safetensors", model, "base"), old, new)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(path)
    assert path.name in str(caught.value)


def test_changes_without_weights_are_made_and_others_refused(model, tmp_path):
    path = save_checkpoint(tmp_path / "model.safetensors", model, "base")
    changed = load_model(path, scale_rotate=0.5, scale_translate=2, padding_mode="zeros")
    assert changed.rotate.padding_mode == "zeros" and changed.encoder_traj.scale.tolist() == [0.5] * 3 + [2] * 3
    frames = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ratio = torch.tensor([50.0] * 3 + [200] * 3)  # both scales are 0.01 in the file
    torch.testing.assert_close(changed.pose(*frames), model.pose(*frames) * ratio)
    for wrong, message in (
        ({"depth": 8}, "depth belongs to a checkpoint's weights: change scale_rotate"),
        ({"scale_rotate": float("nan")}, "scale_rotate is nan: give a finite number"),
        ({"scale_translate": "much"}, "'much': give a finite number"),
        ({"padding_mode": "wrap"}, "padding_mode is 'wrap'"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_model(path, **wrong)


def test_values_that_are_not_finite_are_refused_by_name(tmp_path):
    broken = build_model("small")
    with torch.no_grad():
        broken.decoder.conv3.bias[3] = float("nan")
    path = save_checkpoint(tmp_path / "nan.safetensors", broken, "base")
    with pytest.raises(CheckpointError, match=r"nan\.safetensors holds values that are not finite in decoder\.conv3\.bias"):
        load_model(path)


def test_loading_leaves_the_random_numbers_alone(model, tmp_path):
    path = save_checkpoint(tmp_path / "model.safetensors", model, "base")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_model(path)
    assert torch.rand(1) == expected


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "value.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["value.txt"]


def test_a_full_disk_keeps_the_old_checkpoint(model, tmp_path, small_disk):
    path = save_checkpoint(tmp_path / "model.safetensors", model, "base")
    before = path.read_bytes()
    with small_disk(20_000), pytest.raises(StorageError, match=r"Cannot write .*model\.safetensors \(File too large\)"):
        save_checkpoint(path, build_model("small", seed=9), "base")
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "x"), ValueError("I/O error: no space (os error 28)")])
def test_no_space_left_is_said_in_one_sentence(tmp_path, error):
    full_disk = pytest.raises(StorageError, match=r"No space left while writing .*value\.txt \(\d+ MB free\)")
    with full_disk, atomic_path(tmp_path / "value.txt"):
        raise error
    assert os.listdir(tmp_path) == []


def test_an_unwritable_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="Cannot write"), atomic_path(tmp_path / "file" / "x.txt"):
        pass


def test_shipped_weights_that_were_altered_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    shutil.copytree(checkpoint.WEIGHTS, folder)
    monkeypatch.setattr(checkpoint, "WEIGHTS", folder)
    assert read_checkpoint("small")
    content = bytearray((folder / "small.safetensors").read_bytes())
    content[-5] ^= 1  # one bit of a weight: still a whole safetensors file
    (folder / "small.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        read_checkpoint("small")
    elsewhere = shutil.copy(folder / "small.safetensors", tmp_path / "mine.safetensors")
    assert read_checkpoint(elsewhere)  # only what came with the package has a checksum
