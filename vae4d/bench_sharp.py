"""Speed and memory of the sharp model: a frame beside optical flow and ffmpeg, bfloat16, tiles, and frames a second on a GPU.

Weights are random, as speed does not depend on what was learned; the heads that start at zero get small values, so that every part has
something to do and a difference shows. The frames are a photograph and the same a few pixels further. Times are medians.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .bench_flow import Say, apart, in_turn, own_peak
from .checkpoint import build_model
from .evaluation.methods import Pair
from .evaluation.minterpolate import Minterpolate
from .evaluation.optical_flow import FlowWarp, dis_flow
from .sharp.model import Encoded, SharpAutoencoder4D

AIM = 120  # ms for a frame of 256 px on 2 cores
SIZES = ((256, 256), (720, 1280), (1080, 1920))  # rows, columns


def sharp(device: torch.device, say: Say) -> None:
    """Everything, a line each."""
    frame_in_between(say)
    bfloat16(say)
    tiles(say)
    if device.type == "cuda":
        for size in SIZES:
            rate(size, say)


def busy(preset: str = "sharp") -> SharpAutoencoder4D:
    """A model of which every part says something."""
    model, generator = build_model(preset), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(0, 0.01, generator=generator)
    return model


def moved(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Two frames (1, 3, H, W) in [0, 1]: a photograph, and the same 4 px further to the left and 2 px up."""
    from skimage import data

    picture = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float() / 255
    picture = torch.nn.functional.interpolate(picture, (height + 2, width + 4), mode="bilinear", align_corners=False)
    return picture[..., :height, :width].contiguous(), picture[..., 2:, 4:].contiguous()


def frame_in_between(say: Say, side: int = 256, rounds: int = 7) -> None:
    """One frame between two on the CPU, what is known of the pair kept, beside DIS and minterpolate on the same frames."""
    model, (first, second) = busy(), moved(side, side)
    pair = Pair("bench", side, 2, 0, first[0], second[0], (1,), (0.5,))
    flow, ffmpeg = FlowWarp(dis_flow), Minterpolate()
    with torch.inference_mode():
        ends = model.encode(first), model.encode(second)
        focal = torch.ones(1)
        runs: dict[str, Callable[[], object]] = {
            "frame": lambda: model.synthesise(*ends, 0.5),
            "encode": lambda: model.encode(first),
            "pair": lambda: model.pair(*ends, focal),
            "DIS": lambda: flow(first[0], second[0], (0.5,)),
            "minterpolate": lambda: list(ffmpeg([pair])),
        }
        model.synthesise(*ends, 0.5)  # keeps what the pair says
        ms = {name: 1000 * seconds for name, seconds in zip(runs, in_turn(list(runs.values()), rounds, first.device), strict=True)}
    ours = ms["frame"]
    say(f"sharp {side} px, float32, {torch.get_num_threads()} CPU threads: a frame in between {ours:.0f} ms, codes and the pair's part kept "
        f"(aim {AIM} ms at 256 px on 2 cores); once a frame {ms['encode']:.0f} ms, once a pair {ms['pair']:.0f} ms")  # fmt: skip
    for name, what in (("DIS", "one thread, flow both ways and warp"), ("minterpolate", "one thread, with the start of ffmpeg")):
        say(f"  {name} on the same frames ({what}): {ms[name]:.0f} ms, a frame of ours takes {ours / ms[name]:.2f} x of it")


def bfloat16(say: Say, side: int = 256, rounds: int = 5) -> None:
    """The same frame in bfloat16: its time, and how far its pixels are off."""
    model, (first, second) = busy(), moved(side, side)

    def run(enabled: bool, ends: tuple[Encoded, Encoded]) -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            return model.synthesise(*ends, 0.5).image

    both = []
    for enabled in (False, True):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            both.append((model.encode(first), model.encode(second)))
    off = float((run(True, both[1]) - run(False, both[0])).abs().max())
    # Each pair is found once, in the round that is not counted, as long as the other form does not come between.
    slow, fast = (in_turn([partial(run, enabled, ends)], rounds + 1, first.device)[0] * 1000 for enabled, ends in zip((False, True), both, strict=True))
    say(f"sharp {side} px, bfloat16: a frame in between {fast:.0f} ms, {slow / fast:.2f} x as fast as float32; a pixel is off by at most {off:.1e}")


def tiled(height: int, width: int, tile: int | None) -> tuple[float, Tensor]:
    """Peak resident memory in GB of this process after one frame, and its picture."""
    model, ends = busy(), moved(height, width)
    with torch.inference_mode():
        image = model.synthesise(*ends, 0.5, tile=tile).image
    return own_peak(), image.clone()


def tiles(say: Say, height: int = 1080, width: int = 1920, tile: int = 512) -> None:
    """Peak memory of a large frame in tiles and at once, each in a process of its own, and their largest difference."""
    (small, tiles_image), (large, image) = (apart(partial(tiled, height, width, side)) for side in (tile, None))
    off = float((tiles_image - image).abs().max())
    say(f"sharp {width}x{height}, CPU: peak memory {small:.2f} GB in tiles of {tile} px, {large:.2f} GB at once "
        f"({large / small:.2f} x); largest difference of a pixel {off:.1e}")  # fmt: skip


def rate(size: tuple[int, int], say: Say, preset: str = "sharp", moments: int = 16) -> None:
    """Frames a second on the GPU, one after the other, codes and pair kept; in float32 and in bfloat16."""
    device = torch.device("cuda")
    model, ends = busy(preset).to(device), tuple(frame.to(device) for frame in moved(*size))
    found = []
    for enabled in (False, True):
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=enabled):
            pair = tuple(model.encode(frame) for frame in ends)

            def run(pair: tuple[Encoded, ...] = pair) -> None:
                for i in range(moments):
                    model.synthesise(*pair, (i + 1) / (moments + 1))

            found.append(moments / in_turn([run], 5, device)[0])
    say(f"{preset} {size[1]}x{size[0]}, GPU: {found[0]:.0f} frames a second in float32, {found[1]:.0f} in bfloat16 ({found[1] / found[0]:.2f} x)")
