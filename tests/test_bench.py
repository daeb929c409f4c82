"""The measurements run and say what they compare; no figure of time or memory is checked."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from vae4d.bench import flow, run, sharp
from vae4d.bench.flow import ALL, BFLOAT16, FROZEN, OURS, SUBSTEPS, Job, Times
from vae4d.perceptual import VGGFeatures

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def job(weights) -> Job:
    return Job("small", 3, 32, str(weights))


@pytest.fixture(scope="module")
def times(job) -> dict[str, Times]:
    """With pictures of 32 px for VGG, as those of 224 px take a minute."""
    whole = VGGFeatures.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VGGFeatures, "forward", lambda self, image, size: whole(self, image, 32))
        return flow.time_forms(job, 1)


def test_all_forms_compute_the_same_losses(times):
    assert list(times) == [OURS, BFLOAT16, FROZEN, ALL]
    for row in times.values():
        assert list(row.seconds) == list(row.losses) == list(SUBSTEPS)
        assert all(loss > 0 for name, loss in row.losses.items() if name != "begin")
    for name in (FROZEN, ALL):
        assert times[name].deviation(times[OURS]) < 1e-4
    assert 0 < times[BFLOAT16].deviation(times[OURS]) < 0.1


def test_the_optimiser_moves_nothing_and_gradients_reach_what_is_asked(job):
    for all_weights in (False, True):
        model, adam = job.model(all_weights)
        asks = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert ("encoder_3d" in asks, "encoder_flow" in asks) == (all_weights, True)
        before = {name: value.clone() for name, value in model.encoder_flow.state_dict().items()}
        sum(parameter.square().sum() for parameter in model.encoder_flow.parameters()).backward()
        adam.step()
        assert all(torch.equal(value, before[name]) for name, value in model.encoder_flow.state_dict().items())


def test_an_iteration_is_composed_of_its_substeps():
    seconds = {"begin": 1.0, "reconstruction 1": 10.0, "reconstruction 2": 7.0, "forward 1": 3.0, "forward 2": 2.0}
    row = Times(seconds)
    assert row.iteration == 1 + (10 + 4 * 7) + 2 * (3 + 2 * 2)
    assert str(row) == "53.0 s (begin 1, reconstruction 10 + 4 x 7, 2 x interpolation 3 + 2 x 2)"


def test_the_report_prints_ratios_and_refuses_other_losses(times):
    lines: list[str] = []
    memory = {OURS: 1.0, BFLOAT16: 0.5, FROZEN: 3.0, ALL: 4.0}
    flow.report(times, memory, lines.append)
    assert [line.strip().split(":")[0] for line in lines[:4]] == list(times)
    assert "x the time of ours, 3.00 x the memory" in lines[2] and "a loss is off by up to" in lines[1]
    assert lines[4].startswith("  losses in float32 differ from ours by at most")
    for wrong in (1.01, float("nan")):
        altered = times[FROZEN].losses | {"forward 2": times[FROZEN].losses["forward 2"] * wrong}
        said = r"differ from ours by more than 0\.001 of their value \(naive, frozen weights: (1\.0e-02|nan), naive, grad"
        with pytest.raises(ArithmeticError, match=said):
            flow.report(times | {FROZEN: dataclasses.replace(times[FROZEN], losses=altered)}, memory, lines.append)


def facts() -> tuple[float, float]:
    """The largest memory of the process that calls this, and half of a denormal number in it."""
    return flow.own_peak(), float(torch.tensor(1e-39) * 0.5)


def test_a_process_of_its_own_flushes_denormals_and_counts_its_own_memory():
    held = torch.ones(100_000_000)  # 0.4 GB of this process, which the other must not count
    before = flow.own_peak()
    assert before > 0.4 and held[0] == 1
    peak, halved = flow.apart(facts)
    assert 0.05 < peak < before - 0.3 and halved == 0


def test_frames_in_between_are_those_of_the_naive_form():
    lines: list[str] = []
    run.frame_against_naive(CPU, lines.append, "small", 32)
    assert [line.split(":")[0] for line in lines] == [
        "small 32 px, published, a frame in between, codes kept",
        "small 32 px, published, three, one frame encoded",
    ]
    for line in lines:
        assert " x; largest difference" in line and float(line.rsplit(" ", 1)[1]) < 1e-5


def number(line: str, after: str) -> float:
    """The number that stands behind some words of a line."""
    return float(line.split(after, 1)[1].split()[0].rstrip(",;"))


def test_a_sharp_frame_is_timed_beside_flow_and_ffmpeg():
    lines: list[str] = []
    sharp.frame_in_between(lines.append, 64, 1)
    assert len(lines) == 3 and lines[0].startswith("sharp 64 px, float32") and "once a pair" in lines[0]
    ours = number(lines[0], "a frame in between ")
    for line, name in zip(lines[1:], ("DIS", "minterpolate"), strict=True):
        assert name in line and ours > 0 and line.endswith(" x as long")


def test_bfloat16_is_another_picture_but_hardly():
    lines: list[str] = []
    sharp.bfloat16(lines.append, 64, 1)
    assert 0 < number(lines[0], "off by at most ") < 0.1


def test_tiles_give_the_same_picture(monkeypatch):
    monkeypatch.setattr(sharp, "apart", lambda function, *arguments: function(*arguments))  # a process each takes seconds
    lines: list[str] = []
    sharp.tiles(lines.append, 384, 320, 256)
    assert number(lines[0], "difference of a pixel ") < 1e-4 and "in tiles of 256 px" in lines[0]
    alone = sharp.tiled(64, 72, None)[1]
    assert alone.shape == (1, 3, 64, 72) and alone.std() > 0.05


def test_every_part_of_the_measured_model_says_something():
    model, (first, second) = sharp.busy(), sharp.moved(64, 64)
    assert all(bool(parameter.any()) for parameter in model.parameters() if parameter.ndim > 1)
    assert torch.equal(first[..., 2:, 4:], second[..., :-2, :-4])  # 4 px to the left, 2 px up
    with torch.no_grad():
        made = model.synthesise(first, second, 0.5)
    assert all(float(part.abs().max()) > 1e-3 for part in (*made.motion, made.voxel_flow, made.weights[:, 2]))
