"""The two training stages as modules whose forward pass is a loss (specification sections 4 and 6).

A stage turns a batch of clips into a `context` without gradient (`begin`); for every substep of the optimiser it names the parts that are
computed one after the other (`parts`), and `forward` gives the losses of one part. So whatever does not change between substeps is
computed once, and memory is that of a part. Losses are per-sample values, (N,), by name; `loss` is the one to minimise.

Conventions: clips (B, T, 3, H, W) in [0, 1]; times (B, T), 0 at the first frame and 1 at the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..metrics import mse, psnr_of_mse
from ..parallel import share, total
from .base_stage import BaseStage
from .flow_stage import FlowStage

__all__ = ["BaseStage", "FlowStage", "Stage", "validate"]

Stage = BaseStage | FlowStage


@torch.no_grad()
def validate(stage: Stage, batches: Sequence[dict[str, Tensor]], clip_length: int) -> dict[str, float]:
    """PSNR in dB of the pooled squared error of `stage.predict`, and the mean of `stage.held_out_loss`; each process takes its share.

    Args:
        batches: windows of held-out clips, (1, T, 3, H, W); the loss takes their first `clip_length` frames.
    The stage is left in train mode.
    """
    stage.eval()
    error, frames, losses = 0.0, 0, []
    for batch in share(batches):
        errors = mse(*stage.predict(batch["frames"], batch["times"]))
        error, frames = error + float(errors.sum()), frames + len(errors)
        start = batch | {"frames": batch["frames"][:, :clip_length], "times": batch["times"][:, :clip_length]}
        losses.append(stage.held_out_loss(stage.begin(start, torch.Generator().manual_seed(0))))
    stage.train()
    sums = torch.tensor([error, frames, sum(losses), len(losses)], dtype=torch.float64, device=next(stage.parameters()).device)
    error, frames, loss, count = total(sums).tolist()
    return {"psnr": float(psnr_of_mse(error / frames)), "loss": loss / count}
