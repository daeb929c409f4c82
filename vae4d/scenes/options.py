"""What worlds to draw, and the numbers they are drawn from."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..errors import ConfigError
from .world import KINDS


@dataclass(frozen=True)
class WorldOptions:
    """What worlds to draw. Motions are px of mean displacement from t = 0 to 1 in a picture 128 px wide, log-uniform between the two.

    Raises:
        ConfigError: a value out of its range.
    """

    objects: tuple[int, int] = (3, 12)  # fewest and most
    kinds: tuple[str, ...] = ("plane", "box", "sphere", "free-form")  # equally likely; without "free-form" pictures are faster
    camera_motion: tuple[float, float] = (0.3, 16.0)  # of the whole picture, by the camera alone
    object_motion: tuple[float, float] = (0.3, 16.0)  # of the objects that move, by their own motion alone
    still_cameras: float = 0.2  # share of scenes whose camera stands still; 1: the objects alone move
    still_worlds: float = 0.2  # share of scenes whose objects all stand still; 1: the camera alone moves
    still_objects: float = 0.3  # share of still objects in the other scenes
    focal: tuple[float, float] = (0.8, 1.5)  # focal length over the picture's width
    open_rooms: float = 0.3  # share of scenes whose side walls and ceiling are far away

    def __post_init__(self) -> None:
        for name in ("objects", "camera_motion", "object_motion", "focal"):
            value = getattr(self, name)
            if not isinstance(value, tuple | list) or len(value) != 2 or not all(_is_number(v) for v in value):
                raise ConfigError(f"{name} is {value!r}: give two numbers (low, high).")
            low, high = value
            floor = 0 if name == "objects" else 0.01
            if not floor <= low <= high <= LIMITS[name]:
                raise ConfigError(f"{name} is {value!r}: give low <= high between {floor} and {LIMITS[name]}.")
            object.__setattr__(self, name, (low, high))
        if any(not isinstance(v, int) for v in self.objects):
            raise ConfigError(f"objects is {self.objects!r}: give whole numbers.")
        if isinstance(self.kinds, str) or not self.kinds or not set(self.kinds) <= set(KINDS):
            raise ConfigError(f"kinds is {self.kinds!r}: give one or more of {', '.join(KINDS)}.")
        object.__setattr__(self, "kinds", tuple(self.kinds))
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "float" and not (_is_number(value) and 0 <= value <= 1):
                raise ConfigError(f"{field.name} is {value!r}: give a share between 0 and 1.")


LIMITS = {"objects": 64, "camera_motion": 48, "object_motion": 48, "focal": 4}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class Draws:
    """Uniform numbers of a batch of scenes, taken one after the other: (B, P, n) of primitives or (B, n) of scenes."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers, self.taken = numbers, 0

    def uniform(self, low: float | Tensor, high: float | Tensor, count: int) -> Tensor:
        """(..., count) between low and high."""
        start, self.taken = self.taken, self.taken + count
        part = self.numbers[..., start : self.taken]
        if part.shape[-1] != count:
            raise RuntimeError("more random numbers were taken than drawn: raise the count in generate.py")
        return low + (high - low) * part

    def log_uniform(self, low: float, high: float, count: int) -> Tensor:
        """(..., count) between low and high, every octave alike."""
        return self.uniform(math.log(low), math.log(high), count).exp()

    def chance(self, share: float) -> Tensor:
        """(...,) bool."""
        return self.uniform(0, 1, 1)[..., 0] < share

    def whole(self, low: int, high: int, count: int) -> Tensor:
        """(..., count) int64, low <= n < high."""
        return self.uniform(low, high, count).floor().long().clamp(max=high - 1)

    def direction(self, x: float = 1, y: float = 1, z: float = 1) -> Tensor:
        """(..., 3) of unit length; uniform on the sphere but for the stretch."""
        height, turn = self.uniform(-1, 1, 1)[..., 0], self.uniform(0, 2 * math.pi, 1)[..., 0]
        flat = (1 - height**2).sqrt()
        vector = torch.stack([x * height, y * flat * turn.cos(), z * flat * turn.sin()], dim=-1)
        return vector / vector.square().sum(-1, keepdim=True).sqrt()
