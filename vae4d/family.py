"""The two families of models behind one interface: the faithful one (`model`) and the sharp one (`sharp`)."""

from __future__ import annotations

from .config import PRESETS, ModelConfig, SharpConfig
from .model import VideoAutoencoder4D
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
