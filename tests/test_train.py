"""Training: the same losses after any interruption, the newest and best kept, and inputs that are refused before anything is written."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest
import torch
from make_clips import pictures, save_images
from PIL import Image
from safetensors import safe_open

from vae4d import load_model
from vae4d.checkpoint import read_checkpoint
from vae4d.clips.datasets import open_dataset, prepare_dataset
from vae4d.clips.windows import Batches
from vae4d.errors import CheckpointError, ClipError, ConfigError, MissingInputError, StorageError, TrainingError
from vae4d.faithful import base_stage, naive
from vae4d.faithful.loop import Loop, learning_rate_factor
from vae4d.faithful.train import TrainConfig, scene_set, train, training_windows, validation_windows
from vae4d.files import sha256
from vae4d.perceptual import VGGFeatures
from vae4d.scenes import generate
from vae4d.scenes.textures import split_of

LOSSES = ["step", "loss", "gradient_norm"]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory, weights) -> Path:
    """Three small clips, prepared at 32 px, beside the real weights."""
    root = tmp_path_factory.mktemp("data")
    for number, split in enumerate(("train", "validate", "test")):
        save_images(root / "set" / split / f"clip{number}", pictures(8, 48, 40, seed=number))
    for squash in (False, True):  # as repaired, and as published
        prepare_dataset(root / "set", 32, root, progress=None, squash=squash)
    (root / "weights").symlink_to(weights)
    return root


@pytest.fixture
def options(data_root, tmp_path):
    common = {"dataset": str(data_root / "set"), "data_root": str(data_root), "input_size": 32, "perceptual_size": 0, "workers": 0}
    common |= {"max_steps": 4, "targets": 1, "clip_length": 3, "bsize": 1, "device": "cpu"}
    common |= {"valid_freq": 2, "valid_clips": 2, "save_freq": 2}
    return TrainConfig(savepath=str(tmp_path / "base"), **common)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Two small photographs to train with, and one to validate with; the split goes by a file's bytes."""
    folder, wanted, number = tmp_path_factory.mktemp("photographs"), {"train": 2, "test": 1}, 0
    while any(wanted.values()):
        path, number = folder / f"{number}.png", number + 1
        Image.fromarray(pictures(1, 64, 64, seed=number)[0]).save(path)
        if wanted[split_of(path)]:
            wanted[split_of(path)] -= 1
        else:
            path.unlink()
    return folder


@pytest.fixture
def scenes(options, photographs):
    """The options with three procedural worlds an epoch and as many windows of the video."""
    return dataclasses.replace(options, scenes=3, textures=str(photographs), lambda_perc=0.0, lambda_pose=100.0)


def losses(folder: str) -> pd.DataFrame:
    return pd.read_csv(Path(folder) / "losses.csv")


def quiet(line: str) -> None:
    pass


def test_a_run_leaves_everything_and_a_second_call_does_nothing(options):
    lines: list[str] = []
    result = train(options, lines.append)
    folder = Path(options.savepath)
    assert result.finished and result.steps == 4 and result.loader_ms < result.step_ms
    assert losses(folder)["step"].tolist() == [1, 2, 3, 4]
    assert pd.read_csv(folder / "validation.csv")["step"].tolist() == [2, 4]
    assert list((folder / "tensorboard").iterdir()) and any("waits" in line for line in lines)
    scores = pd.read_csv(folder / "validation.csv").set_index("step")["psnr"]
    meta, tensors = read_checkpoint(folder / "best.safetensors")
    assert meta["extra"]["step"] == scores.idxmax() and meta["extra"]["valid_psnr"] == pytest.approx(scores.max(), abs=1e-3)
    assert not any(name.startswith("optimizer.") for name in tensors)
    before = (folder / "losses.csv").read_bytes()
    torn = [folder / ".newest.k3j2.safetensors", folder / ".tmpRmZu0k"]  # as killed writers leave them, ours and safetensors' own
    for path in torn:
        path.touch()
    again = train(options, quiet)
    assert not any(path.exists() for path in torn)
    assert again.finished and again.steps == 4 and (folder / "losses.csv").read_bytes() == before
    (folder / "best.safetensors").unlink()
    train(options, quiet)
    assert load_model(folder / "best.safetensors").config.preset == "small"
    assert pd.read_csv(folder / "validation.csv")["step"].tolist() == [2, 4]


def test_training_lowers_the_loss_and_moves_only_its_stage(options, tmp_path):
    longer = dataclasses.replace(options, max_steps=20, lr=1e-3, save_freq=20, valid_freq=20, epochs=99)
    train(longer, quiet)
    curve = losses(longer.savepath)["loss"]
    assert curve[-5:].mean() < 0.85 * curve[:5].mean()
    base = load_model(tmp_path / "base" / "best.safetensors")
    flow = dataclasses.replace(longer, stage="flow", savepath=str(tmp_path / "flow"), resume=str(tmp_path / "base" / "best.safetensors"))
    flow = dataclasses.replace(flow, max_steps=3, pairs=2, reconstruction_substeps=2, interpolation_substeps=1)
    train(flow, quiet)
    meta = read_checkpoint(tmp_path / "flow" / "newest.safetensors")[0]
    recipe = meta["extra"]["recipe"]
    assert recipe["resume"] == sha256(tmp_path / "base" / "best.safetensors") and recipe["dataset"] == "set"
    assert str(tmp_path) not in json.dumps(meta) and options.data_root not in json.dumps(meta)  # where things lay may tell who trained it
    trained = load_model(tmp_path / "flow" / "newest.safetensors")
    assert trained.flow_trained and not base.flow_trained
    same = {name for name, value in trained.state_dict().items() if torch.equal(value, base.state_dict()[name])}
    assert same == {name for name in base.state_dict() if not name.startswith(("encoder_flow", "flow_correction"))}
    columns = losses(flow.savepath).columns
    assert {"reconstruction loss", "forward loss", "reversed loss", "forward full perceptual"} <= set(columns)


@pytest.mark.parametrize("stage", ["base", "flow"])
def test_resumed_losses_equal_uninterrupted_ones(options, tmp_path, stage):
    if stage == "flow":
        train(options, quiet)
        options = dataclasses.replace(options, stage="flow", resume=f"{options.savepath}/newest.safetensors", pairs=2, triplets=1)
        options = dataclasses.replace(options, reconstruction_substeps=2, interpolation_substeps=1)
    whole = dataclasses.replace(options, savepath=str(tmp_path / "whole"), max_steps=5, save_freq=2)
    train(whole, quiet)
    parts = dataclasses.replace(whole, savepath=str(tmp_path / "parts"))
    train(dataclasses.replace(parts, max_steps=2), quiet)
    # Rows and a torn line after the checkpoint, as a killed process leaves them, are dropped and run again.
    with (tmp_path / "parts" / "losses.csv").open("a") as stream:
        stream.write("3,99,99\n4,1")
    train(parts, quiet)
    expected, found = losses(whole.savepath)[LOSSES], losses(parts.savepath)[LOSSES]
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    for name in ("whole", "parts"):
        assert load_model(tmp_path / name / "newest.safetensors")
    a, b = (read_checkpoint(tmp_path / name / "newest.safetensors")[1] for name in ("whole", "parts"))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- procedural worlds


def test_worlds_and_videos_are_mixed_and_resumed(scenes, tmp_path):
    """One epoch, three windows of each kind; stopped in the middle, the losses go on as if it had not been."""
    whole = dataclasses.replace(scenes, savepath=str(tmp_path / "whole"), max_steps=0, epochs=1, save_freq=1)
    assert train(whole, quiet).steps == 6
    parts = dataclasses.replace(whole, savepath=str(tmp_path / "parts"))
    assert train(dataclasses.replace(parts, max_steps=3), quiet).steps == 3
    assert train(parts, quiet).steps == 6
    found = losses(whole.savepath)
    pd.testing.assert_frame_equal(losses(parts.savepath)[[*LOSSES, "pose"]], found[[*LOSSES, "pose"]], check_exact=True)
    assert (found["pose"] > 0).sum() == 3 and (found["pose"] == 0).sum() == 3  # nobody knows the camera of a video
    rest = 10 * found["l1"] + found["consistency"] + 0.01 * found["gan"]
    assert ((found["loss"] - rest - 100 * found["pose"]).abs() < 1e-4 * found["loss"]).all()


def test_worlds_alone_drawn_or_cached_give_the_same_losses(scenes, data_root, tmp_path):
    """Without a data set; bare of videos there is nothing to open."""
    root = tmp_path / "bare"
    root.mkdir()
    (root / "weights").symlink_to(data_root / "weights")
    alone = dataclasses.replace(scenes, dataset="", data_root=str(root), savepath=str(tmp_path / "drawn"), augment=True)
    train(alone, quiet)
    assert sorted(path.name for path in root.iterdir()) == ["weights"]
    lines: list[str] = []
    train(dataclasses.replace(alone, scene_cache=True, savepath=str(tmp_path / "cached")), lines.append)
    assert any("drew 3 of 3 procedural scenes" in line for line in lines)
    (folder,) = (root / "cache").iterdir()
    assert folder.name.startswith("scenes-") and folder.name.endswith("-32")
    found = [losses(tmp_path / name)[[*LOSSES, "pose"]] for name in ("drawn", "cached")]
    pd.testing.assert_frame_equal(*found, check_exact=True)
    assert len(found[0]) == 4 and (found[0]["pose"] > 0).all()


def test_the_flow_stage_trains_with_worlds(scenes, tmp_path):
    train(dataclasses.replace(scenes, max_steps=1), quiet)
    flow = dataclasses.replace(scenes, stage="flow", savepath=str(tmp_path / "flow"), resume=f"{scenes.savepath}/newest.safetensors")
    flow = dataclasses.replace(flow, lambda_pose=0.0, object_motion=6.0, pairs=1, triplets=1, max_steps=2, dataset="")
    train(dataclasses.replace(flow, reconstruction_substeps=1, interpolation_substeps=1), quiet)
    assert losses(flow.savepath)["loss"].notna().all() and load_model(tmp_path / "flow" / "newest.safetensors").flow_trained


def test_motion_is_what_was_asked_for(scenes):
    for change, cameras, objects in (({}, True, False), ({"object_motion": 6.0}, True, True), ({"camera_motion": 0.0}, False, False)):
        windows = training_windows(dataclasses.replace(scenes, scenes=12, dataset="", **change), None, quiet)
        worlds = generate(range(12), windows.scenes.options, windows.scenes.textures)
        assert bool(worlds.camera_motion.max() > 0) is cameras and bool(worlds.object_motion.max() > 0) is objects
        assert worlds.camera_motion.max() <= 8.1 and worlds.object_motion.max() <= 6.1


def test_validation_has_worlds_of_other_photographs(scenes, data_root, photographs):
    config = dataclasses.replace(scenes, valid_clips=2, frame_limit=3)
    found = validation_windows(config, open_dataset(config.dataset, 32, config.data_root))
    assert [item["clip"] == -1 for item in found] == [False, False, True, True]
    assert len(validation_windows(dataclasses.replace(config, dataset=""), None)) == 2
    textures = [scene_set(config, 2, split, seed).textures.names for split, seed in (("train", 0), ("test", 1))]
    assert [len(names) for names in textures] == [2, 1] and not set(textures[0]) & set(textures[1])
    trained = training_windows(dataclasses.replace(config, scenes=4), None, quiet)
    assert all(not torch.equal(a["frames"], b["frames"]) for a in found[2:] for b in trained)


def test_a_start_from_a_checkpoint_keeps_it_where_training_makes_it_worse(options, tmp_path, monkeypatch):
    train(dataclasses.replace(options, max_steps=2), quiet)
    before = read_checkpoint(Path(options.savepath) / "newest.safetensors")[1]
    scores = iter([30.0, 20.0, 25.0])
    monkeypatch.setattr("vae4d.faithful.loop.validate", lambda *_: {"psnr": next(scores), "loss": 1.0})
    worse = dataclasses.replace(options, savepath=str(tmp_path / "worse"), resume=f"{options.savepath}/newest.safetensors")
    assert train(worse, quiet).best_psnr == 30
    assert pd.read_csv(tmp_path / "worse" / "validation.csv")["step"].tolist() == [0, 2, 4]
    meta, best = read_checkpoint(tmp_path / "worse" / "best.safetensors")
    assert meta["extra"]["step"] == 0 and all(torch.equal(best[name], before[name]) for name in best)
    newest = read_checkpoint(tmp_path / "worse" / "newest.safetensors")[1]
    assert any(not torch.equal(newest[name], before[name]) for name in best)


def test_a_new_model_and_an_untrained_flow_are_not_scored_before_they_are_trained(options, tmp_path, monkeypatch):
    steps: list[int] = []
    monkeypatch.setattr(Loop, "validate", lambda self, step, _: steps.append(step) or self.keep_best(step, 1.0))
    train(options, quiet)
    flow = dataclasses.replace(options, stage="flow", savepath=str(tmp_path / "flow"), resume=f"{options.savepath}/newest.safetensors")
    train(dataclasses.replace(flow, max_steps=2, pairs=1, triplets=1, reconstruction_substeps=1, interpolation_substeps=1), quiet)
    assert steps == [2, 4, 2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_process_can_go_on(options, tmp_path, number):
    """Interrupted in the middle of a step: the first two finish the step and save it, the last leaves the last checkpoint."""
    endless = dataclasses.replace(options, max_steps=100_000, epochs=100_000, save_freq=1, valid_freq=100_000)
    script = f"from vae4d.faithful.train import *\ntrain(TrainConfig(**{dataclasses.asdict(endless)!r}))"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    path = Path(options.savepath) / "losses.csv"
    while process.poll() is None and (not path.is_file() or path.read_text().count("\n") < 4):
        pass
    assert process.poll() is None, "the run ended before it could be interrupted"
    os.kill(process.pid, number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    saved = read_checkpoint(Path(options.savepath) / "newest.safetensors")[0]["extra"]["step"]
    rows = len(losses(options.savepath))
    if number == signal.SIGKILL:
        assert saved >= 2
    else:
        assert saved == rows and "steps are saved" in out
    result = train(dataclasses.replace(endless, max_steps=rows + 1, epochs=1_000), quiet)
    assert result.finished and losses(options.savepath)["step"].tolist() == list(range(1, rows + 2))
    assert not [p for p in Path(options.savepath).iterdir() if p.name.startswith(".")]


def test_max_minutes_stops_a_piece_and_the_next_goes_on(options):
    piece = dataclasses.replace(options, max_minutes=1e-6)
    assert [train(piece, quiet).steps for _ in range(2)] == [1, 2]


def test_a_loss_that_is_not_finite_stops_with_the_batch_saved(options, monkeypatch):
    options = dataclasses.replace(options, augment=True)  # the batch is saved as the model saw it
    train(dataclasses.replace(options, max_steps=2), quiet)
    good = (Path(options.savepath) / "newest.safetensors").read_bytes()
    monkeypatch.setattr(base_stage, "l1", lambda a, b: (a - b).flatten(1).mean(1) * float("nan"))
    seen: list[torch.Tensor] = []
    begin = base_stage.BaseStage.begin
    monkeypatch.setattr(base_stage.BaseStage, "begin", lambda self, batch, *rest: seen.append(batch["frames"]) or begin(self, batch, *rest))
    with pytest.raises(TrainingError, match=r"step 3.*nan.*bad-batch-000003.*step 2, is untouched"):
        train(options, quiet)
    with safe_open(Path(options.savepath) / "bad-batch-000003.safetensors", framework="pt") as stream:
        assert torch.equal(stream.get_tensor("frames"), seen[-1]) and stream.get_tensor("start").numel() == 1
    assert (Path(options.savepath) / "newest.safetensors").read_bytes() == good
    monkeypatch.undo()
    assert train(options, quiet).finished


def test_a_full_disk_stops_a_training_that_can_go_on(options, small_disk):
    train(dataclasses.replace(options, max_steps=2), quiet)
    good = (Path(options.savepath) / "newest.safetensors").read_bytes()
    with small_disk(500_000), pytest.raises(StorageError, match=r"\.safetensors"):
        train(options, quiet)
    assert (Path(options.savepath) / "newest.safetensors").read_bytes() == good
    assert train(options, quiet).finished and losses(options.savepath)["step"].tolist() == [1, 2, 3, 4]


def test_other_options_are_refused_or_put_aside(options, tmp_path):
    train(options, quiet)
    other = dataclasses.replace(options, lr=1e-3)
    with pytest.raises(ConfigError, match=r"lr 0\.0002 -> 0\.001"):
        train(other, quiet)
    train(dataclasses.replace(other, restart=True), quiet)
    assert (tmp_path / "base.old-1" / "newest.safetensors").is_file()


def test_mixed_precision_trains_on_the_cpu(options, tmp_path):
    half = dataclasses.replace(options, mixed_precision="bf16", max_steps=2)
    train(half, quiet)
    flow = {"stage": "flow", "savepath": str(tmp_path / "flow"), "resume": f"{options.savepath}/best.safetensors"}
    train(dataclasses.replace(half, **flow, pairs=2, reconstruction_substeps=1, interpolation_substeps=1), quiet)
    train(dataclasses.replace(options, savepath=str(tmp_path / "whole"), max_steps=2), quiet)
    found, exact = losses(options.savepath)["loss"], losses(tmp_path / "whole")["loss"]
    assert losses(tmp_path / "flow")["loss"].notna().all()
    assert not found.equals(exact)  # bfloat16 was used,
    assert (found / exact - 1).abs().max() < 0.02  # and computes the same loss


def test_the_published_encoder_starts_from_imagenet_or_says_that_it_does_not(options, monkeypatch):
    from torchvision.models import resnet50

    from vae4d.errors import AssetError
    from vae4d.faithful import train as module

    state, said = resnet50(weights=None).state_dict(), []
    monkeypatch.setattr(module, "fetch_resnet50", lambda log: state)
    original = dataclasses.replace(options, preset="original")
    model = module.new_model(original, said.append)
    assert torch.equal(model.encoder_3d.feature_extraction[4][0].conv1.weight, state["layer1.0.conv1.weight"])

    def offline(log):
        raise AssetError("no network")

    monkeypatch.setattr(module, "fetch_resnet50", offline)
    module.new_model(original, said.append)
    assert said == ["encoder_3d starts from random weights. no network"]


def test_every_window_is_drawn_once_an_epoch_in_an_order_of_its_own():
    epochs = [[i for batch in Batches(7, 2, seed=3, start=4 * e, stop=4 * e + 4) for i in batch] for e in range(2)]
    assert [sorted(epoch[:7]) for epoch in epochs] == [list(range(7))] * 2 and epochs[0] != epochs[1]
    assert all(epoch[7] == epoch[0] for epoch in epochs)  # the last batch is filled up
    assert list(Batches(7, 2, 3, 3, 6)) == list(Batches(7, 2, 3, 0, 8))[3:6]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage": "floww"}, "Did you mean 'flow'"),
        ({"preset": "tiny"}, "Known: original, small"),
        ({"mixed_precision": "fp8"}, "mixed_precision"),
        ({"mixed_precision": "fp16"}, "needs a GPU"),
        ({"lr": 0.0}, "lr is 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"bsize": -1}, "bsize is -1"),
        ({"clip_length": 1}, "at least 2 frames"),
        ({"lr_adj": 0.0}, "lr_adj is 0"),
        ({"d_lr": -1.0}, "d_lr is -1"),
        ({"reinit_k": 0}, "reinit_k is 0"),
        ({"semantics": "repaired-12"}, "rows of the defect table, 1 to 11"),
        ({"padding_mode": "reflection"}, "'zeros' or 'border'"),
        ({"epochs": -1}, "epochs is -1"),
        ({"dataset": ""}, "nothing to train on: set dataset, or scenes"),
        ({"lambda_pose": 1.0}, "lambda_pose needs cameras that are known: set scenes"),
        ({"scenes": -1}, "scenes is -1"),
        ({"scenes": 1, "scene_share": 1.5}, r"scene_share is 1\.5"),
        ({"scenes": 1, "camera_motion": 100.0}, "camera_motion is"),
        ({"scenes": 1, "textures": "nowhere"}, "no folder nowhere of textures"),
    ],
)
def test_values_out_of_range(options, change, message):
    with pytest.raises((ConfigError, MissingInputError), match=message):
        train(dataclasses.replace(options, **change), quiet)
    assert not Path(options.savepath).exists()


def test_missing_inputs_are_named(options, tmp_path):
    with pytest.raises(MissingInputError, match="02_train_autoencoder"):
        train(dataclasses.replace(options, stage="flow"), quiet)
    with pytest.raises(MissingInputError, match="01_data"):
        train(dataclasses.replace(options, input_size=48), quiet)
    with pytest.raises(ConfigError, match="samples"):
        train(dataclasses.replace(options, dataset="HMDB15"), quiet)
    broken = tmp_path / "broken.safetensors"
    broken.write_text("x")
    with pytest.raises(CheckpointError, match="broken"):
        train(dataclasses.replace(options, stage="flow", resume=str(broken)), quiet)
    assert not Path(options.savepath).exists()


def test_importing_the_training_code_needs_no_video_library():
    """A bare GPU server has no PyAV, LPIPS or notebook tools."""
    code = """
    import sys
    for name in ("av", "cv2", "imagehash", "lpips", "papermill", "nbformat", "IPython", "ipywidgets"):
        sys.modules[name] = None
    import vae4d.faithful.train, vae4d.evaluation.benchmark, vae4d.synthesis, vae4d.clips.datasets, vae4d.__main__
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


# ---- the published system's own


def test_the_discriminator_trains_beside_the_model_and_is_resumed(options, tmp_path):
    """Its weights and its optimiser are part of the run; a weight of 0 leaves it out."""
    train(options, quiet)
    found = losses(options.savepath)
    assert {"gan", "critic loss", "critic real", "critic fake", "critic penalty"} <= set(found) and found.notna().all().all()
    whole = 10 * found["l1"] + 0.1 * found["perceptual"] + found["consistency"] + 0.01 * found["gan"]
    assert (found["loss"] - whole).abs().max() < 1e-4 * found["loss"].max()
    tensors = read_checkpoint(Path(options.savepath) / "newest.safetensors")[1]
    assert any(name.startswith("critic.netd.0") for name in tensors) and any(name.startswith("optimizer.critic.") for name in tensors)
    assert not any(name.startswith("critic.") for name in read_checkpoint(Path(options.savepath) / "best.safetensors")[1])
    train(dataclasses.replace(options, lambda_gan=0.0, savepath=str(tmp_path / "without")), quiet)
    assert "gan" not in losses(tmp_path / "without")


def test_the_scaler_of_fp16_leaves_the_discriminator_alone(options, tmp_path, monkeypatch):
    """It scales the model's loss and knows the model's optimiser; the discriminator's gradients would stay scaled."""
    from accelerate import Accelerator

    one = dataclasses.replace(options, max_steps=1)
    train(one, quiet)
    monkeypatch.setattr(Accelerator, "backward", lambda self, loss, **_: (1000 * loss).backward())
    train(dataclasses.replace(one, savepath=str(tmp_path / "scaled")), quiet)
    a, b = (read_checkpoint(tmp_path / name / "newest.safetensors")[1] for name in ("base", "scaled"))
    torch.testing.assert_close(b["optimizer.critic.0.exp_avg"], a["optimizer.critic.0.exp_avg"])
    assert b["optimizer.model.0.exp_avg"].norm() > 100 * a["optimizer.model.0.exp_avg"].norm()


def test_the_discriminator_of_the_published_model_wants_its_size(options):
    with pytest.raises(ConfigError, match=r"at least 256 px, not 32: .*lambda_gan to 0"):
        train(dataclasses.replace(options, preset="original"), quiet)
    assert not Path(options.savepath).exists()


def test_the_learning_rate_is_halved_at_the_published_steps():
    steps = {0: 1, 79_999: 1, 80_000: 2, 119_999: 2, 120_000: 4, 160_000: 8, 199_999: 8, 200_000: 16, 10**6: 16}
    assert {step: 1 / learning_rate_factor(step) for step in steps} == steps
    assert [1 / learning_rate_factor(step, 0.5) for step in (39_999, 40_000, 100_000)] == [1, 2, 16]


def test_both_learning_rates_follow_the_schedule(options, monkeypatch):
    monkeypatch.setattr("vae4d.faithful.loop.MILESTONES", (1, 3))
    rates = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, *rest: rates.append(self.param_groups[0]["lr"]) or step(self, *rest))
    train(options, quiet)
    assert rates[::2] == [2e-4, 1e-4, 1e-4, 5e-5] and rates[1::2] == [4e-4, 2e-4, 2e-4, 1e-4]
    assert losses(options.savepath)["lr"].tolist() == rates[::2]


def test_validation_synthesises_long_windows_and_refreshes_from_its_own_prediction(options, monkeypatch):
    calls = []
    monkeypatch.setattr(base_stage, "view_synthesis", lambda model, frames, k: calls.append((len(frames), k)) or iter(frames[1:]))
    train(dataclasses.replace(options, frame_limit=6, reinit_k=4, max_steps=2), quiet)
    assert calls == [(6, 4)] * 2
    rows = pd.read_csv(Path(options.savepath) / "validation.csv")
    assert rows["psnr"].tolist() == [float("inf")] and rows["loss"].iloc[0] > 0
    data = open_dataset(options.dataset, 32, options.data_root)
    assert {len(item["frames"]) for item in validation_windows(options, data)} == {8}  # frame_limit 30, but the clip is shorter


def test_the_published_flow_stage_never_writes_its_best(options, tmp_path):
    """Row 7; and the rows of the training of the middle frame run."""
    train(dataclasses.replace(options, max_steps=1), quiet)
    flow = dataclasses.replace(options, stage="flow", resume=f"{options.savepath}/newest.safetensors", pairs=2, max_steps=2)
    flow = dataclasses.replace(flow, reconstruction_substeps=2, interpolation_substeps=1)
    found = {}
    for name in ("published", "published+7", "repaired-2", "repaired"):
        run = dataclasses.replace(flow, savepath=str(tmp_path / name), semantics=name)
        result = train(run, quiet)
        assert result.checkpoint.name == ("newest.safetensors" if name == "published" else "best.safetensors")
        found[name] = losses(run.savepath)["loss"].tolist()
    assert found["published"] == found["published+7"] and len({str(value) for value in found.values()}) == 3
    assert train(dataclasses.replace(flow, savepath=str(tmp_path / "published"), semantics="published"), quiet).finished


def test_the_published_flow_stage_trains_as_its_plain_form(options, data_root, tmp_path):
    """Through the whole loop: data, optimiser and its state, no clipping of gradients."""
    train(dataclasses.replace(options, max_steps=1), quiet)
    start = f"{options.savepath}/newest.safetensors"
    flow = dataclasses.replace(options, stage="flow", resume=start, savepath=str(tmp_path / "flow"), semantics="published", max_steps=2)
    flow = dataclasses.replace(flow, perceptual_size=224, reconstruction_substeps=2, interpolation_substeps=1)
    train(flow, quiet)
    found = losses(flow.savepath)
    model = load_model(start)
    parameters = [*model.encoder_flow.parameters(), *model.flow_correction.parameters()]
    adam, vgg = torch.optim.Adam(parameters, lr=2e-4), VGGFeatures(data_root / "weights")
    windows = training_windows(flow, flow.open_data(), quiet)
    for step, (index,) in enumerate(Batches(len(windows), 1, flow.seed, 0, 2)):
        plain = naive.train_clip(model, vgg, windows[index]["frames"], adam, 2, 1)
        for kind in ("reconstruction", "forward", "reversed"):
            last = [row["loss"] for row in plain if row["kind"] == kind][-1]
            assert found[f"{kind} loss"][step] == pytest.approx(last, rel=1e-3), (step, kind)
    assert found["gradient_norm"].max() > 1  # clipping would have changed the steps


def test_chunks_change_no_loss(options, tmp_path):
    train(dataclasses.replace(options, max_steps=1), quiet)
    flow = dataclasses.replace(options, stage="flow", resume=f"{options.savepath}/newest.safetensors", max_steps=2, bsize=2)
    for chunk in (0, 5):
        train(dataclasses.replace(flow, savepath=str(tmp_path / str(chunk)), chunk=chunk, reconstruction_substeps=2), quiet)
    whole, parts = (losses(tmp_path / str(chunk))["loss"] for chunk in (0, 5))
    pd.testing.assert_series_equal(whole, parts, rtol=1e-3)


def test_videos_that_the_base_model_rebuilds_badly_are_left_out(options, data_root, tmp_path):
    train(dataclasses.replace(options, max_steps=1), quiet)
    again = dataclasses.replace(options, resume=f"{options.savepath}/newest.safetensors", savepath=str(tmp_path / "clean"), max_steps=1)
    lines: list[str] = []
    train(dataclasses.replace(again, clean_limit=1e6), lines.append)
    table = pd.read_csv(tmp_path / "clean" / "cleaning.csv").set_index("split")
    assert "cleaning: 0 of 2 clips left out" in lines and table["kept"].all()
    assert table["error"].isna().to_dict() == {"train": False, "validate": False, "test": True}  # test is never looked at
    with pytest.raises(ClipError, match="Cleaning would remove all 2 clips"):
        train(dataclasses.replace(again, clean_limit=1e-6, savepath=str(tmp_path / "none")), quiet)
    with pytest.raises(ConfigError, match="clean_limit needs a trained base model"):
        dataclasses.replace(options, clean_limit=50.0)
    assert not (tmp_path / "none").exists()
