"""The two families of models behind one interface: the faithful one (`faithful`) and the sharp one (`sharp`)."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from .config import PRESETS, ModelConfig, SharpConfig
from .faithful.model import VideoAutoencoder4D
from .sharp.model import SharpAutoencoder4D

Model = VideoAutoencoder4D | SharpAutoencoder4D
Config = ModelConfig | SharpConfig
CLASSES: dict[type, type[Model]] = {ModelConfig: VideoAutoencoder4D, SharpConfig: SharpAutoencoder4D}
OWN: dict[str, type[Model]] = {}  # subclasses by preset, from `register.model`


def model_of(config: Config) -> Model:
    """A model of its family, with random weights."""
    return OWN.get(config.preset, CLASSES[type(config)])(config)


def presets(family: type[Model]) -> dict[str, Config]:
    """The presets of a family."""
    return {name: config for name, config in PRESETS.items() if CLASSES[type(config)] is family}


@functools.cache
def weightless(config: Config) -> Model:
    """A model whose tensors have shapes and take no memory."""
    with torch.device("meta"):
        return model_of(config)


def differences(tensors: dict[str, Tensor], config: Config, lacks: tuple[str, ...] = ()) -> list[str]:
    """What keeps tensors ("module.key") from being the state dict of a model, one clause each; modules in `lacks` may be absent."""
    model = weightless(config)
    modules = {name for name, _ in model.named_children()}
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items() if name.split(".")[0] not in lacks}
    found = {name: tuple(value.shape) for name, value in tensors.items() if name.split(".")[0] in modules}
    missing = [f"{name} is missing" for name in wanted if name not in found]
    unknown = [f"{name} is unknown" for name in found if name not in wanted]
    both = [name for name in wanted if name in found]
    return missing + unknown + [f"{name} is {found[name]}, not {wanted[name]}" for name in both if found[name] != wanted[name]]


def listed(clauses: list[str]) -> str:
    """The first few of many clauses, and how many there are beyond."""
    return "; ".join(clauses[:3]) + (f"; and {len(clauses) - 3} more" if len(clauses) > 3 else "")
