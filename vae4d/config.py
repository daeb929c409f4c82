"""The sizes of a model, as one frozen dataclass, and the presets that are known by name."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Self

from .errors import ConfigError


class Sizes:
    """What the configs of all model families share."""

    def to_dict(self) -> dict:
        """Plain values for JSON; `from_dict` gives the same config back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        """Rebuild a config from `to_dict`, after a trip through JSON.

        Raises:
            ConfigError: a field is unknown.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise unknown("model field", name, known)
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


@dataclass(frozen=True)
class ModelConfig(Sizes):
    """Architecture of one 4D video autoencoder. Frames are H x W; H and W are multiples of `stride`."""

    preset: str
    frame_size: int  # pixels, the square size that data is prepared at by default
    resnet_layers: tuple[int, int, int, int] = (3, 4, 6, 3)  # bottleneck blocks a stage; the default is ResNet-50
    resnet_width: int = 64  # channels of the stem; stage i has 4 * width * 2**i
    depth: int = 32  # D, depth slices of a voxel code
    lift_channels: int = 128  # encoder_3d: channels between its two transposed 3D convolutions
    code_channels: int = 32  # C, channels of a voxel code
    pose_channels: tuple[int, ...] = (16, 32, 64, 128, 256, 256, 256)  # encoder_traj: one stride-2 convolution each
    rotate_channels: int = 64  # rotate: channels after the warp's two 3D convolutions
    decoder_channels: tuple[int, int, int] = (512, 256, 64)  # decoder: after conv3, upconv3, upconv4
    flow_channels: tuple[int, int] = (128, 256)  # encoder_flow
    correction_channels: int = 40  # flow_correction: hidden channels
    scale_rotate: float = 0.01  # radians per unit of the pose network's output
    scale_translate: float = 0.01  # normalised-cube units per unit of the pose network's output
    padding_mode: str = "zeros"  # what a warp reads outside the volume: zeros or border

    stride = 16  # the 2D trunk shrinks a frame 16 times, so H and W must be multiples of it

    def __post_init__(self) -> None:
        if self.padding_mode not in ("zeros", "border"):
            raise ConfigError(f"padding_mode is {self.padding_mode!r}: use 'zeros' or 'border'.")
        trunk_channels = self.resnet_width * 32
        if self.depth % 4 or trunk_channels % (self.depth // 4):
            raise ConfigError(f"depth is {self.depth}: it must be a multiple of 4 whose quarter divides {trunk_channels} channels.")
        if self.frame_size % self.stride:
            raise ConfigError(f"frame_size is {self.frame_size}: use a multiple of {self.stride}.")


@dataclass(frozen=True)
class SharpConfig(Sizes):
    """Architecture of one sharp 4D video autoencoder."""

    preset: str
    frame_size: int  # pixels, the square size that data is prepared at by default
    planes: int = 8  # D, inverse-depth planes of a voxel code
    code_channels: int = 8  # C, channels of a voxel code on each plane
    feature_channels: tuple[int, int] = (16, 32)  # encoder: at strides 2 and 4
    hidden_channels: int = 24  # matching: what a level of the pyramid passes to the next
    matching_channels: int = 64  # matching: inside a level
    geometry_channels: tuple[int, int, int, int] = (32, 48, 64, 96)  # geometry: on its four grids, fine to coarse
    volume_channels: int = 16  # 3D U-Net
    fusion_channels: int = 32  # fusion: at stride 2

    stride = 4  # of the codes; frames of any size are padded inside

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, name = getattr(self, field.name), field.name
            numbers = value if isinstance(value, tuple) else (value,)
            count = len(field.default) if isinstance(field.default, tuple) else 1
            if name != "preset" and not (len(numbers) == count and all(isinstance(n, int) and n > 0 for n in numbers)):
                raise ConfigError(f"{name} is {value!r}: give {'a whole number' if count == 1 else f'{count} whole numbers'} above 0.")


PRESETS = {
    # The published system: its checkpoints load into this preset.
    "original": ModelConfig(preset="original", frame_size=256),
    # The same architecture, thinner and with 16 depth slices, so that 2 CPU cores can train it.
    "small": ModelConfig(
        preset="small",
        frame_size=128,
        resnet_layers=(1, 2, 2, 1),
        resnet_width=16,
        depth=16,
        lift_channels=32,
        code_channels=16,
        pose_channels=(16, 32, 32, 64, 64, 64, 64),
        rotate_channels=16,
        decoder_channels=(128, 64, 32),
        flow_channels=(32, 64),
        correction_channels=16,
    ),
    # Voxels move pixels instead of repainting them (`vae4d.sharp`); the first for CPUs, the other for GPUs.
    "sharp": SharpConfig(preset="sharp", frame_size=128),
    "sharp-large": SharpConfig(
        preset="sharp-large",
        frame_size=256,
        planes=16,
        feature_channels=(24, 48),
        hidden_channels=32,
        matching_channels=96,
        geometry_channels=(48, 64, 96, 128),
        volume_channels=24,
        fusion_channels=48,
    ),
}


def preset(name: str, **changes) -> ModelConfig | SharpConfig:
    """The config of a preset, with single fields changed (for example `padding_mode="border"`).

    Raises:
        ConfigError: unknown preset or field, or a value out of range.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    chosen = PRESETS[name]
    return type(chosen).from_dict(chosen.to_dict() | changes)


def unknown(kind: str, name: object, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not among `known`, with the nearest one as a hint."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(known)}.")


def choice(kind: str, value: str, known: Iterable[str]) -> str:
    """Return `value` if it is one of `known`, else raise the ConfigError that lists them."""
    if value not in known:
        raise unknown(kind, value, known)
    return value
