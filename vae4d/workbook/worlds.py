"""Procedural worlds as notebook 01 shows and checks them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import compose, invert
from ..scenes import Motion, View, World, WorldOptions, generate, load_textures, motion, render
from ..scenes.clips import SEEDS

TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
ASIDE = 0.1  # of the median depth, between the two cameras of one moment


@dataclass(frozen=True, eq=False)
class Gallery:
    """Worlds, their pictures at `TIMES`, and their motion between the first and the last."""

    world: World
    views: list[View]
    forward: Motion  # from the first view to the last
    backward: Motion
    seconds: float  # that pictures and motions took to compute

    @property
    def frames_per_second(self) -> float:
        """Pictures, depth, ids and motion alike; the motion of a pair counts as that of two frames."""
        return len(self.world) * len(self.views) / self.seconds

    def titles(self) -> list[str]:
        """What moves in each world, and by how much."""
        drawn = zip(self.world.camera_motion.tolist(), self.world.object_motion.tolist(), strict=True)
        return [f"camera {camera:.1f}\nobjects {objects:.1f}" for camera, objects in drawn]

    def liveliest(self) -> int:
        """The world whose smaller motion, of camera or objects, is largest."""
        return int(torch.minimum(self.world.camera_motion, self.world.object_motion).argmax())

    def path(self, number: int) -> Tensor:
        """(5, 3, 4) cameras of a world at `TIMES`, to the first one, world units."""
        poses = torch.cat([view.camera.pose[number : number + 1] for view in self.views])
        return compose(invert(poses[:1]), poses)


def draw(count: int, size: int, textures: str, seed: int) -> Gallery:
    """`count` worlds with the photographs of the folder `textures` (empty: scikit-image's) that training uses.

    Raises:
        ConfigError, MissingInputError: see `load_textures`.
    """
    world = generate(range(seed * SEEDS, seed * SEEDS + count), WorldOptions(), load_textures(textures or None, "train"))
    began = time.perf_counter()
    views = [render(world, world.camera(t, size), t) for t in TIMES]
    forward, backward = motion(world, views[0], views[-1]), motion(world, views[-1], views[0])
    return Gallery(world, views, forward, backward, time.perf_counter() - began)


def rebuilt(seen: View, flow: Tensor) -> Tensor:
    """Pictures (B, 3, S, S) made of those of `seen` along `flow` (B, 2, S, S) towards it: bilinear, border repeated."""
    size = flow.shape[-1]
    centre = torch.arange(size) + 0.5
    place = torch.stack(torch.meshgrid(centre, centre, indexing="xy")) + flow
    grid = (place * (2 / size) - 1).movedim(1, -1)
    return F.grid_sample(seen.image, grid, mode="bilinear", padding_mode="border", align_corners=False)


def seen_in_both(view: View, other: View, move: Motion) -> Tensor:
    """(B, S, S) bool: pixels of `view` that `other` shows too, crossed by no edge in either; `move` goes from `view` to `other`."""
    return move.visible & view.pure & (rebuilt(replace(other, image=other.pure[:, None].float()), move.flow)[:, 0] > 0.999)


def rebuilt_psnr(gallery: Gallery) -> Tensor:
    """PSNR in dB (B,) of the first pictures made of the last ones along the true flow, where `seen_in_both`."""
    first, last = gallery.views[0], gallery.views[-1]
    error = (rebuilt(last, gallery.forward.flow) - first.image).square().mean(dim=1)
    mask = seen_in_both(first, last, gallery.forward)
    return torch.stack([-10 * e[m].mean().log10() for e, m in zip(error, mask, strict=True)])


@dataclass(frozen=True, eq=False)
class Pairs:
    """One picture made of another by the truth alone, several times over: the rows of a figure."""

    rows: list[str]
    columns: dict[str, list[Tensor]]  # name -> pictures (3, S, S)
    mask: list[Tensor]  # (S, S) bool: seen in the given picture too


def pairs(gallery: Gallery, number: int) -> Pairs:
    """Of one world: the first picture of the last one, the last of the first, and both of them of one seen from aside."""
    world = gallery.world[number : number + 1]
    first, last = (render(world, view.camera[number : number + 1], view.t) for view in (gallery.views[0], gallery.views[-1]))
    aside = torch.eye(3, 4, dtype=torch.float64)[None]
    aside[0, 0, 3] = ASIDE * first.depth.median()
    stereo = render(world, first.camera.moved(aside), first.t)
    wanted = {"back in time": (first, last), "on in time": (last, first), "from aside\nat one time": (stereo, first)}
    columns: dict[str, list[Tensor]] = {"given": [], "truth": [], "given, moved by\nthe true flow": []}
    mask = []
    for target, given in wanted.values():
        move = motion(world, target, given)
        for images, image in zip(columns.values(), (given.image, target.image, rebuilt(given, move.flow)), strict=True):
            images.append(image[0])
        mask.append(move.visible[0])
    return Pairs(list(wanted), columns, mask)
