"""The published flow stage gives the numbers of the original, substep by substep, and its parts and processes change none of them."""

from __future__ import annotations

import json

import pytest
import torch
from golden_recipe import GOLDEN, golden_clip, golden_model

from vae4d.faithful import naive
from vae4d.faithful.repairs import PUBLISHED
from vae4d.faithful.stages import FlowStage
from vae4d.perceptual import PerceptualLoss, VGGFeatures

# The names of flow_stage.json by ours.
FIELDS = {"l1": "loss l1", "l2": "loss l2", "still l1": "default l1", "still l2": "default l2", "cosine": "cos sim"}
FIELDS["perceptual"] = "perceptual"


def train_clip(stage: FlowStage, frames: torch.Tensor, lr: float = 2e-4) -> list[dict[str, float]]:
    """Every substep of one clip with one Adam; mean losses a substep."""
    parameters = [p for name in ("encoder_flow", "flow_correction") for p in stage.model.get_submodule(name).parameters()]
    adam = torch.optim.Adam(parameters, lr=lr, betas=(0.9, 0.999))
    stage.model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    stage.train()
    context = stage.begin({"frames": frames[None], "times": torch.linspace(0, 1, len(frames))[None]}, torch.Generator())
    rows = []
    for substep in stage.substeps:
        adam.zero_grad()
        sums: dict[str, float] = {}
        for part in stage.parts(context, substep):
            losses = stage(context, substep, part)
            (losses["loss"].sum() / part.of).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.sum().item() / part.of
        adam.step()
        rows.append(sums)
    return rows


def change(model, before) -> dict[str, float]:
    """L2 norm of the change of all parameters of each trained module."""
    after = model.state_dict()
    names = ("encoder_flow", "flow_correction")
    return {name: sum((after[k] - before[k]).square().sum() for k in before if k.startswith(name)).sqrt().item() for name in names}


@pytest.mark.parametrize("chunk", [4, pytest.param(None, marks=pytest.mark.slow)])
def test_the_published_flow_stage_is_the_original(weights, chunk):
    """Nine pairs and one triplet at 64 px; tolerances of tests/golden/README.md."""
    expected = json.loads((GOLDEN / "flow_stage.json").read_text())
    reconstruction, interpolation, changes = expected.values()
    model = golden_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stage = FlowStage(model, PerceptualLoss(weights), None, None, PUBLISHED, 2, 2, chunk=chunk)
    rows = train_clip(stage, golden_clip()[:3])
    blocks = reconstruction["blocks"] + interpolation["blocks"]
    assert len(rows) == len(stage.substeps) == len(blocks) / 2 == 6
    for number, (substep, row) in enumerate(zip(stage.substeps, rows, strict=True)):
        kind, index = substep.split()
        tolerance = {"reconstruction": 1e-3, "forward": 2e-2, "reversed": 5e-2}[kind] if index == "1" else 5e-2
        for name, block in zip(("partial", "full"), blocks[2 * number : 2 * number + 2], strict=True):
            for ours, theirs in FIELDS.items():
                exact = 1e-3 if (substep, ours) == ("forward 1", "perceptual") else tolerance
                assert row[f"{name} {ours}"] == pytest.approx(block[theirs], rel=exact), f"{substep}, {name} {ours}"
        assert row["flow"] == pytest.approx(block["reg"], rel=tolerance), substep
    assert rows[1]["loss"] == pytest.approx(reconstruction["loss_last"], rel=5e-2)
    assert rows[3]["loss"] + rows[5]["loss"] == pytest.approx(interpolation["loss_sum"], rel=5e-2)
    assert change(model, before) == pytest.approx(changes, rel=5e-2)


@pytest.mark.parametrize(
    ("name", "length", "height", "width", "chunk"),
    [("small", 3, 32, 48, 4), pytest.param("original", 4, 96, 64, None, marks=pytest.mark.slow)],
)
def test_the_published_flow_stage_is_its_plain_form(weights, name, length, height, width, chunk):
    """Other weights, clips, lengths and sizes than the golden ones: every figure of every substep."""
    frames = torch.rand(length, 3, height, width, generator=torch.Generator().manual_seed(3))
    stage = FlowStage(golden_model(name), PerceptualLoss(weights), None, None, PUBLISHED, 2, 1, chunk=chunk)
    rows = train_clip(stage, frames)
    model = golden_model(name)
    parameters = [*model.encoder_flow.parameters(), *model.flow_correction.parameters()]
    expected = naive.train_clip(model, VGGFeatures(weights), frames, torch.optim.Adam(parameters, lr=2e-4), 2, 1)
    for substep, row, plain in zip(stage.substeps, rows, expected, strict=True):
        for part, block in zip(("partial", "full"), plain["blocks"], strict=True):
            for ours, theirs in FIELDS.items():
                assert row[f"{part} {ours}"] == pytest.approx(block[theirs], rel=1e-3, abs=1e-7), f"{substep}, {part} {ours}"
        assert row["loss"] == pytest.approx(plain["loss"], rel=1e-3), substep
