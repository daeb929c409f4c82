"""Random worlds from seeds.

All numbers of a scene are drawn at once by a CPU generator with the scene's own seed, so scene i depends on seeds[i], the options
and the textures alone: not on the batch, and not on the device.

A world is a room around the camera with objects between the camera and the walls (`layout`). Trajectories are first drawn in
direction and then scaled until the mean displacement in the picture between t = 0 and t = 1 is the one drawn from the options
(`trajectories`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import ConfigError
from .layout import layout
from .options import Draws, WorldOptions
from .textures import Textures
from .trajectories import keep_clear, move_camera, move_objects
from .world import FACES, WAVES, World

DRAWS_OF_SCENE = 48
DRAWS_OF_PRIMITIVE = 48 + 6 * FACES + 4 * WAVES


@torch.no_grad()
def generate(seeds: Sequence[int], options: WorldOptions, textures: Textures, device: str | torch.device = "cpu") -> World:
    """One scene per seed.

    Args:
        seeds: whole numbers of at least 0.
        options: what to draw.
        textures: from `load_textures`, moved `to(device)` once, or they are copied with every world.
        device: where the world goes; it is drawn on the CPU.
    Raises:
        ConfigError: no seeds, or one that is not a whole number from 0 to 2^63 - 1.
    """
    seeds = [seed if isinstance(seed, bool) or not hasattr(seed, "__index__") else int(seed) for seed in seeds]
    if not seeds:
        raise ConfigError("No seeds: give whole numbers from 0 to 2^63 - 1, one per scene.")
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed < 1 << 63:
            raise ConfigError(f"{seed!r} is no seed: give whole numbers from 0 to 2^63 - 1, one per scene.")
    count = 1 + options.objects[1]
    total = DRAWS_OF_SCENE + count * DRAWS_OF_PRIMITIVE
    numbers = torch.stack([torch.rand(total, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds])
    scene, primitive = Draws(numbers[:, :DRAWS_OF_SCENE]), Draws(numbers[:, DRAWS_OF_SCENE:].unflatten(1, (count, -1)))
    world = layout(scene, primitive, options, textures)
    world = move_camera(world, scene, options)
    world = move_objects(world, scene, primitive, options)
    return keep_clear(world).to(device)
