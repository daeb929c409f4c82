"""The ablation of the sharp model: its variants, what a table says about each row, and what is trained again."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from make_clips import pictures, save_images

from vae4d import build_model
from vae4d.checkpoint import save_checkpoint
from vae4d.clips.datasets import prepare_dataset
from vae4d.config import PRESETS
from vae4d.errors import ClipError, ConfigError, MissingInputError, TrainingError
from vae4d.sharp.losses import WEIGHTS
from vae4d.workbook import ablation
from vae4d.workbook.ablation import AblationSettings
from vae4d.workbook.variants import BLEND, LATER, ROWS, WHOLE, Ablated, VariantMethod, VariantRun, variant


@pytest.fixture(scope="module")
def frames() -> tuple[torch.Tensor, torch.Tensor]:
    one, two = (torch.from_numpy(p).permute(2, 0, 1)[None].float() / 255 for p in pictures(2, 64, 64, seed=3))
    return one, two


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """With weights in the heads that start at zero, so that everything it can say shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.abs().max() and parameter.ndim > 1:
                parameter.normal_(0, 0.05, generator=generator)
    return model


def made(lacks: tuple[str, ...], frames: tuple[torch.Tensor, torch.Tensor]):
    whole = shaken(build_model("sharp"))
    model = Ablated(whole.config, lacks).eval()
    model.load_state_dict(whole.state_dict())
    with torch.no_grad():
        return model, model.synthesise(*frames, 0.4)


@pytest.fixture(scope="module")
def whole(frames):
    return made((), frames)[1]


def test_a_model_that_lacks_nothing_is_the_whole_one(frames, whole):
    with torch.no_grad():
        assert torch.equal(shaken(build_model("sharp")).synthesise(*frames, 0.4).image, whole.image)
    assert whole.weights[:, 2].max() > 1e-3 and whole.pose.abs().max() > 1e-6  # what the others lack can be seen


def test_without_a_camera_it_stands_still(frames, whole):
    model, found = made(("camera",), frames)
    first, second = (model.encode(frame) for frame in frames)
    assert model.twist(first, second, torch.ones(1)).abs().max() == 0 and found.pose.abs().max() < 1e-6
    assert (found.image - whole.image).abs().max() > 1e-6


def test_without_voxels_their_picture_has_no_share(frames, whole):
    _, found = made(("voxels",), frames)
    assert found.weights[:, 2].max() < 1e-8
    assert torch.allclose(found.weights.sum(1), torch.ones(1, 64, 64)) and not torch.equal(found.image, whole.image)


def test_without_residual_the_picture_is_the_composite(frames):
    model, _ = made(("residual",), frames)
    kept = []
    model.fusion.register_forward_hook(lambda module, inputs, output: kept.append(output))
    with torch.no_grad():
        model.synthesise(*frames, 0.4)
    assert torch.equal(kept[0].image, kept[0].composite)


def test_without_pyramid_two_levels_match(frames):
    large = torch.nn.functional.interpolate(frames[0], scale_factor=4)
    assert len(made(("pyramid",), frames)[0].encode(large).features) == 2
    assert len(made((), frames)[0].encode(large).features) > 2


def test_every_row_starts_as_the_blend_and_ends_its_chain_there(frames):
    for name, row in ROWS.items():
        model = variant(name)
        assert model.config.planes == row.planes and set(row.lacks) <= set(LATER) and set(row.unheard) <= set(WEIGHTS)
        with torch.no_grad():
            image = model.synthesise(*frames, 0.25).image
        assert (image - (0.75 * frames[0] + 0.25 * frames[1])).abs().max() < 0.03, name  # the voxels' small share is blurred
        seen = [name]
        while seen[-1] != BLEND:
            seen.append(ROWS[seen[-1]].against)
            assert len(seen) < len(ROWS)
    assert {row.planes for row in ROWS.values()} == {1, 4, 8, 16}
    assert not torch.equal(variant("other draw").encoder.layers[0][0].weight, variant(WHOLE).encoder.layers[0][0].weight)


def test_a_row_silences_its_losses_and_draws_its_own_batches(tmp_path):
    settings = AblationSettings(run_dir=str(tmp_path), size=64, worlds=1, data_root=str(tmp_path), device="cpu")
    runs = {}
    for name in ("warp", "other draw"):
        config = settings.training(name)
        runs[name] = VariantRun(dataclasses.replace(config, worlds=0), lambda line: None)
    weights = runs["warp"].weights(0.0)
    assert weights["flow"] == weights["camera"] == 0 and weights["image"] == WEIGHTS["image"]
    assert runs["other draw"].weights(0.0) == WEIGHTS
    assert (runs["warp"].source.seed, runs["other draw"].source.seed) == (0, 1)


def test_a_row_without_gradients_never_learns_to_trust_them(tmp_path):
    settings = AblationSettings(run_dir=str(tmp_path), size=64, worlds=1, bsize=2, data_root=str(tmp_path), device="cpu")
    trust = {}
    for name in ("pyramid", WHOLE):
        run = VariantRun(dataclasses.replace(settings.training(name), worlds=0), lambda line: None)
        run.one_step(run.config.steps - 1)
        trust[name] = run.model.subpixel.trust.item()
    assert trust["pyramid"] == 0 and trust[WHOLE] != 0


def test_a_variant_as_a_method_keeps_what_it_lacks(tmp_path):
    path = save_checkpoint(tmp_path / "row.safetensors", shaken(variant("1 plane")), "sharp")
    method = VariantMethod("1 plane", path)
    assert method.model.config.planes == 1 and method.settings["row"] == "1 plane" and "checkpoint" in method.settings
    path = save_checkpoint(tmp_path / "camera.safetensors", shaken(variant("camera")), "sharp")
    assert VariantMethod("camera", path).model.lacks == LATER[1:]


def table() -> pd.DataFrame:
    """As `study` gives it, of three rows."""
    scores = {BLEND: [0.0, 0.0, 0.0, 20.0], "warp": [1.0, 0.5, 1.5, 22.0]}
    scores |= {"motion told": [0.5, 1.0, 0.0, 23.0], WHOLE: [2.0, 2.0, 2.0, 24.0]}
    rows = [
        {"row": name, "against": "" if name == BLEND else ROWS[name].against, "what": "x", "gap 2": mean, "gap 2 DIS": mean - 1,
         "gap 2 one": one, "gap 2 two": two, "psnr": psnr}
        for name, (mean, one, two, psnr) in scores.items()
    ]  # fmt: skip
    return pd.DataFrame(rows).set_index("row")


def test_a_row_is_worth_its_difference_from_the_nearest_trained_before_it():
    worth = ablation.worth(table())
    assert worth["against"].tolist() == [BLEND, "warp", "motion told"]  # what stands between is not there
    assert worth["gap 2"].tolist() == [1.0, -0.5, 1.5] and worth["psnr"].tolist() == [2, 1, 1]  # what hurts is not hidden
    panel = ablation.chart(table())[ablation.BUILT_UP]
    assert panel["category"].tolist() == ["warp", "motion told", WHOLE]
    assert panel[["mean", "low", "high"]].iloc[1].tolist() == [-0.5, -1.5, 0.5] and panel["count"].tolist() == [2, 2, 2]


def test_a_table_is_read_as_it_was_written(tmp_path):
    table().to_csv(tmp_path / "table.csv")
    pd.testing.assert_frame_equal(ablation.read_table(tmp_path / "table.csv"), table())
    with pytest.raises(MissingInputError, match="run `python -m vae4d ablate` first"):
        ablation.read_table(tmp_path / "none.csv")


def test_means_leave_out_what_was_learned_from():
    assert ablation.unlearned(pd.Series({"a": 1.0, "b": 3.0, "c": 100.0}), {"c"}) == 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"rows": ("wrap",)}, "Did you mean 'warp'"), ({"rows": ()}, "needs a row"), ({"steps": 0}, "steps is 0"), ({"gaps": ()}, "a gap")],
)
def test_wrong_settings_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        AblationSettings(**wrong)


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """A data set with a test clip alone."""
    monkeypatch.chdir(tmp_path)
    save_images(tmp_path / "set" / "test" / "clip", pictures(7, 64, 64, seed=1))
    prepare_dataset("set", 64, progress=None, require=())
    return "set"


def settings(**changes) -> AblationSettings:
    return AblationSettings(**{"run_dir": "run", "dataset": "set", "rows": ("warp",), "steps": 2, "size": 64, "worlds": 1, "gaps": (2,),
                               "workers": 1, "device": "cpu"} | changes)  # fmt: skip


def test_a_data_set_without_training_clips_refuses_real_video(clips):
    with pytest.raises(ClipError, match="no usable clip to train with"):
        ablation.study(settings(rows=("warp", "video", "auto-mask")))


def pretended(config) -> str:
    """A training that is done at once."""
    folder = ablation.Path(config.savepath)
    save_checkpoint(folder / "best.safetensors", variant(config.row), "sharp")
    row = {"identity": ablation.identity(config), "weights": ablation.sha256(folder / "best.safetensors"), "parameters": 1,
           "steps": config.steps, "minutes": 0.5, "held_out": {"psnr": 25.0}, "before": {"psnr": 24.0}}  # fmt: skip
    ablation.write_json(folder / "row.json", row)
    return ""


def test_a_finished_row_is_not_trained_again_unless_it_was_another(clips, monkeypatch):
    trained = []
    monkeypatch.setattr(ablation, "drawn_worlds", lambda *how: None)
    monkeypatch.setattr(ablation, "train_row", lambda config: (trained.append((config.row, config.steps)), pretended(config))[1])
    found = ablation.study(settings(), progress=lambda line: None)
    assert list(found.index) == [BLEND, "warp"] and found.loc["warp", "against"] == BLEND
    assert abs(found.loc["warp", "gap 2"]) < 0.01 and found.loc[BLEND, "psnr"] == 24  # untrained, and without the voxels' share
    again = ablation.study(settings(rows=("warp", "longer")), progress=lambda line: None)
    assert trained == [("warp", 2), ("longer", 8)] and list(again.index) == [BLEND, "warp", "longer"]
    pd.testing.assert_frame_equal(ablation.read_table("run/ablation/table.csv"), again, check_dtype=False)
    with monkeypatch.context() as patch:  # of a model of other sizes
        patch.setitem(PRESETS, "sharp", dataclasses.replace(PRESETS["sharp"], planes=4))
        assert ablation.finished(settings().training("warp")) is None
    ablation.study(settings(steps=3), progress=lambda line: None)
    assert trained[2:] == [("warp", 3)]
    altered = ablation.Path("run/ablation/warp/best.safetensors")
    altered.write_bytes(altered.read_bytes() + b" ")
    assert ablation.finished(settings(steps=3).training("warp")) is None


def test_lines_of_processes_are_written_in_one_piece(clips, monkeypatch):
    def telling(config, progress, kind):
        progress("step 1/2")
        raise TrainingError("enough.")

    pieces: list[str] = []
    monkeypatch.setattr(ablation, "train_sharp", telling)
    monkeypatch.setattr("sys.stdout", SimpleNamespace(write=pieces.append, flush=lambda: None))
    assert ablation.train_row(settings().training("warp")) == "enough."
    assert [piece for piece in pieces if piece] == ["warp: step 1/2\n"]


def test_a_row_that_fails_is_told_and_the_others_go_on(clips, monkeypatch):
    def failing(config, progress, kind):
        raise TrainingError("the loss became nan.")

    monkeypatch.setattr(ablation, "drawn_worlds", lambda *how: None)
    monkeypatch.setattr(ablation, "train_sharp", failing)
    whole = ablation.train_row
    monkeypatch.setattr(ablation, "train_row", lambda config: pretended(config) if config.row == WHOLE else whole(config))
    lines: list[str] = []
    found = ablation.study(settings(rows=("warp", WHOLE)), progress=lines.append)
    assert list(found.index) == [BLEND, WHOLE] and any("warp: the loss became nan." in line for line in lines)
    assert json.loads(ablation.Path("run/ablation/whole/row.json").read_text())["steps"] == 2
