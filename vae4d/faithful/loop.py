"""The training loop: steps and substeps, validation, checkpoints, and a stop that loses nothing."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..clips.windows import augment, step_generator
from ..parallel import average, maximum, rank, reduce_gradients
from ..progress import Say
from ..training.result import TrainResult
from ..training.runlog import RunLog
from ..training.stop import StopRequest
from .repairs import Repairs
from .stages import Stage, validate

if TYPE_CHECKING:
    from .train import TrainConfig

MILESTONES = (80_000, 120_000, 160_000, 200_000)  # steps after which the published system halves its learning rates


def learning_rate_factor(step: int, lr_adj: float = 1.0) -> float:
    """The factor on the learning rates in step `step` (from 0): 1, 1/2, 1/4, 1/8, 1/16, changing at MILESTONES * lr_adj."""
    return 0.5 ** sum(step >= milestone * lr_adj for milestone in MILESTONES)


class Loop:
    """The training loop: steps, validation, checkpoints, interruption.

    Args:
        adams: optimisers by name: "model", and "critic" where the stage has one.
    """

    def __init__(self, config: TrainConfig, stage: Stage, adams, accelerator, log: RunLog, progress: Say):
        self.config, self.stage, self.adams, self.accelerator = config, stage, adams, accelerator
        self.log, self.total = log, log.total
        self.progress = progress if not rank() else lambda line: None
        self.best: float | None = log.state.get("best_psnr")
        self.waits: list[float] = []
        self.works: list[float] = []

    def run(self, loader, held_out) -> TrainResult:
        """Steps from the log's step to the total."""
        config, began = self.config, time.monotonic()
        step = self.log.step
        if step:
            self.progress(f"{config.savepath}: {step} of {self.total} steps were done before")
        elif config.resume and (config.stage == "base" or self.stage.model.flow_trained):
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
                last = step == self.total or self.agreed(late or stop.received is not None)
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
        if step >= self.total and self.agreed(self.keeps_best and not self.log.best.is_file()):  # deleted since
            self.best = None
            self.keep_best(step, self.score(held_out)["psnr"])
        return self.result(step)

    def agreed(self, mine: bool) -> bool:
        """Whether any process says yes: all of them stop after the same step."""
        return bool(maximum(torch.tensor(float(mine), device=self.accelerator.device)))

    def one_step(self, step: int, batch: dict) -> dict[str, float]:
        """All substeps on one batch; returns mean losses (of the last substep of each kind) and the largest gradient norm."""
        config, accelerator, stage = self.config, self.accelerator, self.stage
        rng = step_generator(config.seed, step, "step")
        if config.augment:
            batch = augment(batch, rng, config.batch)  # a bad batch is saved as it was used
        batch = self.moved(batch)
        factor = learning_rate_factor(step, config.lr_adj)
        for name, adam in self.adams.items():
            for group in adam.param_groups:
                group["lr"] = factor * (config.lr if name == "model" else config.d_lr)
        with accelerator.autocast():
            context = stage.begin(batch, rng)
        row: dict[str, float] = {}
        norms = []
        for substep in stage.substeps:
            network, adam = (stage.critic, self.adams["critic"]) if substep == "critic" else (stage.model, self.adams["model"])
            if stage.critic is not None:
                stage.critic.requires_grad_(substep == "critic")  # its verdict teaches the model, not itself
            parameters = [p for p in network.parameters() if p.requires_grad]
            adam.zero_grad()
            losses = self.backward(context, substep)
            self.require_finite(step, batch, losses["loss"])
            reduce_gradients(parameters)
            if substep == "critic":
                norm = torch.nn.utils.clip_grad_norm_(parameters, math.inf)
            else:
                norm = accelerator.clip_grad_norm_(parameters, config.clip_grad or math.inf)
            if substep == "critic" or accelerator.scaler is None:  # the fp16 scaler skips a step with an overflow by itself
                self.require_finite(step, batch, norm.item())
            adam.step()
            norms.append(norm.item())
            kind = substep.split()[0]
            prefix = "" if kind == "base" else f"{kind} "
            row |= {f"{prefix}{name}": value for name, value in losses.items()}
        row.setdefault("loss", sum(value for name, value in row.items() if name.endswith(" loss")))
        return row | {"gradient_norm": max(norms), "lr": factor * config.lr}

    def backward(self, context: dict, substep: str) -> dict[str, float]:
        """Gradients of one substep, gathered over its parts; returns the mean losses over the parts of all processes.

        The critic is small and is trained in float32, without the scaler of fp16, which knows the model's optimiser alone.
        """
        critic = substep == "critic"
        with self.accelerator.autocast():
            parts = self.stage.parts(context, substep)
        sums: dict[str, Tensor] = {}
        count = 0
        for part in parts:
            with nullcontext() if critic else self.accelerator.autocast():
                losses = self.stage(context, substep, part)
            samples = len(losses["loss"])
            whole = part.of if part is not None else samples
            loss = losses["loss"].sum() / whole
            loss.backward() if critic else self.accelerator.backward(loss)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach().sum()
            count += samples
        means = average(torch.stack([value.double() for value in sums.values()]) / count)
        return dict(zip(sums, means.tolist(), strict=True))

    def moved(self, batch: dict) -> dict:
        """A batch on the device of the run."""
        device = self.accelerator.device
        return {name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value for name, value in batch.items()}

    def require_finite(self, step: int, batch: dict, value: float) -> None:
        if not math.isfinite(value):
            raise self.log.bad_batch(step + 1, batch, value)  # counted as in losses.csv

    def score(self, held_out: list[dict]) -> dict[str, float]:
        """PSNR and loss of the held-out windows."""
        batches = [self.moved({name: value[None] for name, value in item.items() if isinstance(value, Tensor)}) for item in held_out]
        return validate(self.stage, batches, self.config.frames)

    def validate(self, step: int, held_out: list[dict]) -> None:
        """Score the validation windows; the best weights so far are kept."""
        row = self.score(held_out)
        self.log.write("validation", {"step": step} | row)
        self.progress(f"step {step}/{self.total}  validation {row['psnr']:.2f} dB  loss {row['loss']:.4g}")
        self.keep_best(step, row["psnr"])

    @property
    def keeps_best(self) -> bool:
        """Row 7 of the defect table: the published flow stage never writes its best checkpoint."""
        return self.stage.name == "base" or Repairs.parse(self.config.semantics).keep_best

    def keep_best(self, step: int, psnr: float) -> None:
        if self.best is None or psnr > self.best:
            self.best = psnr
            if self.keeps_best:
                self.log.save_best(self.stage.model, self.stage.name, {"step": step, "valid_psnr": psnr} | self.log.recipe(self.config))

    def save(self, step: int) -> None:
        scaler = self.accelerator.scaler
        state = {"step": step, "best_psnr": self.best} | ({"scaler": scaler.state_dict()} if scaler is not None else {})
        adams = {name: getattr(adam, "optimizer", adam) for name, adam in self.adams.items()}
        self.log.save(self.stage, adams, state | self.log.recipe(self.config))

    def result(self, step: int) -> TrainResult:
        wait, work = (1000 * float(torch.tensor(times or [math.nan]).median()) for times in (self.waits, self.works))
        if self.works:
            self.progress(f"a step waits {wait:.1f} ms for data and computes for {work:.0f} ms (medians)")
        return TrainResult(Path(self.config.savepath), step, step >= self.total, self.best, wait, work)
