"""Procedural worlds as test cases: two given frames of each, and all that is true of it.

A case is one world between t = 0 and 1. Its kind says what moves: "camera", "objects", "both", or nothing ("still"). Its bin is the
motion it was asked for, in pixels of mean displacement in a picture 128 px wide: of the whole picture by the camera, and of the moving
objects by themselves. `motion` is what came out.

Worlds are held out twice: their seeds start at 10^15, beyond those of any training set, and their textures are the split "test".
Camera offsets (3, 4) map the moved camera's points to the unmoved camera's, in world units.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import choice
from ..errors import ConfigError
from ..geometry import compose, invert
from ..scenes.camera import Camera
from ..scenes.generate import generate
from ..scenes.options import WorldOptions
from ..scenes.render import View, render
from ..scenes.textures import Textures
from ..scenes.truth import Motion, motion
from ..scenes.world import World, rotation_by

BINS = ((0.0, 0.0), (0.25, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 16.0))
STILL = "still"  # a kind, and the bin that holds it
MOVING = ("both", "camera", "objects")  # the kinds of a bin's worlds, in turn
TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
BASELINE = 0.05  # of the scene's median depth, between the first camera and the novel one
TURN = (0.5, 1.5)  # degrees that the novel camera is turned by
HELD_OUT = 10**15  # below: the seeds of training sets
LEAST_SEEN = 0.1  # of a picture that must be co-visible for a score


@dataclass(frozen=True, eq=False)
class NewViews:
    """Pictures to be made of a given one, and where the given one shows what they show."""

    given: Tensor  # (3, S, S)
    truth: Tensor  # (K, 3, S, S)
    mask: Tensor  # (K, S, S) bool: seen in the given picture too, and not crossed by an edge


def label_of(limits: tuple[float, float]) -> str:
    """What a bin is called in tables."""
    return STILL if limits[1] == 0 else f"{limits[0]:g}-{limits[1]:g} px"


def kind_of(limits: tuple[float, float], number: int) -> str:
    """The kind of the world with this number in a bin."""
    return STILL if limits[1] == 0 else MOVING[number % len(MOVING)]


def options_of(limits: tuple[float, float], kind: str) -> WorldOptions:
    """What a world of this bin and kind is drawn from.

    Raises:
        ConfigError: an unknown kind, or limits that `WorldOptions` refuses.
    """
    choice("kind of scene", kind, (STILL, *MOVING))
    span = {} if kind == STILL else {"camera_motion": limits, "object_motion": limits}
    return WorldOptions(still_cameras=float(kind in (STILL, "objects")), still_worlds=float(kind in (STILL, "camera")), **span)


def world_seed(seed: int, label: str, number: int) -> int:
    """The seed of a bin's world: at least `HELD_OUT`, and another for every argument."""
    digest = hashlib.sha256(f"{seed} {label} {number}".encode()).digest()
    return HELD_OUT + int.from_bytes(digest[:6], "big")


@dataclass(frozen=True, eq=False)
class SceneCase:
    """One world and what is true of it. Pictures are rendered when they are asked for, once."""

    seed: int
    kind: str
    bin: str
    size: int
    world: World  # of one scene
    other: World  # of one scene: the world that a camera's path is carried to

    @cached_property
    def views(self) -> list[View]:
        """At `TIMES`, by the world's own camera."""
        return [render(self.world, self.world.camera(t, self.size), t) for t in TIMES]

    @cached_property
    def frames(self) -> Tensor:
        """(5, 3, S, S) at `TIMES`; the first and the last are given to methods."""
        return torch.cat([view.image for view in self.views])

    @cached_property
    def flow(self) -> Motion:
        """From the first frame to the last, of one scene."""
        return motion(self.world, self.views[0], self.views[-1])

    @property
    def depth(self) -> Tensor:
        """(S, S) of the first frame, world units."""
        return self.views[0].depth[0]

    @property
    def median_depth(self) -> float:
        """Of the first frame, world units."""
        return float(self.depth.median())

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return float(self.views[0].camera.intrinsics[0, 0, 0])

    @property
    def pose(self) -> Tensor:
        """(3, 4) last camera to first, float64."""
        return self.path[-1]

    @property
    def path(self) -> Tensor:
        """(5, 3, 4) cameras at `TIMES`, to the first one, float64."""
        first = invert(self.views[0].camera.pose)
        return torch.cat([compose(first, view.camera.pose) for view in self.views])

    @property
    def motion(self) -> float:
        """Mean length in pixels of the true flow between the given frames, where visible; NaN where nothing is."""
        lengths = self.flow.flow[0].double().square().sum(0).sqrt()[self.flow.visible[0]]
        return float(lengths.mean()) if len(lengths) else math.nan

    @property
    def parallax(self) -> float:
        """Pixels by which the camera's translation sideways would move a point at the median depth."""
        return self.focal * float(self.pose[:, 3].norm()) / self.median_depth

    @cached_property
    def offset(self) -> Tensor:
        """(3, 4) float64: the novel camera, `BASELINE` of the median depth away in any direction, turned by a degree or so."""
        draws = torch.Generator().manual_seed(world_seed(self.seed, "novel camera", 0))  # apart from those that made the world
        numbers = torch.randn(2, 3, generator=draws, dtype=torch.float64)
        direction, axis = numbers / numbers.norm(dim=1, keepdim=True)
        low, high = TURN
        turn = math.radians(low + (high - low) * torch.rand((), generator=draws).item())
        return torch.cat([rotation_by(axis * turn), (direction * BASELINE * self.median_depth)[:, None]], dim=1)

    @cached_property
    def novel(self) -> NewViews:
        """The first frame from the novel camera, at the first frame's time."""
        return new_views(self.world, self.views[0], self.offset[None])

    @cached_property
    def transfer(self) -> NewViews | None:
        """The other world's first frame along this camera's path; None where this camera stands still.

        Both worlds are seen by this world's lens, as nothing in the frames tells one lens from another. Translations are scaled by the
        ratio of the median depths.
        """
        if self.kind not in ("camera", "both"):
            return None
        start = Camera(self.views[0].camera.intrinsics, self.other.camera_path.pose(0.0), self.size)
        given = render(self.other, start, 0.0)
        path = self.path[1:].clone()
        path[:, :, 3] *= float(given.depth.median()) / self.median_depth
        return new_views(self.other, given, path)


def new_views(world: World, given: View, offsets: Tensor) -> NewViews:
    """A given view's scene from cameras moved by `offsets` (K, 3, 4), at the same time. Masks that see too little are empty."""
    truth, masks = [], []
    for offset in offsets:
        view = render(world, given.camera.moved(offset[None]), given.t)
        mask = motion(world, view, given).visible & view.pure
        truth.append(view.image)
        masks.append(mask & (mask.double().mean() >= LEAST_SEEN))
    return NewViews(given.image[0], torch.cat(truth), torch.cat(masks))


def plane_view(case: SceneCase) -> Tensor:
    """The novel view of a case if all its scene were one plane, upright before the first camera at the **true** median depth: (3, S, S).

    The first frame warped by that plane's homography (bilinear, replicated border). A reference that knows the offset, the lens and the
    scene's size, and nothing of its shape.
    """
    camera, depth = case.views[0].camera, case.median_depth
    x, y = camera.rays()[0].double()
    direction = case.offset[:, :3] @ torch.stack([x, y, torch.ones_like(x)])  # of the novel camera's rays, in the first camera's frame
    origin = case.offset[:, 3:]
    point = origin + direction * (depth - origin[2]) / direction[2]
    pixels = point[:2] / depth * case.focal + case.size / 2
    grid = (pixels * (2 / case.size) - 1).T.reshape(1, case.size, case.size, 2).to(case.frames.dtype)
    return F.grid_sample(case.frames[:1], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]


def scene_case(limits: tuple[float, float], number: int, size: int, seed: int, textures: Textures, kind: str | None = None) -> SceneCase:
    """World `number` of a bin; `kind` overrules the turn.

    Raises:
        ConfigError: limits or size out of range.
    """
    low, high = limits
    if not 0 <= low <= high or (high > 0 and low == 0):
        raise ConfigError(f"The bin of motion is {limits!r}: give (low, high) in pixels with 0 < low <= high, or (0, 0) for still scenes.")
    if size < 16 or size % 16:
        raise ConfigError(f"The size of scenes is {size!r}: give a multiple of 16 pixels.")
    kind, label = kind or kind_of(limits, number), label_of(limits)
    options = options_of(limits, kind)
    own, other = (generate([world_seed(seed, name, number)], options, textures) for name in (label, f"{label}, carried to"))
    return SceneCase(world_seed(seed, label, number), kind, label, size, own, other)


def frame_pairs(
    kind: str, count: int, size: int, seed: int, textures: Textures, limits: tuple[float, float] = (2.0, 4.0)
) -> list[tuple[Tensor, Tensor]]:
    """The given frames of `count` worlds of one kind, as the identity tests take them (`identity.identity_tests`)."""
    cases = (scene_case(limits, number, size, seed, textures, kind) for number in range(count))
    return [(case.frames[0], case.frames[-1]) for case in cases]
