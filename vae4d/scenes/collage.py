"""Training samples with truth from photographs on planes in 3D: `draw`.

Cheaper and plainer than the worlds of `generate`: a room of planes (a backdrop, at times a floor, a ceiling, walls) and flat sprites
with masks, seen by a moving pinhole camera at three moments, drawn in whole batches on any device by `collage_render`.

Conventions: axes, pixels and flow as in `vae4d.scenes`; the world's frame is the camera's halfway. A path runs over
s(t) = t + k (t^2 - t) (k = 0 for half of the scenes): the camera's pose is exp((s - 1/2) xi), an object is displaced by
V (s - 1/2) + C (t^2 - t). Colours are those of the display, in [0, 1], rounded to 8 bits.
A pixel on a sprite's soft edge has the flow, depth and visibility of what covers more than half of it. Visibility compares which
plane is seen at the pixel nearest to where the point lies, so it is right to half a pixel along edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from .collage_options import CollageOptions, Dice
from .collage_render import bank_of, draw_planes, pixel_grid, tile_side, untiled
from .collage_world import Scene, lay_out
from .textures import Textures


@dataclass(frozen=True, eq=False)
class Sample:
    """B triplets of pictures with truth. Pixels are of this size, x right, y down."""

    first: Tensor  # (B, 3, S, S) in [0, 1]
    target: Tensor  # (B, 3, S, S)
    second: Tensor  # (B, 3, S, S)
    t: Tensor  # (B,) moment of `target` between first (0) and second (1)
    focal: Tensor  # (B,) focal length over the picture's width
    flow0: Tensor  # (B, 2, S, S) px, from a pixel of target to where its surface point lies in first
    flow1: Tensor  # (B, 2, S, S) px, the same in second
    visible0: Tensor  # (B, S, S) bool: the point lies inside first's picture and nothing hides it there
    visible1: Tensor  # (B, S, S) bool, the same in second
    depth: Tensor  # (B, S, S) of target, along the optical axis, world units
    pose: Tensor  # (B, 3, 4) maps the second camera's points to the first camera's
    own: Tensor  # (B, S, S) bool: target shows something that moves by itself


@torch.no_grad()
def draw(
    count: int,
    size: int,
    textures: Textures,
    generator: torch.Generator,
    options: CollageOptions | None = None,
    t: float | Tensor | None = None,
    device: str | torch.device = "cpu",
) -> Sample:
    """A batch of samples; the same state of `generator` gives the same on one kind of device.

    Args:
        count: of samples. size: side of the pictures in pixels, a multiple of 8.
        textures: from `load_textures`; what is made of them is kept for the next call with the same object.
        generator: of the CPU.
        t: one moment in [0, 1] for all, or (B,), or None: uniform from 1/8 to 7/8.
    Raises:
        ConfigError: a size, count or moment out of range.
    """
    options, device = options or CollageOptions(), torch.device(device)
    if not isinstance(count, int) or count < 1:
        raise ConfigError(f"count is {count!r}: give a whole number of at least 1.")
    if not isinstance(size, int) or size < 16 or size % 8:
        raise ConfigError(f"size is {size!r}: give a multiple of 8 of at least 16.")
    dice = Dice(count, generator)
    drawn = dice.uniform(1 / 8, 7 / 8)
    moment = drawn if t is None else torch.as_tensor(t, dtype=torch.float64).cpu()
    if moment.shape not in ((), (count,)):
        raise ConfigError(f"t has shape {tuple(moment.shape)} for {count} samples: give one moment, or one for each.")
    moment = moment.expand(count)
    if not bool(((moment >= 0) & (moment <= 1)).all()):
        raise ConfigError(f"t is {t!r}: give moments between 0 and 1.")
    bank = bank_of(textures, device)
    focal = dice.uniform(*options.focal)
    scene = Scene(dice, focal, moment, options)
    to_pixel = torch.diag_embed(torch.stack([focal * size, focal * size, torch.ones_like(focal)], dim=1))
    planes, matrices, owners = lay_out(scene, dice, bank, size)
    colours, nearness, ids = draw_planes(planes, bank, size)

    pictures = untiled(colours.unflatten(2, (-1, tile_side(size) ** 2)))  # (3, V, S, S)
    pictures = pictures.unflatten(1, (count, 3)).permute(1, 2, 0, 3, 4)
    pictures = photographed(pictures.contiguous(), dice, moment, options)

    # what target shows, carried to the others: pixel -> plane -> the plane's place in the other view -> pixel
    ids = ids.unflatten(0, (count, 3))
    between = to_pixel[:, None, None] @ matrices[:, (0, 2)] @ torch.linalg.inv(to_pixel[:, None, None] @ matrices[:, 1:2])
    # less the identity and rounded, what stands still has a flow of exactly nothing
    between = ((between - torch.eye(3, dtype=torch.float64)) * 2**40).round() / 2**40
    table = torch.cat([between.transpose(1, 2).flatten(2), owners[..., None]], dim=2).float().to(device)
    flows, visible, own = carried(table, ids, size)

    def picture(tiles: Tensor) -> Tensor:
        return untiled(tiles.unflatten(-1, (-1, tile_side(size) ** 2)))

    depth = picture(nearness.unflatten(0, (count, 3))[:, 1].reciprocal())
    return Sample(
        *pictures.unbind(1), moment.float().to(device), focal.float().to(device), *map(picture, flows), *map(picture, visible), depth,
        scene.pose(1.0, 0.0).float().to(device), picture(own),
    )  # fmt: skip


def carried(table: Tensor, ids: Tensor, size: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Flow (B, 2, S^2) and visibility (B, S^2) of target's pixels in first and second, and where objects move; tile by tile.

    Args:
        table: (B, planes, 19): both homographies of pixels less the identity, and whether the plane moves.
        ids: (B, 3, S^2) int32, planes that the three views show.
    """
    count = len(table)
    pixels, _ = pixel_grid(size, table.device)
    x, y = pixels[0], pixels[1]
    start = torch.arange(count, device=ids.device, dtype=ids.dtype)[:, None]
    columns = table.flatten(0, 1).T.contiguous().index_select(1, (ids[:, 1] + start * table.shape[1]).flatten())
    *h, own = columns.view(19, count, -1).unbind(0)
    seen = untiled(ids.unflatten(2, (-1, tile_side(size) ** 2))).flatten(2)
    flows, visible = [], []
    for view, m in ((0, h[:9]), (2, h[9:])):
        rise = m[8].addcmul_(m[6], x).addcmul_(m[7], y)  # of the depth, over the depth
        scale = (rise + 1).clamp(min=1e-6).reciprocal_()
        dx = m[2].addcmul_(m[0], x).addcmul_(m[1], y).addcmul_(rise, x, value=-1).mul_(scale)
        dy = m[5].addcmul_(m[3], x).addcmul_(m[4], y).addcmul_(rise, y, value=-1).mul_(scale)
        column, row = (dx + (x + size / 2)).floor_(), (dy + (y + size / 2)).floor_()
        there = column.clamp(0, size - 1), row.clamp(0, size - 1)
        inside = (there[0] == column) & (there[1] == row) & (rise > -1)
        owner = seen[:, view].gather(1, torch.add(there[0], there[1], alpha=size).long())
        flows.append(torch.stack([dx, dy], dim=1))
        visible.append(inside & (owner == ids[:, 1]))
    return flows, visible, own > 0.5


def photographed(pictures: Tensor, dice: Dice, moment: Tensor, options: CollageOptions) -> Tensor:
    """Pictures (B, 3 views, 3, S, S) as cameras and videos change them."""
    device, shape = pictures.device, (-1, 1, 1, 1, 1)

    def on_device(values: Tensor) -> Tensor:
        return values.float().to(device)

    changed = dice.chance(options.recoloured)
    gamma = torch.where(changed, dice.log_uniform(0.7, 1.5), 1.0)
    gain = torch.where(changed[:, None], dice.uniform(0.75, 1.2, 3) * dice.uniform(0.5, 1.1, 1), 1.0)
    sum_ = torch.where(changed[:, None], dice.uniform(-0.05, 0.12, 1), 0.0)
    times = torch.stack([torch.zeros_like(moment), moment, torch.ones_like(moment)], dim=1)
    flicker = 1 + (dice.uniform(-0.03, 0.03) * dice.chance(options.flicker))[:, None] * times
    factor = on_device(gain[:, None] * flicker[..., None])[..., None, None]
    which = changed.nonzero()[:, 0].to(device)
    if len(which):
        pictures[which] = pictures[which].clamp_(1e-4, 1).pow_(on_device(gamma).view(shape)[which])
    pictures.mul_(factor).add_(on_device(sum_)[:, None, :, None, None]).clamp_(0, 1)

    which, share = dice.chance(options.soft).nonzero()[:, 0].to(device), on_device(dice.uniform(0.3, 1)).view(shape)
    if len(which):
        sharp = pictures[which]
        padded = F.pad(sharp.flatten(0, 1), (1, 1, 1, 1), mode="replicate")
        pictures[which] = torch.lerp(sharp, F.avg_pool2d(padded, 3, 1).view_as(sharp), share[which])

    noisy, sigma = dice.chance(options.noisy), on_device(dice.uniform(0, options.noise)).view(shape)
    seed = int(torch.randint(2**62, (1,), generator=dice.generator))
    which = noisy.nonzero()[:, 0].to(device)
    if len(which):
        grain = torch.randn(len(which), *pictures.shape[1:], device=device, generator=torch.Generator(device).manual_seed(seed))
        pictures[which] = grain.mul_(sigma[which]).add_(pictures[which])
    return pictures.clamp_(0, 1).mul_(255).round_().div_(255)
