"""Checkpoints: one safetensors file, with its metadata as JSON in the file's own header. Those of the original system are read as well.

Tensors of the model are named as in its state dict (`encoder_3d.conv3d_1.weight`); a training state adds tensors under
`optimizer.`. The metadata holds the format version, the model's config, the stage that trained it and what the caller adds.
One file is either whole or absent, so an interruption never leaves weights and metadata that disagree.
"""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .config import PRESETS, choice, preset
from .errors import CheckpointError, ConfigError, MissingInputError
from .faithful.model import FLOW_MODULES, VideoAutoencoder4D
from .faithful.original_checkpoint import SUFFIXES, fitting_config, is_original, read_original, write_original
from .family import Config, Model, differences, listed, model_of
from .files import atomic_path, sha256

FORMAT = 1
STAGES = ("base", "flow", "sharp")
FREE_FIELDS = ("scale_rotate", "scale_translate", "padding_mode")  # fields of ModelConfig that carry no weights
CHECKSUMS = "SHA256SUMS"  # beside them, as `sha256sum -c` reads it
OWN: dict[str, nn.Module] = {}  # models by name, from `register.model`
WEIGHTS = Path(__file__).parent / "weights"  # checkpoints that come with the package, each with a model card beside it


def shipped() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def locate(checkpoint: str | Path) -> Path:
    """A checkpoint's path, given by itself or by the name of one that comes with the package (such as "small")."""
    return WEIGHTS / f"{checkpoint}.safetensors" if str(checkpoint) in shipped() else Path(checkpoint)


def verify(path: Path) -> None:
    """Compare a checkpoint that comes with the package with its checksum there; others have none.

    Raises:
        CheckpointError: it was truncated or altered.
    """
    if path.parent != WEIGHTS:
        return
    sums = dict(reversed(line.split(maxsplit=1)) for line in (WEIGHTS / CHECKSUMS).read_text(encoding="utf-8").splitlines())
    if sha256(path) != sums.get(path.name):
        raise CheckpointError(f"{path} is not the file that came with the package (its SHA-256 differs): install vae4d again.")


def save_checkpoint(
    path: str | Path, model: Model, stage: str, extra: dict | None = None, tensors: dict | None = None
) -> Path:
    """Write a checkpoint atomically.

    Args:
        stage: "base" or "flow", the last training stage the weights went through; "sharp", which has one.
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
    """Metadata and tensors (on the CPU) of a checkpoint, ours or the original system's; `path` is what `locate` takes.

    The metadata of an original file is made up from what it holds: the preset that fits, its stage, an empty `extra`; `ignored` names what
    it holds beside the model, `lacks` the modules that it does not hold.

    Raises:
        MissingInputError: no such file.
        CheckpointError: the file is truncated, altered, hostile, or no checkpoint.
    """
    path = locate(path)
    if not path.is_file():
        names = "".join(f", or name one that is here already: {name}" for name in shipped())
        remedy = f"run notebooks 02_train_autoencoder and 03_train_flow, or correct the path{names}"
        raise MissingInputError(f"There is no checkpoint {path}: {remedy}.")
    verify(path)
    try:
        if is_original(path):
            return described(path, *read_original(path))
        with safe_open(path, framework="pt") as stream:
            meta = json.loads((stream.metadata() or {}).get("vae4d", "null"))
            names = stream.keys()
            tensors = {name: stream.get_tensor(name) for name in names}
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}): copy it again where it was truncated.") from error
    number = meta.get("format") if isinstance(meta, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise CheckpointError(f"{path} is of format {number}, newer than this version's {FORMAT}: update vae4d, or choose another.")
    if number != FORMAT or meta.get("stage") not in STAGES:
        raise CheckpointError(f"{path} is a safetensors file but no vae4d checkpoint of format {FORMAT}: choose one that vae4d wrote.")
    return meta, tensors


def described(path: Path, modules: dict[str, dict[str, Tensor]], ignored: list[str]) -> tuple[dict, dict[str, Tensor]]:
    """The modules of an original file as `read_checkpoint` returns a checkpoint."""
    tensors = {f"{module}.{key}": value for module, state in modules.items() for key, value in state.items()}
    lacks = tuple(name for name in FLOW_MODULES if name not in modules and name != "flow")
    config = fitting_config(path, tensors, lacks).to_dict()
    meta = {"format": FORMAT, "config": config, "stage": "base" if lacks else "flow", "flow_trained": not lacks, "extra": {}}
    return meta | {"ignored": ignored, "lacks": lacks}, tensors


def load_model(path: str | Path, expected_preset: str | None = None, **changes) -> Model:
    """The model of a checkpoint, ours or the original system's, in eval mode on the CPU; or the one that was registered as `path`.

    A base checkpoint of the original system has no flow modules: they start from the weights of `build_model`. What such a file holds
    beside the model is ignored with a warning that names it.

    Args:
        expected_preset: refuse a checkpoint of another preset.
        changes: fields of the config that carry no weights: scale_rotate (radians) and scale_translate (cube units), each per unit of the
            pose network's output, and padding_mode. An original file does not tell with which it was trained.
    Raises:
        ConfigError: a change of another field, or a value out of range.
        MissingInputError, CheckpointError: see `read_checkpoint`; also when the weights do not fit the config or are not finite.
    """
    if str(path) in OWN and expected_preset is None and not changes:
        return OWN[str(path)]
    meta, tensors = read_checkpoint(path)
    if meta.get("ignored"):
        warnings.warn(f"{path} holds more than the model, ignored: {', '.join(meta['ignored'])}", stacklevel=2)
    return assemble(path, meta, tensors, expected_preset, **changes)


def assemble(path: str | Path, meta: dict, tensors: dict[str, Tensor], expected_preset: str | None = None, **changes) -> Model:
    """The model of what `read_checkpoint` returned; arguments and errors as `load_model`."""
    lacks = tuple(meta.get("lacks", ()))
    try:
        known = PRESETS[choice("preset", meta["config"]["preset"], PRESETS)]
        config = type(known).from_dict(meta["config"])
        wrong = differences(tensors, config, lacks)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        remedy = "use the version that wrote it, or register the model"
        raise CheckpointError(f"{path} describes a model unknown to this version ({error}): {remedy}.") from error
    if expected_preset not in (None, config.preset):
        raise CheckpointError(f"{path} holds preset {config.preset!r}, not {expected_preset!r}: choose another, or set preset.")
    if wrong:
        raise CheckpointError(f"{path} does not fit its own config ({listed(wrong)}): the file was altered, train anew.")
    model = new_model(changed(config, changes))
    weights = {name: tensors[name] for name in model.state_dict() if name in tensors}
    if bad := next((name for name, value in weights.items() if not value.isfinite().all()), None):
        raise CheckpointError(f"{path} holds values that are not finite in {bad}: take an earlier checkpoint of that training.")
    model.load_state_dict(weights, strict=not lacks)
    if isinstance(model, VideoAutoencoder4D):
        model.flow_trained = meta.get("flow_trained", meta["stage"] == "flow")
    return model.eval()


def changed(config: Config, changes: dict) -> Config:
    """A config with fields changed that carry no weights."""
    fields = {field.name for field in dataclasses.fields(config)}
    for name, value in changes.items():
        if name in FREE_FIELDS and name not in fields:
            raise ConfigError(f"{name} is an option of the faithful model, and this one is of preset {config.preset!r}: leave it out.")
        if name not in FREE_FIELDS:
            raise ConfigError(f"{name} belongs to a checkpoint's weights: change {', '.join(FREE_FIELDS)}, or train another model.")
        if name != "padding_mode" and not (isinstance(value, int | float) and math.isfinite(value)):
            raise ConfigError(f"{name} is {value!r}: give a finite number.")
    return dataclasses.replace(config, **changes)


def convert(source: str | Path, target: str | Path) -> str:
    """Write a checkpoint in the other format, by the suffix of `target`: .safetensors is ours, .ckpt, .tar, .pt, .pth the original's.

    Training state (the optimiser's) is left out. The original's format has no metadata: the scales of poses, padding mode and the record
    of what was trained on are lost on the way there.

    Returns:
        one line that says what was written.
    Raises:
        ConfigError: another suffix, or the same file twice.
        MissingInputError, CheckpointError: see `load_model`. StorageError: see `save_checkpoint`.
    """
    source, target = locate(source), Path(target)
    suffix = target.suffix.lower()
    if suffix not in (".safetensors", *SUFFIXES):
        raise ConfigError(f"{target} ends on none of .safetensors, {', '.join(SUFFIXES)}: name the format by the suffix.")
    if source.resolve() == target.resolve():
        raise ConfigError(f"{target} is the checkpoint to read: give another name to write.")
    meta, tensors = read_checkpoint(source)
    model = assemble(source, meta, tensors)
    if suffix == ".safetensors":
        save_checkpoint(target, model, meta["stage"], meta["extra"])
        count = len(model.state_dict())
    else:
        if not isinstance(model, VideoAutoencoder4D):
            known = f"{source} is of preset {model.config.preset!r}, which the original system does not know"
            raise ConfigError(f"{known}: choose .safetensors.")
        count = write_original(target, model)
    ignored = f"; ignored: {', '.join(meta['ignored'])}" if meta.get("ignored") else ""
    return f"{target}: preset {model.config.preset}, {meta['stage']} stage, {count} tensors, from {source}{ignored}"


def new_model(config: Config, seed: int = 0) -> Model:
    """A freshly initialised model in eval mode; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_of(config).eval()


def build_model(name: str, seed: int = 0, **changes) -> Model:
    """A freshly initialised model of a preset; the same seed gives the same weights.

    Raises:
        ConfigError: unknown preset or field.
    """
    return new_model(preset(name, **changes), seed)
