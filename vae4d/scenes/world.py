"""A batch of worlds: primitives with their shapes, trajectories and surfaces, and a camera's trajectory.

Conventions:
    A world is a batch of B scenes of P primitives each. Primitive 0 is the room (an inside-out box), the others are objects;
    an object's number is its id in pictures. Slots that a scene does not use have kind NONE.
    Every primitive has its own frame, centred on it; `pose` (..., 3, 4) = [R | t] maps it to the world.
    Time is a real number; a clip spans 0 to 1, and trajectories go on before and after.
    Poses are float64: differences of poses then give flows without rounding error.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .camera import Camera
from .textures import Textures

NONE, ROOM, BOX, SPHERE, PLANE, FREE_FORM = range(6)
KINDS = {"plane": PLANE, "box": BOX, "sphere": SPHERE, "free-form": FREE_FORM}
FACES = 6  # rows of surface per primitive: -x, +x, -y, +y, -z, +z of a box or room; the others use the first alone
WAVES = 5  # terms of a free-form radius

# columns of a row of surface
SURFACE = (
    "photo", "uu", "uv", "vu", "vv", "u", "v", "density",  # u = uu a + uv b + u, for (a, b) on the face; photographs per world unit
    "red", "green", "blue", "red0", "green0", "blue0",  # colour = texture times the former plus the latter
    "shade", "lx", "ly", "lz",  # darker by up to twice `shade` where the normal turns away from the light, which the object carries along
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Path:
    """Rigid motions with constant acceleration, and constant axis of rotation."""

    position: Tensor  # (..., 3) at time 0
    velocity: Tensor  # (..., 3)
    acceleration: Tensor  # (..., 3)
    rotation: Tensor  # (..., 3, 3) at time 0
    spin: Tensor  # (..., 3) axis times radians per unit of time, in the world's axes
    spin_up: Tensor  # (...) the angle at t is |spin| (t + spin_up t^2)

    def pose(self, t: float | Tensor) -> Tensor:
        """(..., 3, 4) float64 at time t: a number, or (B,) one per scene."""
        if isinstance(t, Tensor) and t.ndim:
            t = t.to(self.position).reshape(-1, *[1] * (self.position.ndim - 2))
        position = self.position + (self.velocity * _last(t) + self.acceleration * (_last(t) ** 2 / 2))
        return torch.cat([rotation_by(self.spin * _last(t + self.spin_up * t * t)) @ self.rotation, position[..., None]], dim=-1)


def _last(t: float | Tensor) -> float | Tensor:
    return t[..., None] if isinstance(t, Tensor) and t.ndim else t


def rotation_by(vector: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) about vectors (..., 3) whose length is the angle in radians (Rodrigues' formula)."""
    angle = vector.square().sum(-1).sqrt()[..., None, None]
    x, y, z = vector.unbind(-1)
    nil = torch.zeros_like(x)
    cross = torch.stack([nil, -z, y, z, nil, -x, -y, x, nil], dim=-1).unflatten(-1, (3, 3))
    # sin(a)/a and (1 - cos(a))/a^2, exact also at 0: torch.sinc(x) = sin(pi x) / (pi x)
    first, second = torch.sinc(angle / torch.pi), torch.sinc(angle / (2 * torch.pi)) ** 2 / 2
    return torch.eye(3, dtype=vector.dtype, device=vector.device) + first * cross + second * (cross @ cross)


@dataclass(frozen=True, eq=False)
class World:
    """B scenes; `world[i:j]` are some of them, `world.to(device)` moves all tensors."""

    kind: Tensor  # (B, P) int64: NONE, ROOM, BOX, SPHERE, PLANE or FREE_FORM
    half: Tensor  # (B, P, 3) half extents; of a sphere its radius; of a free-form object mean and bounding radius
    waves: Tensor  # (B, P, WAVES, 5) of free-form objects: radius(n) = half (1 + sum_k a_k sin(w_k n + phase_k)), (w, phase, a)
    path: Path  # (B, P)
    surface: Tensor  # (B, P, FACES, columns of SURFACE)
    camera_path: Path  # (B,)
    focal: Tensor  # (B,) focal length over the picture's width
    camera_motion: Tensor  # (B,) mean displacement by the camera between t = 0 and 1, px of a picture 128 px wide; 0 = still
    object_motion: Tensor  # (B,) the same by the objects' own motion, mean over those that move; 0 = all stand still
    textures: Textures
    kinds: tuple[tuple[int, ...], ...]  # `kind` once more, in Python: asking a GPU would wait for it

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, span: slice) -> World:
        if len(range(len(self))[span]) == len(self):
            return self
        changed = {f.name: getattr(self, f.name)[span] for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        paths = {name: map_path(getattr(self, name), lambda value: value[span]) for name in ("path", "camera_path")}
        return replace(self, **changed, **paths, kinds=self.kinds[span])

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.kind.device

    def to(self, device: str | torch.device) -> World:
        """The same world on `device`."""
        changed = {f.name: getattr(self, f.name).to(device) for f in fields(self) if isinstance(getattr(self, f.name), Tensor | Textures)}
        paths = {name: map_path(getattr(self, name), lambda value: value.to(device)) for name in ("path", "camera_path")}
        return replace(self, **changed, **paths)

    def camera(self, t: float | Tensor, size: int) -> Camera:
        """The scenes' own cameras at time t (a number, or (B,)), with square pictures of `size` pixels."""
        intrinsics = torch.zeros(len(self), 3, 3, device=self.device)
        intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = self.focal * size
        intrinsics[:, 0, 2] = intrinsics[:, 1, 2] = size / 2
        intrinsics[:, 2, 2] = 1
        return Camera(intrinsics, self.camera_path.pose(t), size)


def map_path(path: Path, function) -> Path:
    """A path with `function` applied to all its tensors."""
    return Path(*[function(getattr(path, f.name)) for f in fields(path)])
