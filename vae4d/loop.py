"""The training loop: steps and substeps, validation, checkpoints, and a stop that loses nothing."""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .clips.windows import augment, step_generator
from .runlog import RunLog
from .stages import Stage, validate

if TYPE_CHECKING:
    from .train import TrainConfig


@dataclass(frozen=True)
class TrainResult:
    """What a call of `train` did."""

    folder: Path
    steps: int  # done so far, over all calls
    finished: bool  # False: stopped by max_minutes, call again to go on
    best_psnr: float | None  # dB, validation
    loader_ms: float  # median wait for data per step in this call (NaN when no step ran)
    step_ms: float  # median time of the rest of a step


class StopRequest:
    """Turns an interrupt (Ctrl-C, SIGTERM, the notebook's stop button) into a stop between two steps; a second Ctrl-C acts at once.

    SIGTERM never acts at once: a notebook that is interrupted gets it seconds after the interrupt, in the middle of saving.
    """

    def __enter__(self) -> StopRequest:
        self.received: int | None = None
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # only there can signals be handled
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _handle(self, number: int, frame) -> None:
        self.received = number
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Loop:
    """The training loop: steps, validation, checkpoints, interruption."""

    def __init__(self, config: TrainConfig, stage, adam, accelerator, log: RunLog, total: int, progress: Callable[[str], None]):
        self.config, self.stage, self.adam, self.accelerator = config, stage, adam, accelerator
        self.log, self.total, self.progress = log, total, progress
        self.bare: Stage = accelerator.unwrap_model(stage)
        self.best: float | None = log.state.get("best_psnr")
        self.waits: list[float] = []
        self.works: list[float] = []

    def run(self, loader, held_out) -> TrainResult:
        """Steps from the log's step to the total."""
        config, began = self.config, time.monotonic()
        step = self.log.step
        if step:
            self.progress(f"{config.savepath}: {step} of {self.total} steps were done before")
        elif config.resume and (config.stage == "base" or self.bare.model.flow_trained):
            self.validate(0, held_out)  # a trained model that gets worse here is kept as it was
        self.stage.train()
        report = max(1, self.total // 20)
        with StopRequest() as stop:
            waiting = time.monotonic()
            for batch in loader:
                working = time.monotonic()
                losses = self.one_step(step, batch)
                step += 1
                done = time.monotonic()
                self.waits.append(working - waiting)
                self.works.append(done - working)
                self.log.write("losses", {"step": step} | losses | {"loader_seconds": self.waits[-1], "step_seconds": self.works[-1]})
                late = config.max_minutes and done - began > 60 * config.max_minutes
                last = step == self.total or late or stop.received is not None
                if step % config.valid_freq == 0 or step == self.total:
                    self.validate(step, held_out)
                if step % config.save_freq == 0 or last:
                    self.save(step)
                if step % report == 0 or last:
                    left = (done - began) / len(self.works) * (self.total - step)
                    pace = f"{self.works[-1]:.2f} s a step  about {left / 60:.1f} min left"
                    self.progress(f"step {step}/{self.total}  loss {losses['loss']:.4g}  {pace}")
                if last:
                    break
                waiting = time.monotonic()
        if stop.received is not None and step < self.total:
            self.progress(f"Interrupted: {step} steps are saved in {config.savepath}; the same call goes on from there.")
            raise KeyboardInterrupt
        if step >= self.total and not self.log.best.is_file():  # deleted since
            self.best = None
            self.keep_best(step, validate(self.bare, held_out))
        return self.result(step)

    def one_step(self, step: int, batch: dict) -> dict[str, float]:
        """All substeps on one batch; returns mean losses (of the last substep of each kind) and the gradient norm."""
        config, accelerator = self.config, self.accelerator
        rng = step_generator(config.seed, step, "step")
        row: dict[str, float] = {}
        if config.augment:
            batch = augment(batch, rng)  # a bad batch is saved as it was used
        with accelerator.autocast():
            context = self.bare.begin(batch, rng)
        for substep in self.bare.substeps:
            with accelerator.autocast():
                losses = self.stage(context, substep)
            loss = losses["loss"].mean()
            self.require_finite(step, batch, loss)
            self.adam.zero_grad()
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_([p for p in self.bare.model.parameters() if p.requires_grad], config.clip_grad or math.inf)
            if accelerator.scaler is None:  # the fp16 scaler skips a step with an overflow by itself
                self.require_finite(step, batch, norm)
            self.adam.step()
            kind = substep.split()[0]
            prefix = "" if len(self.bare.substeps) == 1 else f"{kind} "
            row |= {f"{prefix}{name}": value.mean().item() for name, value in losses.items()}
            row["gradient_norm"] = float(norm)
        row.setdefault("loss", sum(value for name, value in row.items() if name.endswith(" loss")))
        return row

    def require_finite(self, step: int, batch: dict, value: Tensor) -> None:
        if not torch.isfinite(value):
            raise self.log.bad_batch(step + 1, batch, value.item())  # counted as in losses.csv

    def validate(self, step: int, held_out) -> None:
        """Score the validation windows; the best weights so far are kept."""
        psnr = validate(self.bare, held_out)
        self.log.write("validation", {"step": step, "psnr": psnr})
        self.progress(f"step {step}/{self.total}  validation {psnr:.2f} dB")
        self.keep_best(step, psnr)

    def keep_best(self, step: int, psnr: float) -> None:
        if self.best is None or psnr > self.best:
            self.best = psnr
            self.log.save_best(self.bare.model, self.bare.name, {"step": step, "valid_psnr": psnr} | self.recipe())

    def save(self, step: int) -> None:
        scaler = self.accelerator.scaler
        state = {"step": step, "best_psnr": self.best} | ({"scaler": scaler.state_dict()} if scaler is not None else {})
        self.log.save(self.bare.model, self.bare.name, self.adam.optimizer, state | self.recipe())

    def recipe(self) -> dict:
        return {"recipe": dataclasses.asdict(self.config), "data": self.log.identity["data"]}

    def result(self, step: int) -> TrainResult:
        wait, work = (1000 * float(torch.tensor(times or [math.nan]).median()) for times in (self.waits, self.works))
        if self.works:
            self.progress(f"a step waits {wait:.1f} ms for data and computes for {work:.0f} ms (medians)")
        return TrainResult(Path(self.config.savepath), step, step >= self.total, self.best, wait, work)
