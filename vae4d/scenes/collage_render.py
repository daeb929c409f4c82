"""Pictures of textured planes, many scenes at once: what `collage` draws with.

Conventions: V views (three a scene), P room planes and N sprites a scene. A plane has coordinates (a, b); its homography H (3, 3) maps
the pixel (x, y, 1), measured from the picture's centre in pixels, to (a, b, 1) / depth, so that its last row gives the inverse depth,
which is linear in the picture. The room is convex: what is seen of it is the plane of the largest inverse depth.
Sprites are drawn only in those tiles of the picture that they reach, from the farthest to the nearest, with an inverse-depth test, so
planes may cross one another. Pictures are kept tile by tile until the end: (..., tiles, pixels of a tile).
A texture is read by one bilinear `grid_sample` (`align_corners=False`) of the level of detail nearest to the blur wanted; levels are
half an octave apart, so that the steps between them cannot be seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .textures import Textures, blurred, build

TILE = 16  # px a side
CELL = 64  # texels a side of a sprite's mask
MASKS = 192
NOISES = 12  # textures of coloured noise beside the photographs
LEAST_BLUR = 0.45  # standard deviation in pixels of what a texture is seen under
FORESHORTENED = 0.7  # power of a pixel's longest extent on a plane in the blur, the shortest has the rest: alias against blur
CACHED = 2**17  # pixels that a processor draws at a time: more no longer fit into its cache
FARTHEST = 1e-4  # inverse depth of what would lie at or beyond the horizon


@dataclass(frozen=True, eq=False)
class Bank:
    """Textures and masks on the device that draws."""

    size: int  # texels a side of a texture's finest level
    photographs: int  # how many of the textures, the first, are photographs; the others are noise
    levels: int
    atlas: Tensor  # (1, 3, H, W)
    table: Tensor  # (3, textures * levels): x, y of the upper left corner of a level, and its side, in texels of the atlas
    masks: Tensor  # (1, 1, MASKS * CELL, CELL) distance to the edge in the mask's units (it spans -1 to 1), positive inside

    def __len__(self) -> int:
        return self.table.shape[1] // self.levels

    def colours(self, u: Tensor, v: Tensor, index: Tensor) -> Tensor:
        """(3, M) at (u, v), M of each, in level `index` = texture * levels + level; mirrored beyond 0 to 1, again and again."""
        height, width = self.atlas.shape[2:]
        x, y, side = self.table.index_select(1, index).unbind(0)
        u, v = (u + 1).remainder_(2).sub_(1).abs_(), (v + 1).remainder_(2).sub_(1).abs_()
        grid = torch.stack([x.addcmul_(u, side).mul_(2 / width).sub_(1), y.addcmul_(v, side).mul_(2 / height).sub_(1)], dim=-1)
        return F.grid_sample(self.atlas, grid[None, None], mode="bilinear", padding_mode="border", align_corners=False)[0, :, 0]

    def edges(self, a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
        """(L, T) distance to the edge of masks `mask` (L, 1) at (a, b), both (L, T)."""
        reach = 1 - 1 / CELL  # no sample between two masks
        x, y = a.clamp(-reach, reach), b.clamp(-reach, reach)
        grid = torch.stack([x, (y + 1 + 2 * mask) / len(self.masks[0, 0]) * CELL - 1], dim=-1)
        return F.grid_sample(self.masks, grid[None], mode="bilinear", padding_mode="border", align_corners=False)[0, 0]


@lru_cache(maxsize=4)
def bank_of(textures: Textures, device: torch.device) -> Bank:
    """The bank of photographs `textures`, with textures of noise and with masks, which are always the same."""
    generator = torch.Generator().manual_seed(0)
    side, own = textures.size, textures.corners.cpu().long()
    octaves = build(["noise"] * NOISES, noise_pictures(NOISES, side, generator))
    pictures = [(textures.atlas.cpu(), own), (octaves.atlas, octaves.corners.long())]
    atlas = torch.cat([picture for picture, _ in pictures], dim=1)
    shift = torch.tensor([0, pictures[0][0].shape[1]])
    corners = torch.cat([own, pictures[1][1] + shift])
    number = len(textures) + NOISES
    between, table = atlas.clone(), []
    for n in range(number):
        for level in range(textures.levels):
            (x, y), length = corners[n * textures.levels + level].tolist(), side >> level
            # a Gaussian of 1 texel under another of 1 texel: half an octave blurrier
            part = blurred(atlas[None, :, y : y + length, x : x + length], 1.0)
            between[:, y - 1 : y + length + 1, x - 1 : x + length + 1] = F.pad(part, (1, 1, 1, 1), mode="replicate")[0]
            table += [(x, y, length), (x + atlas.shape[2], y, length)]
    both = torch.cat([atlas, between], dim=2)[None]
    masks = shapes(generator).view(1, 1, -1, CELL)
    columns = torch.tensor(table).T.float().contiguous()
    return Bank(side, len(textures), 2 * textures.levels, both.to(device), columns.to(device), masks.to(device))


def noise_pictures(count: int, side: int, generator: torch.Generator) -> Tensor:
    """(count, 3, side, side) in [0, 1]: octaves of coloured noise, from gradients to fine grain."""
    total = torch.zeros(count, 3, side, side)
    fall = torch.rand(count, 1, 1, 1, generator=generator) * 0.7 + 0.3  # how much weaker each octave is
    tint = torch.randn(count, 3, 3, generator=generator)
    for octave in range(1, int(math.log2(side))):
        coarse = torch.randn(count, 3, 2**octave, 2**octave, generator=generator)
        coarse = torch.einsum("nij,njhw->nihw", tint, coarse)
        total += F.interpolate(coarse, (side, side), mode="bicubic", align_corners=False) * fall**octave
    low, high = (total.flatten(1).quantile(q, dim=1)[:, None, None, None] for q in (0.01, 0.99))
    return ((total - low) / (high - low)).clamp(0, 1)


def shapes(generator: torch.Generator) -> Tensor:
    """(MASKS, CELL, CELL) distances to the edge of ellipses, polygons, stars, blobs and bars, about exact near the edge."""
    centre = (torch.arange(CELL) + 0.5) / CELL * 2 - 1
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    radius, angle = torch.hypot(x, y), torch.atan2(y, x)
    found = []
    for n in range(MASKS):
        r = torch.rand(8, generator=generator).tolist()
        kind = n % 6
        if kind == 0:
            field = 0.9 - torch.hypot(x, y / (0.4 + 0.6 * r[0]))
        elif kind == 1:  # polygon of 3 to 8 sides
            sides = 3 + int(6 * r[0])
            turn = 2 * math.pi / sides
            field = 0.9 * math.cos(turn / 2) - radius * torch.cos((angle % turn) - turn / 2)
        elif kind == 2:  # star or flower
            field = 0.9 * (1 - (0.15 + 0.5 * r[0]) * (0.5 + 0.5 * torch.cos(angle * (2 + int(6 * r[1]))))) - radius
        elif kind in (3, 4):  # blob, or with 4 several pieces and holes
            size = 4 if kind == 3 else 7
            noise = F.interpolate(torch.randn(1, 1, size, size, generator=generator), (CELL, CELL), mode="bicubic")[0, 0]
            field = torch.minimum((1.5 - 2 * radius) + 0.5 * noise if kind == 3 else noise + 0.2, 0.92 - radius)
        else:  # bars side by side, or crossing ones
            width, gap = 0.04 + 0.12 * r[0], 0.5 + 0.4 * r[1]
            bars = width - (x - ((x / gap).round() * gap).clamp(-gap, gap)).abs()
            if r[2] < 0.5:
                bars = torch.maximum(bars, width - (y - (r[3] - 0.5)).abs())
            field = torch.minimum(bars, 0.92 - torch.maximum(x.abs(), y.abs()))
        slope = torch.hypot(*torch.gradient(field, spacing=2 / CELL))
        distance = (field / slope.clamp(min=0.3)).clamp(-0.5, 0.5)
        distance[0], distance[-1], distance[:, 0], distance[:, -1] = (torch.full((CELL,), -0.5),) * 4
        found.append(distance)
    return torch.stack(found)


@dataclass(frozen=True, eq=False)
class Planes:
    """What to draw: V views, on the device. `sprite_...` tables have one row for every (sprite, tile) that is drawn, L in all."""

    room: Tensor  # (V, P, 3, 3) homographies
    room_texture: Tensor  # (V, P) texture * levels
    room_level: Tensor  # (V, P) level at depth 1
    place: Tensor  # (L,) view * tiles + tile
    sprite: Tensor  # (L, 3, 3) homographies of the pixel in its tile
    ids: Tensor  # (L, 1) int32
    mask: Tensor  # (L, 1)
    pixels: Tensor  # (L, 1) pixels a unit of the mask
    crop: Tensor  # (L, 4): u = uu a + u0 and v = vv b + v0, as uu, u0, vv, v0
    texture: Tensor  # (L, 1) int64: texture * levels + level
    tint: Tensor  # (L, 6) factors and sums of the three colours
    ranks: tuple[int, ...]  # how many rows have rank 0 (farthest), 1, ...


def pixel_grid(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(2, size^2) pixels tile by tile, from the picture's centre; (2, side^2) those of a tile, from its upper left corner."""
    side = tile_side(size)
    centre = torch.arange(size, device=device, dtype=torch.float32) + 0.5 - size / 2
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    whole = torch.stack([tiled(v).flatten() for v in (x, y)])
    corner = torch.arange(side, device=device, dtype=torch.float32) + 0.5
    y, x = torch.meshgrid(corner, corner, indexing="ij")
    return whole, torch.stack([x.flatten(), y.flatten()])


def tile_side(size: int) -> int:
    """Side of a tile: 16, or less where that does not divide the size."""
    return math.gcd(size, TILE)


def tiled(pictures: Tensor) -> Tensor:
    """(..., S, S) to (..., tiles, pixels of a tile)."""
    side = tile_side(pictures.shape[-1])
    parts = pictures.unflatten(-2, (-1, side)).unflatten(-1, (-1, side)).transpose(-3, -2)
    return parts.flatten(-2).flatten(-3, -2)


def untiled(tiles: Tensor) -> Tensor:
    """(..., tiles, pixels of a tile) to (..., S, S)."""
    rows, side = math.isqrt(tiles.shape[-2]), math.isqrt(tiles.shape[-1])
    return tiles.unflatten(-2, (rows, rows)).unflatten(-1, (side, side)).transpose(-3, -2).flatten(-2).flatten(-3, -2)


def draw_planes(planes: Planes, bank: Bank, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Colours (3, V, S^2), inverse depths (V, S^2), ids (V, S^2) int32 of planes, 0 to P - 1 the room's; tile by tile."""
    whole, local = pixel_grid(size, planes.room.device)
    views, pixels, cpu = len(planes.room), local.shape[1], whole.device.type == "cpu"
    few = max(1, CACHED // size**2) if cpu else views
    parts = [draw_room(planes, bank, whole, pixels, slice(i, i + few)) for i in range(0, views, few)]
    colours, nearness, ids = (torch.cat(values, dim=axis) for axis, values in zip((1, 0, 0), zip(*parts, strict=True), strict=True))
    rows = colours.view(3, -1, pixels), nearness.view(-1, pixels), ids.view(-1, pixels)
    start = 0
    for count in planes.ranks:
        few = CACHED // pixels if cpu else max(1, count)
        for i in range(0, count, few):
            span = slice(start + i, start + min(i + few, count))
            lay_over(rows, planes.place[span], *draw_sprites(planes, bank, local, span), planes.ids[span])
        start += count
    return colours, nearness, ids


def linear(rows: Tensor, pixels: Tensor) -> Tensor:
    """(..., N) products of rows (..., 3) and pixels (x, y, 1), given as (2, N). Not a matrix product: TF32 would round to 10 bits."""
    a, b, c = rows[..., None].unbind(-2)
    return torch.addcmul(c, a, pixels[0]).addcmul_(b, pixels[1])


def draw_room(planes: Planes, bank: Bank, pixels: Tensor, part: int, span: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Colours, inverse depths and ids of some views' rooms, in tiles of `part` pixels; where planes meet, colours mix over a pixel."""
    room = planes.room[span]
    views, count = room.shape[:2]
    rows = room[:, :, 2]
    every = linear(rows, pixels)
    nearness, ids = every.max(dim=1)
    nearness.clamp_(min=FARTHEST)
    table = torch.cat([room[:, :, :2].flatten(2), planes.room_level[span, :, None], planes.room_texture[span, :, None]], dim=2)
    table = table.flatten(0, 1).T.contiguous()
    x, y = pixels[0].expand(views, -1).flatten(), pixels[1].expand(views, -1).flatten()
    chosen = (ids + torch.arange(views, device=ids.device)[:, None] * count).flatten()
    colours = room_colours(bank, table, chosen, nearness.flatten(), x, y)

    # in tiles that show two planes: how far away the other's edge is, the inverse depths' difference over its slope, in pixels
    tiles = ids.view(-1, part)
    low, high = tiles.aminmax(dim=1)
    mixed = (low != high).nonzero()[:, 0]
    first, nearest = tiles[mixed], nearness.view(-1, part)[mixed]
    view, tile = mixed * part // pixels.shape[1], mixed % (pixels.shape[1] // part)
    following, other = every.unflatten(2, (-1, part))[view, :, tile].scatter_(1, first[:, None], -torch.inf).max(dim=1)
    rows = rows[view, :, :2]
    slope = (rows[:, :, None] - rows[:, None]).square().sum(-1).sqrt().flatten(1).gather(1, first * count + other)
    share = (nearest - following).div_(slope).add_(0.5)
    row, column = (share < 1).nonzero().unbind(1)
    at = mixed[row] * part + column
    chosen = other[row, column] + view[row] * count
    below = room_colours(bank, table, chosen, following[row, column].clamp(min=FARTHEST), x[at], y[at])
    colours[:, at] = torch.lerp(below, colours[:, at], share[row, column])
    return colours.view(3, views, -1), nearness, ids.int()


def room_colours(bank: Bank, table: Tensor, chosen: Tensor, nearness: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(3, M) of the planes in the columns `chosen` (M,) of `table`, at pixels x, y (M,) with inverse depths `nearness` (M,)."""
    a0, a1, a2, b0, b1, b2, level, texture = table.index_select(1, chosen).unbind(0)
    u = a2.addcmul_(a0, x).addcmul_(a1, y).div_(nearness)
    v = b2.addcmul_(b0, x).addcmul_(b1, y).div_(nearness)
    level = level.sub_(nearness.log2(), alpha=2 * (1 + FORESHORTENED)).round_().clamp_(0, bank.levels - 1)
    return bank.colours(u, v, texture.add_(level).long())


def draw_sprites(planes: Planes, bank: Bank, local: Tensor, span: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Colours (3, L, T), opacity and inverse depth (L, T) of some rows of the sprites' tables."""
    a, b, nearness = (linear(planes.sprite[span, i], local) for i in range(3))
    nearness.clamp_(min=FARTHEST)
    a, b = a.div_(nearness), b.div_(nearness)
    opacity = bank.edges(a, b, planes.mask[span]).mul_(planes.pixels[span]).add_(0.5).clamp_(0, 1)
    uu, u0, vv, v0 = planes.crop[span].T[..., None]
    u, v = torch.addcmul(u0, a, uu), torch.addcmul(v0, b, vv)
    colours = bank.colours(u.flatten(), v.flatten(), planes.texture[span].expand_as(u).flatten()).view(3, *u.shape)
    tint = planes.tint[span].T[..., None]
    return torch.addcmul(tint[3:], colours, tint[:3]).clamp_(0, 1), opacity, nearness


def lay_over(
    rows: tuple[Tensor, Tensor, Tensor], place: Tensor, colours: Tensor, opacity: Tensor, nearness: Tensor, ids: Tensor
) -> None:
    """Lay tiles, no two in one place, over the pictures `rows` where they are nearer."""
    picture, behind, owner = rows
    below = behind.index_select(0, place)
    opacity = opacity * (nearness > below)
    picture.index_copy_(1, place, torch.lerp(picture.index_select(1, place), colours, opacity))
    solid = opacity > 0.5
    behind.index_copy_(0, place, torch.where(solid, nearness, below))
    owner.index_copy_(0, place, torch.where(solid, ids, owner.index_select(0, place)))
