"""Speed and memory of the published flow stage against its naive form (`faithful.naive`).

The forms are timed in turn in one process, so that a change of the machine's pace hits all alike, and each time is the shortest of its
rounds, as other processes only ever add. All forms see the same frames and the same weights: the optimiser steps with a rate of 0.

All of it is measured in processes started for it. Resident memory never falls, so each form has one for its peak. And threads take
the flushing of denormal numbers from the thread that starts them, so it cannot be switched between forms: it is on for all, as in training.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ..checkpoint import build_model
from ..faithful import naive
from ..faithful.flow_stage import FlowStage
from ..faithful.model import VideoAutoencoder4D
from ..faithful.repairs import PUBLISHED
from ..perceptual import PerceptualLoss, VGGFeatures
from ..progress import Say
from ..workbook.notebook import peak_memory

T = TypeVar("T")
Step = Callable[[str], float]  # does one substep and returns its loss
SUBSTEPS = {"begin": 1, "reconstruction 1": 1, "reconstruction 2": 4, "forward 1": 2, "forward 2": 4}  # how many an iteration has of each
OURS, BFLOAT16, FROZEN, ALL = "ours, chunk 2", "ours in bfloat16", "naive, frozen weights", "naive, gradients for all weights"
TOLERANCE = 1e-3  # of a loss, between the forms in float32


@dataclass(frozen=True)
class Job:
    """What the flow stage is measured on: `count` frames of side x side pixels."""

    preset: str = "original"
    count: int = 4
    side: int = 64
    weights: str = "data/weights"
    device: str = "cpu"

    def frames(self) -> Tensor:
        """(count, 3, side, side) in [0, 1]: a photograph that moves by three pixels a frame."""
        from skimage import data

        picture = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
        width = 4 * self.side
        starts = range(96, 96 + 12 * self.count, 12)
        return torch.stack([picture[:, 64 : 64 + width : 4, left : left + width : 4] for left in starts]).to(self.device)

    def model(self, all_weights: bool) -> tuple[VideoAutoencoder4D, torch.optim.Adam]:
        """The preset before its flow stage, and an optimiser that moves nothing; gradients for what is trained, or for all weights."""
        model = build_model(self.preset).to(self.device).requires_grad_(all_weights)
        torch.nn.init.constant_(model.decoder.upconv_final.bias, 0.5)  # a new decoder draws black, on which no voxel has any influence
        parameters = [*model.encoder_flow.parameters(), *model.flow_correction.parameters()]
        for parameter in parameters:
            parameter.requires_grad_(True)
        return model, torch.optim.Adam(parameters, lr=0.0)

    def form(self, name: str) -> Step:
        """One way to compute the flow stage's substeps. "begin" comes first: it does what ours computes once for an iteration."""
        frames = self.frames()
        model, adam = self.model(all_weights=name == ALL)
        if name in (FROZEN, ALL):
            vgg = VGGFeatures(self.weights).to(self.device).requires_grad_(name == ALL)

            def plain(substep: str) -> float:
                kind, _, index = substep.partition(" ")
                return 0.0 if kind == "begin" else naive.substep(model, vgg, frames, adam, kind, first=index == "1")[0]

            return plain
        stage = FlowStage(model, PerceptualLoss(self.weights), None, None, PUBLISHED, chunk=2).to(self.device).train()
        clip = {"frames": frames[None], "times": torch.linspace(0, 1, self.count, device=self.device)[None]}
        context: dict = {}

        def autocast() -> torch.autocast:
            return torch.autocast(frames.device.type, torch.bfloat16, enabled=name == BFLOAT16)

        def ours(substep: str) -> float:
            with autocast():
                if substep == "begin":
                    context.update(stage.begin(clip, torch.Generator()))
                    return 0.0
                parts = stage.parts(context, substep)
            adam.zero_grad()
            loss = torch.zeros((), device=self.device)
            for part in parts:
                with autocast():
                    share = stage(context, substep, part)["loss"].sum() / part.of
                share.backward()
                loss += share.detach()
            adam.step()
            return loss.item()

        return ours


@dataclass
class Times:
    """Shortest seconds and the loss of every kind of substep."""

    seconds: dict[str, float] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)

    @property
    def iteration(self) -> float:
        """Seconds of the 5 + 3 + 3 substeps; reversed interpolation costs what forward costs."""
        return sum(count * self.seconds[substep] for substep, count in SUBSTEPS.items())

    def __str__(self) -> str:
        s = self.seconds
        parts = f"begin {s['begin']:.2g}, reconstruction {s['reconstruction 1']:.3g} + 4 x {s['reconstruction 2']:.3g}"
        return f"{self.iteration:.1f} s ({parts}, 2 x interpolation {s['forward 1']:.3g} + 2 x {s['forward 2']:.3g})"

    def deviation(self, other: Times) -> float:
        """Largest relative difference of a loss; NaN where one is not finite."""
        mine, theirs = (torch.tensor([row.losses[name] for name in SUBSTEPS if name != "begin"]) for row in (self, other))
        return float((mine / theirs - 1).abs().max())


def flow_stage_against_naive(data_root: Path, device: torch.device, say: Say) -> None:
    """A published iteration (`original`, 4 frames of 64 px, 5 + 3 + 3 substeps) by every form: time, memory, agreement of losses.

    The naive form comes twice: as an implementation that lets gradients reach the weights of all frozen networks, and with these frozen.

    Raises:
        ArithmeticError: the forms in float32 do not give the same losses.
    """
    job = Job(weights=str(data_root / "weights"), device=str(device))
    say("flow stage, original 64 px, 4 frames, published: an iteration of 5 + 3 + 3 substeps, composed of a first and a later one each")
    times = apart(time_forms, job, 10 if device.type == "cuda" else 2)
    memory = {name: apart(peak_of, job, name) for name in times}
    report(times, memory, say)
    if device.type == "cuda":
        say(f"  ours: {1 / times[OURS].iteration:.2f} clips a second, GPU utilisation {apart(utilisation, job)}")
        say(f"  {apart(compiled_features, job)}")


def report(times: dict[str, Times], memory: dict[str, float], say: Say) -> None:
    """A line for each form beside ours, and one for how well their losses agree; errors as `flow_stage_against_naive`."""
    ours = times[OURS]
    for name, row in times.items():
        line = f"  {name}: {row}, peak memory {memory[name]:.2f} GB"
        if name != OURS:
            line += f": {row.iteration / ours.iteration:.2f} x the time of ours, {memory[name] / memory[OURS]:.2f} x the memory"
        if name == BFLOAT16:
            line += f"; a loss is off by up to {row.deviation(ours):.1e}"
        say(line)
    found = {name: times[name].deviation(ours) for name in (FROZEN, ALL)}
    if not all(value <= TOLERANCE for value in found.values()):
        what = ", ".join(f"{name}: {value:.1e}" for name, value in found.items())
        raise ArithmeticError(f"Losses of the naive forms differ from ours by more than {TOLERANCE:g} of their value ({what}).")
    say(f"  losses in float32 differ from ours by at most {max(found.values()):.1e} of their value (allowed {TOLERANCE:g})")


def time_forms(job: Job, rounds: int) -> dict[str, Times]:
    """Every form on every kind of substep, the forms in turn."""
    device = torch.device(job.device)
    names = (OURS, BFLOAT16, FROZEN, ALL)
    forms, times = {name: job.form(name) for name in names}, {name: Times() for name in names}
    for _ in range(rounds):
        for substep in SUBSTEPS:
            for name in names:
                seconds, loss = timed(lambda step=forms[name], substep=substep: step(substep), device)
                times[name].seconds[substep] = min(seconds, times[name].seconds.get(substep, seconds))
                times[name].losses[substep] = loss
    return times


def apart(function: Callable[..., T], *arguments: object) -> T:
    """What a function returns in a fresh process that flushes denormal numbers from its start."""
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_flush_denormal, (True,)) as pool:
        return pool.submit(function, *arguments).result()


def peak_of(job: Job, name: str) -> float:
    """Largest memory in GB of a form's first reconstruction substep: allocated on the GPU, or resident in this process since its start."""
    step = job.form(name)
    step("begin"), step("reconstruction 1")
    return torch.cuda.max_memory_allocated() / 1e9 if torch.device(job.device).type == "cuda" else own_peak()


def own_peak() -> float:
    """Largest resident memory in GB of this program alone; `peak_memory` counts that of the process which started it on Linux."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM")), peak_memory())


def utilisation(job: Job) -> str:
    """Share of the time in which the GPU computed, in per cent, while ours took 20 substeps."""
    step = job.form(OURS)
    step("begin")
    for _ in range(20):
        step("reconstruction 2")
    try:
        return f"{torch.cuda.utilization()} %"
    except (ModuleNotFoundError, RuntimeError) as error:  # without NVIDIA's Python package, or where the driver does not tell
        return f"not available ({error})"


def compiled_features(job: Job) -> str:
    """VGG features of two pictures of 224 px, there and back, with torch.compile and without."""
    vgg = VGGFeatures(job.weights).to(job.device)
    image = torch.rand(2, 3, 224, 224, device=job.device, requires_grad=True)

    def run(network: Callable) -> Callable[[], None]:
        return lambda: sum(level.mean() for level in network(image)).backward()

    runs = [run(vgg), run(torch.compile(vgg))]
    try:
        in_turn(runs, 2, image.device)  # compiles
    except RuntimeError as error:
        return f"torch.compile is not available ({str(error).splitlines()[0]})"
    plain, compiled = in_turn(runs, 20, image.device)
    return f"VGG features there and back {plain * 1e3:.1f} ms, with torch.compile {compiled * 1e3:.1f} ms"


def in_turn(runs: list[Callable[[], object]], rounds: int, device: torch.device) -> list[float]:
    """Shortest seconds of several functions, called in turn."""
    times = [[timed(run, device)[0] for run in runs] for _ in range(rounds)]
    return [min(column) for column in zip(*times, strict=True)]


def timed(run: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Seconds that a function takes and what it returns; a GPU is waited for before the clock starts and before it stops."""
    wait_for(device)
    began = time.perf_counter()
    result = run()
    wait_for(device)
    return time.perf_counter() - began, result


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
