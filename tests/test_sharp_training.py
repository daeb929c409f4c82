"""What the sharp model is trained on, its losses, and its training run."""

from __future__ import annotations

import csv
import dataclasses
import json

import pytest
import torch
from test_sharp_model import perturbed
from torch import Tensor

from vae4d import load_model
from vae4d.checkpoint import read_checkpoint, save_checkpoint
from vae4d.config import PRESETS
from vae4d.errors import CheckpointError, ConfigError
from vae4d.files import sha256
from vae4d.geometry import compose, invert
from vae4d.scenes import WorldOptions, load_textures
from vae4d.scenes.collage import Sample
from vae4d.sharp import losses, samples, training
from vae4d.sharp.camera import displacement, homogeneous, rays, solve_twist, twist_matrix
from vae4d.sharp.features import sample
from vae4d.sharp.geometry import Guess
from vae4d.sharp.model import SharpAutoencoder4D, pixels_of
from vae4d.sharp.training import SharpTrainConfig, train_sharp

SIZE = 64
TINY = dataclasses.replace(
    PRESETS["sharp"], frame_size=64, planes=4, code_channels=4, feature_channels=(8, 8), hidden_channels=4, matching_channels=16,
    geometry_channels=(8, 8, 8, 8), volume_channels=8, fusion_channels=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def textures():
    return load_textures(split="train")


@pytest.fixture(scope="module")
def worlds(textures) -> Sample:
    return samples.draw_worlds([7, 8], SIZE, WorldOptions(kinds=("plane", "box", "sphere")), textures)


def truth_of(one: Sample) -> tuple[Tensor, Tensor, Tensor]:
    """Camera's motion in rays from first to second, at target's pixels, its depth, the pose, in units of the median depth."""
    median = one.depth.flatten(1).median(1).values.view(-1, 1, 1)
    pose = torch.cat([one.pose[:, :, :3], one.pose[:, :, 3:] / median], dim=2)
    return one.flow1 - one.flow0, median / one.depth, pose


def test_worlds_come_with_their_truth(worlds):
    assert worlds.first.shape == (2 * samples.MOMENTS, 3, SIZE, SIZE)
    near, far = sample(worlds.first, worlds.flow0), sample(worlds.second, worlds.flow1)
    for moved, visible, plain in ((near, worlds.visible0, worlds.first), (far, worlds.visible1, worlds.second)):
        error, before = ((x - worlds.target).abs().mean(1)[visible].mean() for x in (moved, plain))
        assert error < 0.02 and error < before


def test_the_pose_of_a_still_world_is_the_camera_between_its_ends(textures):
    """The least-squares twist of the true motion is the true camera: conventions of pose, depth, motion and twist agree."""
    options = WorldOptions(still_worlds=1.0, still_cameras=0.0, camera_motion=(3.0, 6.0), kinds=("plane", "box", "sphere"))
    one = samples.joined([samples.draw_worlds([seed], SIZE, options, textures) for seed in (3, 4, 5, 6)])
    half = (one.t - 0.5).abs() < 0.2
    motion, depth, pose = truth_of(one)
    ray, pixels = rays(SIZE, SIZE, one.focal), pixels_of(one.focal, SIZE)
    xi = torch.zeros(len(depth), 6)
    for _ in range(3):
        xi = solve_twist(motion / pixels, ray, depth, torch.ones_like(depth), xi)
    found = twist_matrix(xi)
    off = compose(invert(pose), found[:, :3])
    angle = torch.rad2deg((off[:, :, :3] - torch.eye(3)).flatten(1).norm(dim=1) / 2**0.5)
    assert half.any() and angle[half].max() < 0.15
    exact = displacement(homogeneous(invert(pose)), ray, depth)
    back = displacement(torch.linalg.inv(found), ray, depth)
    assert ((exact - back) * pixels).norm(dim=1).mean((1, 2))[half].max() < 0.4  # px


def test_a_pool_is_drawn_once_and_kept(tmp_path, textures):
    said: list[str] = []
    how = (3, SIZE, 11, WorldOptions(kinds=("plane",)), textures, tmp_path, torch.device("cpu"))
    pool = samples.world_pool(*how, said.append)
    assert len(pool) == 3 * samples.MOMENTS and "3 of 3" in said[-1]
    kept = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    said.clear()
    again = samples.world_pool(*how, said.append)
    assert not said and sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == kept
    index = torch.tensor([4, 0])
    one, two = pool.take(index, torch.device("cpu")), again.take(index, torch.device("cpu"))
    assert all(torch.equal(getattr(one, f.name), getattr(two, f.name)) for f in dataclasses.fields(Sample))
    assert one.first.dtype == torch.float32 and one.first.min() >= 0 and one.first.max() <= 1


def test_a_batch_depends_on_seed_and_step_alone_and_the_nearer_frame_comes_first(textures, worlds):
    pool = samples.WorldPool(samples.WorldPool.packed(worlds))
    source = samples.Source(SIZE, textures, pool, 0.5, torch.device("cpu"), seed=5)
    one, two, other = source.batch(4, 3), source.batch(4, 3), source.batch(4, 4)
    assert torch.equal(one.target, two.target) and not torch.equal(one.target, other.target)
    assert one.target.shape == (4, 3, SIZE, SIZE) and one.t.max() <= 0.5


def test_mirrored_and_swapped_samples_are_still_true(worlds):
    for changed in (samples.mirrored(worlds), samples.nearer_first(worlds), samples.nearer_first(samples.mirrored(worlds))):
        error = (sample(changed.second, changed.flow1) - changed.target).abs().mean(1)[changed.visible1].mean()
        assert error < 0.02
        motion, depth, pose = truth_of(changed)
        ray, pixels = rays(SIZE, SIZE, changed.focal), pixels_of(changed.focal, SIZE)
        camera = displacement(homogeneous(invert(pose)), ray, depth) * pixels
        middle = ((changed.t - 0.5).abs() < 0.2)[:, None, None] & ~changed.own
        if middle.any():  # to first order a pixel of the middle moves as the camera says
            assert (camera - motion).norm(dim=1)[middle].median() < 1.0


def test_the_truth_has_no_loss_and_its_terms_are_what_they_say(worlds):
    """A model's belief replaced by the truth costs nothing; a motion off by 2 px costs 2 px, a log depth off by half costs half."""
    torch.manual_seed(0)
    batch = samples.nearer_first(worlds)
    batch = dataclasses.replace(batch, t=torch.full_like(batch.t, 0.5))  # the pair's grid is then that of the truth
    model = SharpAutoencoder4D(TINY)
    first, second = model.encode(batch.first), model.encode(batch.second)
    made = model.make(first, second, model.one_way(first, second, batch.focal), batch.t.view(-1, 1, 1, 1), batch.focal)
    motion, depth, _ = truth_of(batch)

    standing = (torch.nn.functional.avg_pool2d(batch.own[:, None].float(), 4)[:, 0] < 0.1).float()

    def with_motion(shift: float) -> dict[str, Tensor]:
        off = torch.tensor([shift, 0.0]).view(1, 2, 1, 1)
        coarse = torch.nn.functional.avg_pool2d(motion, 4) + off
        inverse = torch.nn.functional.avg_pool2d(depth[:, None], 4)[:, 0]
        pair = dataclasses.replace(made.pair, matched=coarse, rounds=(Guess(inverse.log() + shift / 4, standing),))
        fused = dataclasses.replace(made.fused, motion=(batch.flow0 + off, batch.flow1 + off))
        scene = dataclasses.replace(made.scene, inverse_depth=inverse)
        return losses.truth_terms(dataclasses.replace(made, pair=pair, motions=(coarse,) * 3, fused=fused, scene=scene), batch)

    right, wrong = with_motion(0.0), with_motion(2.0)
    assert right["flow"].max() < 1e-5 and right["depth"].max() < 2e-3 and right["prior"].max() < 2e-3 and right["still"].max() < 1e-3
    assert wrong["prior"].mean() == pytest.approx(0.5, rel=0.01)
    seen = (batch.visible0 & batch.visible1, batch.visible0, batch.visible1)
    weight = [losses.HIDDEN + (1 - losses.HIDDEN) * v.float().mean() for v in seen]
    assert float(wrong["flow"].mean()) == pytest.approx(1.9 * float(2 * weight[0] + weight[1] + weight[2]), rel=0.02)


def test_geometry_learns_from_the_truth_of_depth_and_of_what_stands_still_alone(worlds):
    model, batch = perturbed(TINY), samples.nearer_first(worlds)
    first, second = model.encode(batch.first), model.encode(batch.second)
    made = model.make(first, second, model.one_way(first, second, batch.focal), batch.t.view(-1, 1, 1, 1), batch.focal)
    assert not made.pair.xi.requires_grad and made.pair.xi.abs().max() > 0
    known = torch.ones(len(batch.t), dtype=torch.bool)
    found = losses.losses(made, batch, known, losses.WEIGHTS)
    found |= losses.losses(made, batch, ~known, losses.WEIGHTS)
    parameters = list(model.geometry.parameters())
    for name in found.keys() - {"loss"}:
        grads = torch.autograd.grad(found[name], parameters, retain_graph=True, allow_unused=True)
        assert any(g is not None and bool(g.any()) for g in grads) == (name in ("prior", "still")), name
    assert {"parallax", "sparse", "camera", "depth", "image"} <= found.keys()


def test_video_terms_need_no_truth(worlds):
    torch.manual_seed(0)
    model = SharpAutoencoder4D(TINY)
    known = torch.zeros(len(worlds.t), dtype=torch.bool)
    batch = samples.nearer_first(worlds)
    first, second = model.encode(batch.first), model.encode(batch.second)
    made = model.make(first, second, model.one_way(first, second, batch.focal), batch.t.view(-1, 1, 1, 1), batch.focal)
    found = losses.losses(made, batch, known, losses.WEIGHTS)
    assert {"parallax", "sparse", "image"} <= found.keys() and "flow" not in found
    assert "flow" in losses.losses(made, batch, ~known, losses.WEIGHTS)
    assert found["loss"].isfinite()


@pytest.fixture
def tiny(monkeypatch) -> None:
    """The training at a size that takes seconds."""
    monkeypatch.setitem(PRESETS, "sharp", TINY)
    monkeypatch.setattr(training, "VALIDATED", 2)


def options(folder, **changes) -> SharpTrainConfig:
    how = {"steps": 6, "bsize": 2, "size": SIZE, "worlds": 0, "world_share": 0.0, "valid_freq": 3, "save_freq": 2, "mixed_precision": "no"}
    return SharpTrainConfig(savepath=str(folder), data_root=str(folder.parent / "data"), **how | changes)


def rows(folder) -> list[dict[str, str]]:
    with (folder / "losses.csv").open(encoding="utf-8") as stream:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(stream)]


def test_a_run_that_is_interrupted_goes_on_as_if_it_had_not_been(tmp_path, tiny, monkeypatch):
    whole = train_sharp(options(tmp_path / "whole"), lambda line: None)
    assert whole.finished and whole.steps == 6 and whole.checkpoint.name == "best.safetensors"
    model = load_model(whole.checkpoint)
    assert isinstance(model, SharpAutoencoder4D)

    told: list[str] = []
    ticks = iter(range(0, 100_000, 40))
    with monkeypatch.context() as patch:
        patch.setattr(training.time, "monotonic", lambda: float(next(ticks)))
        part = train_sharp(options(tmp_path / "parts", max_minutes=1.0), told.append)
    assert not part.finished and 0 < part.steps < 6
    rest = train_sharp(options(tmp_path / "parts"), told.append)
    assert rest.finished and f"{part.steps} of 6 steps were done before" in "".join(told)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    again = load_model(rest.checkpoint)
    assert all(torch.equal(x, y) for x, y in zip(model.parameters(), again.parameters(), strict=True))
    assert train_sharp(options(tmp_path / "parts"), told.append).steps == 6  # at once


def test_gradients_join_when_matching_has_learnt_alone(tmp_path, tiny):
    run = training.Run(options(tmp_path / "run"), lambda line: None)
    trust = []
    for step in range(6):
        run.one_step(step)
        trust.append((run.model.subpixel.trust.item(), run.average.subpixel.trust.item()))
    assert trust[:5] == [(0, 0)] * 5  # six steps, seven tenths of them alone
    assert trust[5] == pytest.approx((1, 1), abs=0.01) and trust[5][0] != 1  # it learns from then on
    start = save_checkpoint(tmp_path / "start.safetensors", run.model, "sharp")
    again = training.Run(options(tmp_path / "again", resume=str(start)), lambda line: None)
    again.one_step(0)
    assert again.model.subpixel.trust.item() == pytest.approx(1, abs=0.01)  # weights that trust them go on with them


def test_motions_grow_at_first_unless_the_weights_are_trained(tmp_path, tiny, monkeypatch):
    reaches: list[float] = []
    batch = samples.Source.batch

    def noted(self, count, step, reach=1.0):
        reaches.append(reach)
        return batch(self, count, step, reach)

    monkeypatch.setattr(samples.Source, "batch", noted)
    run = training.Run(options(tmp_path / "run", steps=8), lambda line: None)
    start = save_checkpoint(tmp_path / "start.safetensors", run.model, "sharp")
    again = training.Run(options(tmp_path / "again", steps=8, resume=str(start)), lambda line: None)
    for one in (run, again):
        for step in (0, 1, 2, 7):
            one.batch(step)
    assert reaches == pytest.approx([0.3, 0.65, 1, 1] + [1] * 4)


def test_what_was_best_before_the_gradients_joined_does_not_count(tmp_path, tiny, monkeypatch):
    scores = {3: 40.0, 6: 30.0, 9: 20.0, 10: 10.0}  # they join after step 7
    how = options(tmp_path / "run", steps=10)

    def validation(*_):
        return {"psnr": scores[run.log.step + len(run.times)]}

    with monkeypatch.context() as patch:
        patch.setattr(training, "validation", validation)
        patch.setattr(training.RunLog, "save_best", lambda self, model, stage, state: kept.append(state["step"]))
        kept: list[int] = []
        run = training.Run(dataclasses.replace(how, max_minutes=1e-9), lambda line: None)
        while not run.go().finished:  # stopped after every step, and gone on with
            run = training.Run(dataclasses.replace(how, max_minutes=1e-9), lambda line: None)
    assert kept == [3, 9] and run.log.state["best_psnr"] == 20.0


def test_a_run_knows_its_models_sizes(tmp_path, tiny, monkeypatch):
    train_sharp(options(tmp_path / "run", steps=1), lambda line: None)
    monkeypatch.setitem(PRESETS, "sharp", dataclasses.replace(TINY, geometry_channels=(8, 8, 8, 4)))
    with pytest.raises(ConfigError, match=r"other options \(model\.geometry_channels \[8, 8, 8, 8\] -> \[8, 8, 8, 4\]\)"):
        train_sharp(options(tmp_path / "run", steps=1), lambda line: None)


def test_a_checkpoint_names_no_place(tmp_path, tiny):
    first = train_sharp(options(tmp_path / "first", steps=1), lambda line: None)
    second = train_sharp(options(tmp_path / "second", steps=1, resume=str(first.checkpoint)), lambda line: None)
    meta = read_checkpoint(second.checkpoint)[0]
    assert str(tmp_path) not in json.dumps(meta) and meta["extra"]["recipe"]["resume"] == sha256(first.checkpoint)


def test_training_lowers_the_loss_on_one_batch(tiny, tmp_path, monkeypatch):
    run = training.Run(options(tmp_path / "run", steps=60, lr=2e-3), lambda line: None)
    one = run.batch(0)
    monkeypatch.setattr(run, "batch", lambda step: one)
    monkeypatch.setattr(training, "WARM_UP", 1)
    values = [run.one_step(step)["flow"] for step in range(40)]
    run.log.close()
    assert sum(values[-5:]) < 0.8 * sum(values[:5])


def test_other_options_are_refused_or_put_aside(tmp_path, tiny):
    train_sharp(options(tmp_path / "run", steps=1), lambda line: None)
    with pytest.raises(ConfigError, match=r"lr 0\.001 -> 0\.002"):
        train_sharp(options(tmp_path / "run", steps=1, lr=2e-3), lambda line: None)
    train_sharp(options(tmp_path / "run", steps=1, lr=2e-3, restart=True), lambda line: None)
    assert (tmp_path / "run.old-1" / "best.safetensors").is_file()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(tmp_path, tiny, monkeypatch):
    from vae4d.errors import TrainingError

    train_sharp(options(tmp_path / "run", steps=2), lambda line: None)
    before = (tmp_path / "run" / "newest.safetensors").read_bytes()
    batch = training.Run.batch

    def broken(self, step):
        sample, known = batch(self, step)
        return dataclasses.replace(sample, target=sample.target * float("nan")), known

    monkeypatch.setattr(training.Run, "batch", broken)
    monkeypatch.setattr(SharpTrainConfig, "free", (*SharpTrainConfig.free, "steps"))
    config = options(tmp_path / "other")
    with pytest.raises(TrainingError, match=r"bad-batch-000001\.safetensors"):
        train_sharp(config, lambda line: None)
    assert (tmp_path / "other" / "bad-batch-000001.safetensors").is_file()
    assert (tmp_path / "run" / "newest.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preset": "small"}, "preset"),
        ({"steps": 0}, "steps is 0"),
        ({"size": 100}, "multiple of 32"),
        ({"lr": 0.0}, "above 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"mixed_precision": "fp8"}, "mixed_precision"),
        ({"mixed_precision": "fp16", "device": "cpu"}, "needs a GPU"),
        ({"world_share": 0.9, "video_share": 0.5}, "together"),
        ({"dataset": "samples", "world_share": 0.0, "video_share": 0.8}, "all 2 samples of a process are video"),
    ],
)
def test_wrong_options_are_named(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        options(tmp_path / "run", **changes)


def test_a_damaged_start_is_told_and_nothing_is_written(tmp_path, tiny):
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
        train_sharp(options(tmp_path / "run", resume=str(tmp_path / "cut.safetensors")), lambda line: None)
    assert not (tmp_path / "run").exists()
