"""Scores on procedural worlds: that the truth of a case is true, and that the tables say what was measured."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from vae4d.errors import ConfigError, MethodError
from vae4d.evaluation.estimates import Estimate, NothingMoves
from vae4d.evaluation.identity import identity_tests
from vae4d.evaluation.methods import PairMethod, blend, repeat
from vae4d.evaluation.scene_cases import BINS, HELD_OUT, frame_pairs, kind_of, label_of, plane_view, scene_case, world_seed
from vae4d.evaluation.scene_measures import between, estimated, plane, unmoved
from vae4d.evaluation.scene_metrics import masked_psnr
from vae4d.evaluation.scene_summary import scene_summary
from vae4d.evaluation.scene_truth import COLUMNS, score_scenes
from vae4d.scenes.camera import Camera
from vae4d.scenes.render import render
from vae4d.scenes.textures import load_textures

FEW = (2.0, 4.0)


@pytest.fixture(scope="module")
def textures():
    return load_textures(split="test", size=64)


@pytest.fixture(scope="module")
def cases(textures):
    """One case of each kind."""
    kinds = {kind: scene_case(FEW, 0, 64, 0, textures, kind) for kind in ("camera", "objects", "both")}
    return kinds | {"still": scene_case((0.0, 0.0), 0, 64, 0, textures)}


def pixel_grid(size: int) -> torch.Tensor:
    """(2, S, S) pixel centres x, y."""
    y, x = torch.meshgrid(*[torch.arange(size) + 0.5] * 2, indexing="ij")
    return torch.stack([x, y])


def rays_of(case) -> torch.Tensor:
    """(3, S * S) points of the plane z = 1 behind the pixels' centres of a 64 px picture."""
    return torch.cat([(pixel_grid(64).double().flatten(1) - 32) / case.focal, torch.ones(1, 64 * 64, dtype=torch.float64)])


# The cases


def test_bins_kinds_and_seeds():
    assert [label_of(limits) for limits in BINS] == ["still", "0.25-1 px", "1-2 px", "2-4 px", "4-8 px", "8-16 px"]
    assert [kind_of(FEW, n) for n in range(4)] == ["both", "camera", "objects", "both"]
    assert kind_of((0.0, 0.0), 1) == "still"
    seeds = {world_seed(seed, label_of(limits), n) for seed in (0, 1) for limits in BINS for n in range(12)}
    assert len(seeds) == 2 * 6 * 12
    assert min(seeds) >= HELD_OUT
    assert max(seeds) < 2**53  # a seed survives a table that takes it for a float


def test_kinds_move_what_they_say(cases):
    eye = torch.eye(3, 4, dtype=torch.float64)
    for kind in ("still", "objects"):
        torch.testing.assert_close(cases[kind].pose, eye, rtol=0, atol=1e-12)
        assert cases[kind].parallax < 1e-9
        assert cases[kind].transfer is None
    for kind in ("camera", "both"):
        assert float((cases[kind].pose - eye).abs().max()) > 1e-3
        assert 1 < cases[kind].motion < 8
    assert float(cases["still"].frames.diff(dim=0).abs().max()) == 0
    assert cases["still"].motion == 0
    still = (cases["objects"].flow.flow == 0).all(dim=1)
    assert 0.2 < float(still.float().mean()) < 1


def test_the_flow_of_a_camera_is_that_of_its_pose_and_depth(cases):
    case = cases["camera"]
    first = rays_of(case) * case.depth.flatten()
    second = case.pose[:, :3].T @ (first - case.pose[:, 3:])
    flow = second[:2] / second[2] * case.focal + 32 - pixel_grid(64).flatten(1)
    torch.testing.assert_close(case.flow.flow[0].flatten(1).double(), flow, rtol=0, atol=2e-3)


def test_the_first_frame_rebuilds_the_novel_view_inside_the_mask(cases):
    for case in cases.values():
        new = case.novel
        view = render(case.world, case.views[0].camera.moved(case.offset[None]), 0.0)
        there = case.offset[:, :3] @ (rays_of(case) * view.depth.flatten()) + case.offset[:, 3:]  # in the first camera
        at = there[:2] / there[2] * case.focal / 32
        inside = (at.abs() <= 1).all(dim=0).view(64, 64)
        mask = new.mask[0]
        assert 0.3 < float(mask.float().mean()) < 1
        assert bool(inside[mask].all())
        assert float(mask[inside & view.pure[0]].float().mean()) > 0.9  # the rest is hidden in the first frame
        grid = at.T.view(1, 64, 64, 2).float()
        source = torch.cat([case.frames[:1], case.views[0].pure[:, None].float()], dim=1)
        rebuilt = F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
        assert masked_psnr(rebuilt[:3], new.truth[0], mask & (rebuilt[3] > 0.999)) > 33


def test_the_offset_is_five_percent_of_the_median_depth_and_a_small_turn(cases):
    for case in cases.values():
        assert float(case.offset[:, 3].norm()) == pytest.approx(0.05 * case.median_depth)
        cosine = (float(case.offset[:, :3].diagonal().sum()) - 1) / 2
        assert 0.5 <= math.degrees(math.acos(cosine)) <= 1.5


def test_the_plane_view_shifts_by_whole_pixels_as_on_paper():
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    intrinsics = torch.tensor([[[20.0, 0, 8], [0, 20, 8], [0, 0, 1]]])
    offset = torch.eye(3, 4, dtype=torch.float64)
    offset[0, 3] = 3 * 5.0 / 20  # three pixels at depth 5: the camera goes right, the scene left
    case = SimpleNamespace(views=[SimpleNamespace(camera=Camera(intrinsics, torch.eye(3, 4)[None], 16))], median_depth=5.0, focal=20.0,
                           offset=offset, size=16, frames=picture)
    torch.testing.assert_close(plane_view(case)[:, :, :13], picture[0, :, :, 3:], rtol=0, atol=1e-4)
    offset[0, 3], offset[2, 3] = 0, 2.5  # halfway to the plane, everything is twice as large
    case.frames = (pixel_grid(16)[:1] / 16).expand(1, 3, 16, 16)
    torch.testing.assert_close(plane_view(case), ((pixel_grid(16)[:1] - 8) / 2 + 8).expand(3, 16, 16) / 16, rtol=0, atol=1e-5)


def test_transfer_carries_the_path_to_another_world_through_the_same_lens(cases):
    case = cases["camera"]
    new = case.transfer
    assert new.truth.shape == (4, 3, 64, 64)
    assert new.mask.shape == (4, 64, 64)
    assert not torch.equal(new.given, case.frames[0])
    start = Camera(case.views[0].camera.intrinsics, case.other.camera_path.pose(0.0), 64)
    given = render(case.other, start, 0.0)
    torch.testing.assert_close(new.given, given.image[0])
    path = case.pose.clone()
    path[:, 3] *= given.depth.median() / case.depth.median()
    torch.testing.assert_close(new.truth[-1], render(case.other, start.moved(path[None]), 0.0).image[0])
    unlike = [masked_psnr(new.given, truth, mask) for truth, mask in zip(new.truth, new.mask, strict=True)]
    assert unlike[0] > unlike[-1] > 10  # the further, the more it differs


def test_frame_pairs_serve_the_identity_tests(textures):
    camera, objects = (frame_pairs(kind, 2, 32, 0, textures) for kind in ("camera", "objects"))
    assert [pair[0].shape for pair in camera] == [(3, 32, 32)] * 2
    table = identity_tests("linear blend", PairMethod(blend), camera, None, camera, objects)
    assert (table["verdict"] == "passes").all()


@pytest.mark.parametrize(
    ("limits", "size", "message"), [((2.0, 1.0), 32, "bin of motion"), ((0.0, 1.0), 32, "bin of motion"), (FEW, 40, "multiple of 16")]
)
def test_a_case_out_of_range_is_refused(textures, limits, size, message):
    with pytest.raises(ConfigError, match=message):
        scene_case(limits, 0, size, 0, textures)


# The measures


def oracle(case):
    """An estimator that knows: its depth and translation in other units."""
    pose = case.pose.clone()
    pose[:, 3] *= 3
    return lambda first, second, focal: Estimate(case.flow.flow[0], case.depth / 2, pose)


def values_of(rows):
    return {measure: (value, note) for measure, _, value, note in rows}


def test_the_truth_scores_perfectly(cases):
    values = values_of(estimated("oracle", oracle(cases["both"]), cases["both"]))
    for measure in ("flow epe", "flow outliers", "depth abs rel", "rotation error", "translation direction error"):
        assert values[measure] == (pytest.approx(0, abs=1e-4), "")
    assert values["depth rank correlation"] == (pytest.approx(1), "")


def test_an_estimator_gets_the_lens(cases):
    asked = []

    def estimator(first, second, focal):
        asked.append(focal)
        return Estimate()

    assert estimated("asks", estimator, cases["both"]) == []
    assert asked == [cases["both"].focal]


def test_nothing_moves_is_off_by_the_motion(cases):
    case = cases["both"]
    values = values_of(estimated("nothing", NothingMoves(), case))
    assert values["flow epe"][0] == pytest.approx(case.motion, rel=1e-5)
    assert values["rotation error"][0] > 0.01
    assert math.isnan(values["translation direction error"][0])
    assert values["translation direction error"][1] == values["depth rank correlation"][1] == "undefined"


def test_without_parallax_depth_and_translation_are_left_out(cases):
    values = values_of(estimated("oracle", oracle(cases["objects"]), cases["objects"]))
    for measure in ("depth abs rel", "depth rank correlation", "translation direction error"):
        assert math.isnan(values[measure][0])
        assert values[measure][1] == "no parallax"
    assert values["flow epe"] == (pytest.approx(0), "")


def test_an_estimator_of_new_views_is_scored_on_them(cases):
    case = cases["camera"]

    class Knows(NothingMoves):
        def novel_view(self, first, second, offset, focal, depth):
            return case.novel.truth[0]

        def transfer(self, frames, picture):
            assert len(frames) == 5
            return picture.expand(4, -1, -1, -1)

    values = estimated("knows", Knows(), case)
    assert values_of(values)["novel view psnr"][0] == math.inf
    carried = [row for row in values if row[0] == "pose transfer psnr"]
    assert [row[1] for row in carried] == [0.25, 0.5, 0.75, 1.0]
    assert carried == [row for row in unmoved(case) if row[0] == "pose transfer psnr"]
    assert plane(case)[0][2] > unmoved(case)[0][2]


def test_pictures_between_are_scored_at_three_moments(cases):
    assert {row[2] for row in between("repeat", PairMethod(repeat), cases["still"]) if row[0] == "psnr"} == {math.inf}
    rows = between("repeat", PairMethod(repeat), cases["both"])
    assert [(row[0], row[1]) for row in rows] == [(m, t) for t in (0.25, 0.5, 0.75) for m in ("mse", "psnr")]
    truth = (cases["both"].frames[1] * 255).round() - (cases["both"].frames[0] * 255).round()
    assert rows[0][2] == pytest.approx(float(truth.double().square().mean()))


# The tables


def refuses(first, second, times):
    raise ValueError("no such thing")


def scored(folder, textures, methods=None, **changes):
    methods = methods or {"repeat": PairMethod(repeat), "linear blend": PairMethod(blend)}
    settings = {"bins": [(0.0, 0.0), FEW], "worlds_per_bin": 2, "size": 32, "textures": textures, "progress": lambda line: None} | changes
    return score_scenes(methods, {"nothing moves": NothingMoves()}, folder, **settings)


def test_tables_are_whole_and_the_same_bytes_again(tmp_path, textures):
    result = scored(tmp_path / "a", textures)
    assert list(result.scores.columns) == COLUMNS
    assert result.scores["value"].isna().sum() == (result.scores["note"] != "").sum() > 0
    assert set(result.scores["method"]) == {"repeat", "linear blend", "nothing moves", "unmoved frame", "plane at the median depth"}
    assert result.scores.groupby("bin")["world"].nunique().tolist() == [2, 2]
    scored(tmp_path / "b", textures)
    for name in ("scene_scores.csv", "scene_summary.csv", "scenes.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert not (tmp_path / "a" / "scene_failures.log").exists()
    assert scored(tmp_path / "c", textures, seed=1).scores["world"].isin(result.scores["world"]).sum() == 0


def test_what_is_finished_is_taken_from_there(tmp_path, textures, monkeypatch):
    before = scored(tmp_path, textures)
    files = {name: (tmp_path / name).read_bytes() for name in ("scene_scores.csv", "scene_summary.csv", "scenes.json")}
    monkeypatch.setattr("vae4d.evaluation.scene_truth.scene_case", lambda *args: pytest.fail("a world was drawn again"))
    assert scored(tmp_path, textures).scores.equals(before.scores)
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


def test_a_failing_method_loses_its_own_rows(tmp_path, textures):
    lines = []
    methods = {"repeat": PairMethod(repeat), "mine": PairMethod(refuses)}
    result = scored(tmp_path, textures, methods, progress=lines.append)
    assert "mine" not in set(result.scores["method"])
    assert {"repeat", "nothing moves"} <= set(result.scores["method"])
    failures = json.loads((tmp_path / "scenes.json").read_text())["failures"]
    expected = [("mine", limits, "ValueError: no such thing") for limits in ("still", "2-4 px")]
    assert [(failure["method"], failure["bin"], failure["message"]) for failure in failures] == expected
    assert "refuses" in (tmp_path / "scene_failures.log").read_text()
    assert sum("FAILED. ValueError: no such thing" in line for line in lines) == 2


def test_where_everything_fails_the_run_says_so(tmp_path, textures):
    with pytest.raises(MethodError, match="no such thing"):
        score_scenes({"mine": PairMethod(refuses)}, {}, tmp_path, [FEW], 1, 32, textures=textures, progress=lambda line: None)
    assert not (tmp_path / "scene_scores.csv").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"bins": [FEW, FEW]}, "bins that differ"), ({"worlds_per_bin": 0}, "bins that differ"), ({"size": 30}, "multiple of 16")],
)
def test_settings_out_of_range_are_refused(tmp_path, textures, changes, message):
    with pytest.raises(ConfigError, match=message):
        scored(tmp_path, textures, **changes)


def test_nothing_to_score_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="name a method or an estimator"):
        score_scenes({}, {}, tmp_path)


# The summary


def table(values, measure="psnr", limits="2-4 px", notes=None):
    """Scores of one method, one row a world."""
    rows = [(limits, i, "both", 32, 2.0 + i, 1.0, "m", measure, None, v, "dB", "") for i, v in enumerate(values)]
    return pd.DataFrame(rows, columns=COLUMNS).assign(note=notes or [""] * len(rows))


def test_a_summary_on_paper():
    values = [30.0, 32.0, np.inf, np.nan, np.nan]
    summary = scene_summary(table(values, notes=["", "", "", "undefined", "no parallax"]))
    row = summary[summary["bin"] == "2-4 px"].iloc[0]
    assert (row["mean"], row["worlds"], row["values"], row["undefined"], row["no_parallax"], row["exact"]) == (31, 2, 5, 1, 1, 1)
    assert row["motion"] == 2.5
    assert math.isnan(row["low"])
    assert summary[summary["bin"] == "all"].iloc[0]["mean"] == 31


def test_intervals_take_eight_worlds():
    assert math.isnan(scene_summary(table(range(7))).iloc[0]["low"])
    row = scene_summary(table(range(8))).iloc[0]
    assert row["low"] < row["mean"] == 3.5 < row["high"]
    sharp = scene_summary(table([4.0] * 8)).iloc[0]
    assert (sharp["low"], sharp["mean"], sharp["high"]) == (4, 4, 4)


def test_values_of_a_world_count_as_one():
    scores = pd.concat([table([10.0, 40.0]), table([20.0])])  # world 0 twice
    assert scene_summary(scores).iloc[0]["mean"] == (15 + 40) / 2


def test_the_bin_all_leaves_still_worlds_out():
    summary = scene_summary(pd.concat([table([np.inf, np.inf], limits="still"), table([20.0, 30.0])]))
    assert summary.set_index("bin")["mean"].to_dict() == {"still": math.inf, "2-4 px": 25, "all": 25}


def test_pooled_psnr_is_that_of_the_mean_error():
    summary = scene_summary(table([0.0, 2 * 65.025] + [65.025] * 6, measure="mse")).set_index(["bin", "measure"])
    pooled = summary.loc[("2-4 px", "psnr pooled")]
    assert pooled["mean"] == pytest.approx(30)
    assert pooled["low"] < 30 < pooled["high"]
    assert pooled["exact"] == 1
