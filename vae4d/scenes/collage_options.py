"""What collages to draw, and the numbers they are drawn from."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..errors import ConfigError


@dataclass(frozen=True)
class CollageOptions:
    """What to draw. Motions are px of mean displacement from t = 0 to 1 in a picture 128 px wide, log-uniform between the two.

    Raises:
        ConfigError: a value out of its range.
    """

    sprites: tuple[int, int] = (1, 6)  # fewest and most
    camera_motion: tuple[float, float] = (0.2, 16.0)  # of the picture, by the camera alone
    object_motion: tuple[float, float] = (0.3, 20.0)  # of the objects that move, by their own motion alone
    focal: tuple[float, float] = (0.8, 1.5)  # focal length over the picture's width
    still: float = 0.15  # share of scenes in which nothing moves
    still_cameras: float = 0.15  # share of the others whose camera stands still
    still_worlds: float = 0.3  # share of the others whose objects all stand still
    still_objects: float = 0.3  # share of still objects elsewhere
    curved: float = 0.5  # share of scenes whose paths are accelerated and bent
    recoloured: float = 0.6  # share of scenes with other gains, gamma, brightness
    flicker: float = 0.05  # share of scenes whose brightness changes from first to second, by at most 3 %
    soft: float = 0.15  # share of softened pictures
    noisy: float = 0.5  # share of scenes with sensor noise
    noise: float = 0.02  # its largest standard deviation

    def __post_init__(self) -> None:
        for name, (floor, ceiling) in RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, tuple | list) or len(value) != 2 or not all(_is_number(v) for v in value):
                raise ConfigError(f"{name} is {value!r}: give two numbers (low, high).")
            if not floor <= value[0] <= value[1] <= ceiling:
                raise ConfigError(f"{name} is {value!r}: give low <= high between {floor} and {ceiling}.")
            object.__setattr__(self, name, tuple(value))
        if any(not isinstance(v, int) for v in self.sprites):
            raise ConfigError(f"sprites is {self.sprites!r}: give whole numbers.")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "float" and not (_is_number(value) and 0 <= value <= 1):
                raise ConfigError(f"{field.name} is {value!r}: give a number between 0 and 1.")


RANGES = {"sprites": (0, 16), "camera_motion": (0.01, 32), "object_motion": (0.01, 48), "focal": (0.5, 4)}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class Dice:
    """Random numbers of a batch, float64 on the CPU."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator = count, generator

    def uniform(self, low: float | Tensor, high: float | Tensor, *shape: int) -> Tensor:
        """(B, *shape) between low and high."""
        return low + (high - low) * torch.rand(self.count, *shape, generator=self.generator, dtype=torch.float64)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, *shape) between low and high, every octave alike."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def chance(self, share: float, *shape: int) -> Tensor:
        """(B, *shape) bool."""
        return self.uniform(0, 1, *shape) < share

    def whole(self, high: int, *shape: int) -> Tensor:
        """(B, *shape) int64 below `high`."""
        return self.uniform(0, high, *shape).long()

    def direction(self, *shape: int, stretch: tuple[float, float, float] = (1, 1, 1)) -> Tensor:
        """(B, *shape, 3) of unit length."""
        vector = torch.randn(self.count, *shape, 3, generator=self.generator, dtype=torch.float64) * torch.tensor(stretch)
        return vector / vector.norm(dim=-1, keepdim=True)
