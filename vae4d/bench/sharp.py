"""Speed and memory of the sharp model: a frame beside optical flow and ffmpeg, bfloat16, tiles, and frames a second on a GPU.

Weights are random, as speed does not depend on what was learned; the heads that start at zero get small values, so that every part has
something to do and a difference shows. The frames are a photograph and the same a few pixels further. What is compared is timed in turn,
and each time is the shortest of its rounds, as other processes only ever add (`flow`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import build_model
from ..evaluation.methods import Pair
from ..evaluation.minterpolate import Minterpolate
from ..evaluation.optical_flow import FlowWarp, dis_flow
from ..progress import Say
from ..sharp.model import Encoded, SharpAutoencoder4D
from .flow import apart, in_turn, own_peak

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


def chain(first: Tensor, second: Tensor, count: int) -> list[Pair]:
    """Pairs that follow each other, of two frames (3, S, S) in turn."""
    frames = [(first, second)[i % 2] for i in range(count + 1)]
    return [Pair("bench", first.shape[-1], 2, 2 * i, frames[i], frames[i + 1], (2 * i + 1,), (0.5,)) for i in range(count)]


def frame_in_between(say: Say, side: int = 256, rounds: int = 7) -> None:
    """One frame between two on the CPU, what is known of the pair kept, beside DIS and minterpolate on the same frames."""
    model, (first, second) = busy(), moved(side, side)
    flow, ffmpeg, cpu = FlowWarp(dis_flow), Minterpolate(), torch.device("cpu")
    with torch.inference_mode():
        ends, focal = (model.encode(first), model.encode(second)), torch.ones(1)
        runs = [
            lambda: model.synthesise(*ends, 0.5),
            lambda: model.encode(first),
            lambda: model.pair(*ends, focal),
            lambda: flow(first[0], second[0], (0.5,)),
        ]
        runs[0]()  # from now on the model keeps what the pair says
        frame, encode, pair, dis = (1000 * seconds for seconds in in_turn(runs, rounds, cpu))
    # ffmpeg starts once for a video: what eight frames more take.
    short, long = in_turn([lambda count=count: list(ffmpeg(chain(first[0], second[0], count))) for count in (1, 9)], 2, cpu)
    filtered = (long - short) / 8 * 1000
    threads = torch.get_num_threads()
    say(f"sharp {side} px, float32, {threads} CPU threads: a frame in between {frame:.0f} ms, codes and the pair's part kept "
        f"(aim {AIM} ms at 256 px on 2 cores); once a frame {encode:.0f} ms, once a pair {pair:.0f} ms")  # fmt: skip
    for name, ms in (("DIS, flow both ways and warp", dis), ("minterpolate", filtered)):
        say(f"  on the same frames, one thread, {name}: {ms:.0f} ms; a frame of ours takes {frame / ms:.2f} x as long")


def bfloat16(say: Say, side: int = 256, rounds: int = 7) -> None:
    """The same frame in bfloat16: its time, and how far its pixels are off."""
    frames = moved(side, side)

    def form(enabled: bool) -> Callable[[], Tensor]:
        model = busy()  # one each, as a model keeps what its last pair said

        @torch.inference_mode()
        def run(ends: tuple[Tensor | Encoded, ...]) -> tuple[Tensor, tuple[Encoded, ...]]:
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                ends = tuple(end if isinstance(end, Encoded) else model.encode(end) for end in ends)
                return model.synthesise(*ends, 0.5).image, ends

        ends = run(frames)[1]
        return lambda: run(ends)[0]

    forms = [form(False), form(True)]
    off = float((forms[0]() - forms[1]()).abs().max())
    slow, fast = in_turn(forms, rounds, torch.device("cpu"))
    say(f"sharp {side} px, bfloat16: a frame in between {fast * 1000:.0f} ms, {slow / fast:.2f} x as fast as float32; "
        f"a pixel is off by at most {off:.1e}")  # fmt: skip


def tiled(height: int, width: int, tile: int | None) -> tuple[float, np.ndarray]:
    """Peak resident memory in GB of this process after one frame, and its picture."""
    model, ends = busy(), moved(height, width)
    with torch.inference_mode():
        image = model.synthesise(*ends, 0.5, tile=tile).image
    return own_peak(), image.numpy()


def tiles(say: Say, height: int = 1080, width: int = 1920, tile: int = 512) -> None:
    """Peak memory of a large frame in tiles and at once, each in a process of its own, and their largest difference."""
    (small, in_tiles), (large, at_once) = (apart(tiled, height, width, side) for side in (tile, None))
    off = float(np.abs(in_tiles - at_once).max())
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
    exact, short = found
    say(f"{preset} {size[1]}x{size[0]}, GPU: {exact:.0f} frames a second in float32, {short:.0f} in bfloat16 ({short / exact:.2f} x)")
