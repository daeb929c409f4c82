"""Checkpoints: one safetensors file, with its metadata as JSON in the file's own header.

Tensors of the model are named as in its state dict (`encoder_3d.conv3d_1.weight`); a training state adds tensors under
`optimizer.`. The metadata holds the format version, the model's config, the stage that trained it and what the caller adds.
One file is either whole or absent, so an interruption never leaves weights and metadata that disagree.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .config import ModelConfig, preset
from .errors import CheckpointError, ConfigError, MissingInputError
from .files import atomic_path
from .model import VideoAutoencoder4D

FORMAT = 1
STAGES = ("base", "flow")
WEIGHTS = Path(__file__).parent / "weights"  # checkpoints that come with the package, each with a model card beside it


def shipped() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def locate(checkpoint: str | Path) -> Path:
    """A checkpoint's path, given by itself or by the name of one that comes with the package (such as "small")."""
    return WEIGHTS / f"{checkpoint}.safetensors" if str(checkpoint) in shipped() else Path(checkpoint)


def save_checkpoint(
    path: str | Path, model: VideoAutoencoder4D, stage: str, extra: dict | None = None, tensors: dict | None = None
) -> Path:
    """Write a checkpoint atomically.

    Args:
        stage: "base" or "flow", the last training stage the weights went through.
        extra: JSON values for the metadata (step, losses, recipe, ...).
        tensors: further tensors, named outside the model's state dict (the optimiser's).
    Raises:
        StorageError: the disk is full or the folder cannot be written; an older file stays as it was.
    """
    path = Path(path)
    meta = {"format": FORMAT, "config": model.config.to_dict(), "stage": stage, "extra": extra or {}}
    meta["flow_trained"] = stage == "flow" or model.flow_trained  # the base stage may go on from a model that knows flow
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic_path(path) as partial:
        save_file(weights | (tensors or {}), partial, metadata={"vae4d": json.dumps(meta)})
    return path


def read_checkpoint(path: str | Path) -> tuple[dict, dict[str, Tensor]]:
    """Metadata and tensors (on the CPU) of a checkpoint; `path` is what `locate` takes.

    Raises:
        MissingInputError: no such file.
        CheckpointError: the file is truncated, altered, or not a vae4d checkpoint.
    """
    path = locate(path)
    if not path.is_file():
        names = "".join(f", or name one that is here already: {name}" for name in shipped())
        remedy = f"run notebooks 02_train_autoencoder and 03_train_flow, or correct the path{names}"
        raise MissingInputError(f"There is no checkpoint {path}: {remedy}.")
    try:
        with safe_open(path, framework="pt") as stream:
            meta = json.loads((stream.metadata() or {}).get("vae4d", "null"))
            names = stream.keys()
            tensors = {name: stream.get_tensor(name) for name in names}
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        remedy = "copy it again where it was truncated; pickled checkpoints (.ckpt, .tar, .pt) are not read, choose one that vae4d wrote"
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}): {remedy}.") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT or meta.get("stage") not in STAGES:
        raise CheckpointError(f"{path} is a safetensors file but no vae4d checkpoint of format {FORMAT}: choose one that vae4d wrote.")
    return meta, tensors


def load_model(path: str | Path, expected_preset: str | None = None) -> VideoAutoencoder4D:
    """The model of a checkpoint, in eval mode on the CPU.

    Args:
        expected_preset: refuse a checkpoint of another preset.
    Raises:
        MissingInputError, CheckpointError: see `read_checkpoint`; also when the weights do not fit the config.
    """
    meta, tensors = read_checkpoint(path)
    try:
        config = ModelConfig.from_dict(meta["config"])
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} describes a model unknown to this version ({error}): use the version that wrote it.") from error
    if expected_preset not in (None, config.preset):
        raise CheckpointError(f"{path} holds preset {config.preset!r}, not {expected_preset!r}: choose another, or set preset.")
    model = VideoAutoencoder4D(config)
    wanted = model.state_dict()
    weights = {name: tensors[name] for name in wanted if name in tensors}
    wrong = [name for name, value in wanted.items() if name not in weights or weights[name].shape != value.shape]
    if wrong:
        what = f"{len(wrong)} tensors missing or misshapen, first {wrong[0]}"
        raise CheckpointError(f"{path} does not fit its own config ({what}): the file was altered, train anew.")
    model.load_state_dict(weights)
    model.flow_trained = meta.get("flow_trained", meta["stage"] == "flow")
    return model.eval()


def build_model(name: str, seed: int = 0, **changes) -> VideoAutoencoder4D:
    """A freshly initialised model of a preset; the same seed gives the same weights.

    Raises:
        ConfigError: unknown preset or field.
    """
    config = preset(name, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VideoAutoencoder4D(config).eval()
