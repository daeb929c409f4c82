"""Photographs as textures, low-passed in advance for every size at which they can be seen.

Conventions:
    Colours are RGB in [0, 1]. Texture coordinates (u, v) count photographs: u runs right from 0 to 1 over one photograph,
    v down; beyond that the photograph is mirrored, again and again, without a seam.
    Level 0 is the photograph under a Gaussian of one texel; level l has texels 2^l times as large under a Gaussian of one
    of *its* texels (a Gaussian pyramid). Levels in between are blended, so the blur grows without a step.
    All levels of all photographs lie in one atlas, each with a rim that repeats its border: one bilinear `grid_sample`
    (`align_corners=False`) of that atlas never mixes two photographs or two levels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..errors import ConfigError, MissingInputError

# The photographs that scikit-image's wheel carries (others it would download). Drawings, masks, patterns and nearly
# empty pictures are left out, and so is motorcycle_right: it shows what motorcycle_left shows, and the two could end in different splits.
SHIPPED = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png",
    "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip
SPLITS = ("train", "test", "all")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
SMALLEST_SIDE = 64  # pixels; below that a photograph is a blur on every surface
SMALLEST_LEVEL = 8  # texels a side of the coarsest level


@dataclass(frozen=True, eq=False)
class Textures:
    """N photographs with all their levels in one atlas."""

    names: tuple[str, ...]
    size: int  # texels a side of level 0
    atlas: Tensor  # (3, H, W)
    corners: Tensor  # (N * levels, 2): x, y in the atlas of the upper left texel of a photograph's level

    def __len__(self) -> int:
        return len(self.names)

    @property
    def levels(self) -> int:
        """Number of levels of every photograph."""
        return len(self.corners) // len(self.names)

    @property
    def sha256(self) -> str:
        """Of the texels: what pictures depend on."""
        return hashlib.sha256(self.atlas.cpu().numpy().tobytes()).hexdigest()

    def to(self, device: str | torch.device) -> Textures:
        """The same textures on `device`."""
        return replace(self, atlas=self.atlas.to(device), corners=self.corners.to(device))

    def sample(self, photo: Tensor, u: Tensor, v: Tensor, blur: Tensor) -> Tensor:
        """Colours (3, M) of photographs `photo` (M,) int64 at (u, v), under a Gaussian of about `blur` >= 0 texels of level 0.

        A blur below one texel is magnification: the result is level 0. At most the blur of the coarsest level is reached.
        """
        level = blur.clamp(min=1).log2_().clamp_(max=self.levels - 1)
        lower = level.floor().clamp_(max=self.levels - 2)
        part = (torch.exp2(2 * (level - lower)) - 1) / 3  # so blended, variances are right: (1 - part) 1 + part 4 = 4^(level - lower)
        index = photo * self.levels + lower.long()
        side = self.size * torch.exp2(-lower)
        # x -> |((x + 1) mod 2) - 1| mirrors; in texels, corner + [0, side], where the rim reaches half a texel outside
        u, v = (u + 1).remainder_(2).sub_(1).abs_(), (v + 1).remainder_(2).sub_(1).abs_()
        height, width = self.atlas.shape[1:]
        grids = []
        for offset in (0, 1):
            x, y = self.corners.index_select(0, index + offset).unbind(1)
            scale = side * 0.5**offset
            x, y = torch.addcmul(x, u, scale), torch.addcmul(y, v, scale)
            grids.append(torch.stack([x.mul_(2 / width).sub_(1), y.mul_(2 / height).sub_(1)], dim=-1))
        grid = torch.stack(grids)[None]  # (1, 2, M, 2)
        fine, coarse = F.grid_sample(self.atlas[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0].unbind(1)
        return torch.lerp(fine, coarse, part)


def load_textures(folder: str | Path | None = None, split: str = "all", size: int = 256) -> Textures:
    """Photographs from a folder, or those that scikit-image's wheel carries; nothing is downloaded.

    A photograph's central square is scaled to `size` texels and stretched to full contrast. The split goes by photograph:
    about one in five is for testing, chosen by a hash of the file's bytes, so it does not change when others are added or
    files are renamed.

    Args:
        folder: a folder of images (PNG, JPEG, WebP, BMP, TIFF; not searched in depth), or None.
        split: "train", "test" or "all".
        size: texels a side, a power of two of at least 64.
    Raises:
        MissingInputError: no such folder, no image in it, or none in this split.
        ConfigError: an unknown split or size, an image that cannot be read or is smaller than 64 px a side.
    """
    if split not in SPLITS:
        raise ConfigError(f"split is {split!r}: choose one of {', '.join(SPLITS)}.")
    if not isinstance(size, int) or size < SMALLEST_SIDE or size & (size - 1):
        raise ConfigError(f"The textures' size is {size!r}: give a power of two of at least {SMALLEST_SIDE}, such as 256.")
    paths = shipped_photographs() if folder is None else images_in(Path(folder))
    chosen = [path for path in paths if split == "all" or split_of(path) == split]
    if not chosen:
        remedy = "which is drawn by a hash: add images (twenty or more)"
        raise MissingInputError(f"None of the {len(paths)} images in {folder} falls into the {split} split, {remedy}.")
    return build([path.name for path in chosen], torch.stack([read_photograph(path, size) for path in chosen]))


def shipped_photographs() -> list[Path]:
    """Paths of the photographs in scikit-image's wheel."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    return images_in(folder, SHIPPED)


def images_in(folder: Path, names: tuple[str, ...] | None = None) -> list[Path]:
    """The images of a folder in the order of their names; of `names` those that are there."""
    if not folder.is_dir():
        raise MissingInputError(f"There is no folder {folder} of textures: give a folder of photographs.")
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    found = sorted(path for path in found if names is None or path.name in names)
    if not found:
        raise MissingInputError(f"No image in {folder}: put photographs there ({', '.join(SUFFIXES)}).")
    return found


def split_of(path: Path) -> str:
    """The split of a photograph: "test" for about one file in five, else "train"; by the file's bytes alone."""
    # this byte and remainder put a cat, a man, gravel, tissue and a printed page of the shipped photographs into the test split
    return "test" if hashlib.sha256(path.read_bytes()).digest()[2] % 5 == 1 else "train"


def read_photograph(path: Path, size: int) -> Tensor:
    """The central square of an image as (3, size, size) in [0, 1].

    Raises:
        ConfigError: it cannot be read, or is smaller than 64 px a side.
    """
    try:
        with Image.open(path) as image:
            side = min(image.size)
            if side < SMALLEST_SIDE:
                width, height = image.size
                remedy = f"give images of at least {SMALLEST_SIDE} px a side, or remove it"
                raise ConfigError(f"The texture {path} has {width} x {height} px: {remedy}.")
            left, top = (image.width - side) // 2, (image.height - side) // 2
            square = image.convert("RGB").crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
            square = ImageOps.autocontrast(square, cutoff=0.5, preserve_tone=True)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"The texture {path} cannot be read as an image ({type(error).__name__}): remove or replace it.") from error
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).float().div_(255)


def build(names: list[str], photographs: Tensor) -> Textures:
    """Textures from photographs (N, 3, size, size)."""
    size = photographs.shape[-1]
    pyramid = [blurred(photographs, 1.0)]
    while pyramid[-1].shape[-1] > SMALLEST_LEVEL:
        # variances in texels: 1 so far, 1/4 by averaging pairs, and 2.75 here make 4, which is 1 of the next level's texels
        pyramid.append(F.avg_pool2d(blurred(pyramid[-1], 2.75**0.5), 2))
    # level 0 on the left of a photograph's cell, the others below one another on its right
    height = max(size + 2, sum(level.shape[-1] + 2 for level in pyramid[1:]))
    atlas = photographs.new_zeros(3, height * len(names), size + 2 + size // 2 + 2)
    corners = []
    for n in range(len(names)):
        x, y = 0, n * height
        for number, level in enumerate(pyramid):
            side = level.shape[-1]
            atlas[:, y : y + side + 2, x : x + side + 2] = F.pad(level[n : n + 1], (1, 1, 1, 1), mode="replicate")[0]
            corners.append((x + 1, y + 1))
            x, y = (size + 2, y) if number == 0 else (x, y + side + 2)
    return Textures(tuple(names), size, atlas, torch.tensor(corners, dtype=torch.float32))


def blurred(pictures: Tensor, sigma: float) -> Tensor:
    """Pictures (N, 3, H, W) under a Gaussian, mirrored at the border as the texture is."""
    radius = min(int(4 * sigma + 0.5), pictures.shape[-1] // 2)
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = (-0.5 * (x / sigma) ** 2).exp()
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    mirrored = torch.cat([pictures[..., :radius].flip(-1), pictures, pictures[..., -radius:].flip(-1)], dim=-1)
    once = F.conv2d(mirrored, kernel, groups=3)
    mirrored = torch.cat([once[..., :radius, :].flip(-2), once, once[..., -radius:, :].flip(-2)], dim=-2)
    return F.conv2d(mirrored, kernel.transpose(2, 3), groups=3)
