"""Speed and memory, as figures printed by one command (`make bench`); nothing here is a test.

Every time is the median of repeated runs on the machine it is started on; the number of threads and the device are printed first.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from . import naive
from .checkpoint import build_model
from .clips.cache import prepare
from .clips.datasets import SAMPLES, prepare_dataset
from .clips.video import open_source
from .config import PRESETS
from .evaluation.methods import PairMethod, blend
from .evaluation.scoring import score_method
from .model import VideoAutoencoder4D
from .perceptual import PerceptualLoss, VGGFeatures, load_lpips
from .repairs import PUBLISHED
from .scenes import WorldOptions, generate, load_textures, motion, render
from .stages import FlowStage
from .synthesis import interpolate
from .train import TrainConfig, train
from .workbook.notebook import peak_memory

T = TypeVar("T")
Say = Callable[[str], None]


def main(data_root: str | Path = "data", say: Say = print) -> None:
    """Decoding, procedural scenes, synthesis of both presets, both training stages and scoring, a line each.

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


def frame_against_naive(device: torch.device, say: Say) -> None:
    """One published frame between two at 256 px by `original`: the codes of the given frames kept, against everything computed anew."""
    model = build_model("original").to(device)
    model.flow_trained = True
    first, last = torch.rand(2, 1, 3, 256, 256, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        ends = [model.encode(frame) for frame in (first, last)]

    def ours() -> Tensor:
        with torch.inference_mode():
            return model.synthesise(*ends, 0.5, semantics="published").image

    def plain() -> Tensor:
        return naive.interpolate(model, first, last)

    difference = float((ours() - plain()).abs().max())
    fast, slow = in_turn([ours, plain], 5, device)
    say(f"original 256 px, published, a frame in between: {fast * 1e3:.0f} ms with codes kept, naive {slow * 1e3:.0f} ms: "
        f"{slow / fast:.2f} x; largest difference of a pixel {difference:.1e}")  # fmt: skip


def flow_stage_against_naive(data_root: Path, device: torch.device, say: Say) -> None:
    """One published iteration of the flow stage (`original`, a 64 px clip of 4 frames, 5 + 3 + 3 substeps), against its naive form.

    The naive form comes twice: as an implementation that lets gradients reach the weights of all frozen networks, and with these frozen.
    Ours comes first, so that the peak of resident memory tells both apart.
    """
    frames = moving_clip().to(device)
    rows: dict[str, tuple[float, float, float]] = {}
    for name in ("ours", "naive, nothing that trains", "naive"):
        model, adam = flow_model(frozen=name != "naive")
        model.to(device)
        reset_peak(device)
        if name == "ours":
            stage = FlowStage(model, PerceptualLoss(data_root / "weights"), None, None, PUBLISHED, chunk=2).to(device).train()
            torch.set_flush_denormal(True)
            seconds, loss = timed(lambda stage=stage, adam=adam: iterate(stage, frames, adam), device)
            torch.set_flush_denormal(False)
        else:
            vgg = VGGFeatures(data_root / "weights").to(device).requires_grad_(name == "naive")
            seconds, done = timed(lambda model=model, vgg=vgg, adam=adam: naive.train_clip(model, vgg, frames, adam), device)
            loss = done[-1]["loss"]
        rows[name] = (seconds, loss, peak(device))
        about = {"naive": "gradients for all weights", "naive, nothing that trains": "frozen weights"}.get(name, "chunk 2")
        ratio = "" if name == "ours" else f": {seconds / rows['ours'][0]:.2f} x the time of ours"
        say(f"flow stage, original 64 px, 4 frames, published, {name.split(',')[0]} ({about}): {seconds:.1f} s an iteration, "
            f"peak memory {rows[name][2]:.2f} GB, last loss {loss:.3f}{ratio}")  # fmt: skip


def moving_clip(count: int = 4, side: int = 64) -> Tensor:
    """(count, 3, side, side) in [0, 1]: a photograph that moves by three pixels a frame."""
    from skimage import data

    picture = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    return torch.stack([picture[:, 64 : 64 + 4 * side : 4, 96 + 12 * i : 96 + 12 * i + 4 * side : 4] for i in range(count)])


def flow_model(frozen: bool) -> tuple[VideoAutoencoder4D, torch.optim.Adam]:
    """`original` before its flow stage, and the optimiser; with `frozen` only what is trained asks for gradients."""
    model = build_model("original")
    torch.nn.init.constant_(model.decoder.upconv_final.bias, 0.5)  # a new decoder draws black, on which no voxel has any influence
    parameters = [*model.encoder_flow.parameters(), *model.flow_correction.parameters()]
    if frozen:
        model.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
    return model, torch.optim.Adam(parameters, lr=2e-4)


def iterate(stage: FlowStage, frames: Tensor, adam: torch.optim.Adam) -> float:
    """All substeps of one clip; returns the last loss."""
    times = torch.linspace(0, 1, len(frames), device=frames.device)
    context = stage.begin({"frames": frames[None], "times": times[None]}, torch.Generator())
    for substep in stage.substeps:
        adam.zero_grad()
        loss = 0.0
        for part in stage.parts(context, substep):
            share = stage(context, substep, part)["loss"].sum() / part.of
            share.backward()
            loss += share.item()
        adam.step()
    return loss


def in_turn(runs: list[Callable[[], object]], rounds: int, device: torch.device) -> list[float]:
    """Median seconds of several functions, called in turn so that a change of the machine's pace hits all alike."""
    times = [[timed(run, device)[0] for run in runs] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def timed(run: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Seconds that a function takes, the GPU's part included, and what it returns."""
    began = time.perf_counter()
    result = run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, result


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak(device: torch.device) -> float:
    """Largest memory so far in GB: of the GPU since `reset_peak`, or resident in this process since its start."""
    return torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else peak_memory()


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
