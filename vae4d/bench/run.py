"""Speed and memory, as figures printed by one command (`make bench`); nothing here is a test.

Every time is the median of repeated runs on the machine it is started on, or says otherwise; the number of threads and the device are
printed first.
"""

from __future__ import annotations

import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from ..checkpoint import build_model
from ..clips.cache import prepare
from ..clips.datasets import SAMPLES, prepare_dataset
from ..clips.video import open_source
from ..config import PRESETS
from ..evaluation.methods import PairMethod, blend
from ..evaluation.scoring import score_method
from ..faithful import naive
from ..faithful.train import TrainConfig, train
from ..perceptual import load_lpips
from ..progress import Say
from ..scenes import WorldOptions, generate, load_textures, motion, render
from ..synthesis import interpolate
from ..workbook.notebook import peak_memory
from .flow import flow_stage_against_naive, in_turn
from .sharp import sharp


def main(data_root: str | Path = "data", say: Say = print) -> None:
    """Decoding, procedural scenes, synthesis of all presets, both training stages and scoring, a line each.

    Raises:
        MissingInputError: the sample clips were not fetched (`make setup`).
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    say(f"torch {torch.__version__}, {name}")
    decoding(Path(data_root), say)
    scenes(say)
    for preset, semantics in (("small", "repaired"), ("small", "published"), ("original", "repaired"), ("original", "published")):
        synthesis(preset, semantics, device, say)
    frame_against_naive(device, say)
    sharp(device, say)
    flow_stage_against_naive(Path(data_root), device, say)
    training(Path(data_root), say)
    scoring(Path(data_root), say)
    say(f"peak resident memory of this process: {peak_memory():.2f} GB")


def decoding(data_root: Path, say: Say) -> None:
    """Source frames a second from file to prepared clip, hash, cuts and repeats included."""
    for split in SAMPLES:
        source = open_source(data_root / "samples" / SAMPLES[split])
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            clip = prepare(source, Path(folder), 128, split)
            seconds = time.perf_counter() - began
        size = f"{source.info.width}x{source.info.height}"
        say(f"prepare {source.path.name} {size} -> 128x128: {len(clip) / seconds:.0f} frames a second")


def scenes(say: Say) -> None:
    """Frames a second of procedural scenes with 12 objects: pictures, depth and ids; and with flow, masks and scene flow both ways."""
    world = generate(range(12), WorldOptions(objects=(12, 12), kinds=("plane", "box", "sphere")), load_textures())

    def films() -> list:
        return [render(world, world.camera(t, 128), t) for t in (0.0, 1 / 3, 2 / 3, 1.0)]

    def all_outputs() -> None:
        for a, b in pairwise(films()):
            motion(world, a, b), motion(world, b, a)

    for run, what in ((films, "RGB, depth and ids"), (all_outputs, "all outputs, flow both ways")):
        seconds = milliseconds("run()", {"run": run}) / 1000
        say(f"procedural scenes 128x128, 12 objects, {what}: {4 * len(world) / seconds:.0f} frames a second")


def synthesis(preset: str, semantics: str, device: torch.device, say: Say) -> None:
    """Encoding one frame, and one frame in between once both ends are encoded, at the preset's own size."""
    model = build_model(preset).to(device)
    model.flow_trained = True  # its speed does not depend on what the weights are
    size = PRESETS[preset].frame_size
    frames = torch.rand(2, 3, size, size, device=device)
    with torch.inference_mode():
        ends = [model.encode(frame[None]) for frame in frames]
        encode = milliseconds("model.encode(frame)", {"model": model, "frame": frames[:1]})
        scope = {"model": model, "a": ends[0], "b": ends[1], "semantics": semantics}
        between = milliseconds("model.synthesise(a, b, 0.5, semantics=semantics)", scope)
    began = time.perf_counter()
    count = sum(1 for _ in interpolate(model, frames[torch.arange(5) % 2], 2, semantics=semantics))
    whole = (time.perf_counter() - began) / count * 1000
    say(f"{preset} {size} px, {semantics}: encode {encode:.1f} ms, a frame in between {between:.1f} ms; a video x2 {whole:.1f} ms a frame")


def milliseconds(statement: str, scope: dict) -> float:
    """Median time of a statement, under inference mode."""
    timer = Timer(f"with torch.inference_mode(): {statement}", globals=scope | {"torch": torch}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=1.0).median * 1000


def frame_against_naive(device: torch.device, say: Say, preset: str = "original", side: int = 256) -> None:
    """Published frames between two: the codes of given frames kept, against everything computed anew in every call.

    One frame of a pair whose codes are there; and three of a gap as a video at four times the rate needs them, its second end encoded.
    """
    model = build_model(preset).to(device)
    model.flow_trained = True
    first, last = torch.rand(2, 1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        start, end = model.encode(first), model.encode(last)

    def ours(*moments: float, known: bool) -> Tensor:
        with torch.inference_mode():
            there = end if known else model.encode(last)
            return torch.cat([model.synthesise(start, there, t, semantics="published").image for t in moments])

    def plain(*moments: float) -> Tensor:
        return torch.cat([naive.interpolate(model, first, last, t) for t in moments])

    for moments, known, what in (((0.5,), True, "a frame in between, codes kept"), ((0.25, 0.5, 0.75), False, "three, one frame encoded")):
        runs = [lambda moments=moments, known=known: ours(*moments, known=known), lambda moments=moments: plain(*moments)]
        difference = float((runs[0]() - runs[1]()).abs().max())
        fast, slow = in_turn(runs, 3, device)
        say(f"{preset} {side} px, published, {what}: {fast * 1e3:.0f} ms, naive {slow * 1e3:.0f} ms: "
            f"{slow / fast:.2f} x; largest difference of a pixel {difference:.1e}")  # fmt: skip


def training(data_root: Path, say: Say) -> None:
    """What a training step waits for its data and how long it computes, with the quick profile's options."""
    prepare_dataset("samples", 128, data_root, progress=None)
    with tempfile.TemporaryDirectory() as folder:
        common = {"data_root": str(data_root), "max_steps": 10, "valid_freq": 10, "valid_clips": 1, "perceptual_size": 0}
        base = TrainConfig(savepath=f"{folder}/base", clip_length=4, targets=2, **common)
        flow = {"resume": f"{folder}/base/newest.safetensors", "pairs": 2, "triplets": 2}
        flow |= {"reconstruction_substeps": 1, "interpolation_substeps": 1}
        for config in (base, TrainConfig(stage="flow", savepath=f"{folder}/flow", **flow, **common)):
            result = train(config, progress=lambda line: None)
            wait, work = result.loader_ms, result.step_ms
            ratio = f"loader/step {wait / work:.3f}"
            say(f"{config.stage} stage, small 128 px: a step waits {wait:.1f} ms for data and computes for {work:.0f} ms ({ratio})")


def scoring(data_root: Path, say: Say) -> None:
    """Scored frames a second in one process, which computes on one thread, the blend's own time included."""
    clip = prepare_dataset("samples", 128, data_root, progress=None).split("test")[0]
    for what, lpips in (("PSNR, SSIM and motion", None), ("the same and LPIPS", load_lpips(data_root / "weights"))):
        if what.endswith("LPIPS") and lpips is None:
            say("scoring with LPIPS: the package lpips is not installed")
            continue
        scope = {"score": lambda lpips=lpips: score_method(clip, 4, "linear blend", PairMethod(blend), lpips, limit=16)}
        say(f"scoring 128x128, {what}: {48 / milliseconds('score()', scope) * 1000:.0f} frames a second in one process")
