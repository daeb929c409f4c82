"""Checkpoints are whole or absent, and say what they are."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vae4d import build_model, load_model
from vae4d.checkpoint import locate, read_checkpoint, save_checkpoint, shipped
from vae4d.errors import CheckpointError, MissingInputError, StorageError
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
    pickled = tmp_path / "pickled.ckpt"
    torch.save({"encoder_3d": {}}, pickled)
    wrong = ((truncated, "copy it again"), (noise, "not a whole"), (pickled, r"\.ckpt.* are not read"), (foreign, "no vae4d checkpoint"))
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
