"""Identity tests: a method that must pass passes, and one that breaks a rule fails exactly there."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from golden_recipe import golden_model
from torch import nn

from vae4d.checkpoint import build_model, save_checkpoint
from vae4d.errors import ConfigError, MethodError
from vae4d.evaluation.identity import COLUMNS, believed_motion, identity_tests
from vae4d.evaluation.methods import ModelMethod, PairMethod, blend, repeat

PAIRS = [tuple(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))) for seed in range(2)]


def verdicts(table) -> dict[str, str]:
    return dict(zip(table["test"], table["verdict"], strict=True))


def test_blend_passes():
    table = identity_tests("blend", PairMethod(blend), PAIRS)
    assert list(table.columns) == COLUMNS and len(table) == 4 and set(table["method"]) == {"blend"}
    assert set(table["verdict"]) == {"passes"} and table["value"].tolist()[:2] == [math.inf] * 2


@pytest.mark.parametrize(
    ("wrong", "broken"),
    [
        (lambda a, b, t: repeat(b, a, t),  # and at t = 0.5 it takes the first frame, whichever that is
         {"t = 0 gives back the first frame", "t = 1 gives back the second frame", "swapped frames mirror t"}),
        (lambda a, b, t: blend(a, b, tuple(x**2 for x in t)), {"swapped frames mirror t"}),
        (lambda a, b, t: torch.stack([(1 - x) * a + x * b if x in (0, 1) else torch.rand_like(a) for x in t]),
         {"equal frames give back the frame", "swapped frames mirror t"}),
    ],
    ids=["swapped", "not symmetric", "noise"],
)  # fmt: skip
def test_a_broken_rule_fails(wrong, broken):
    found = verdicts(identity_tests("wrong", PairMethod(wrong), PAIRS))
    assert {test for test, verdict in found.items() if verdict == "fails"} == broken


class Believer(nn.Module):
    """Sees a flow and a pose that grow with the difference of the frames; red is moved by objects, green by the camera."""

    def __init__(self, rest: float = 0.0):
        super().__init__()
        self.weight, self.rest = nn.Parameter(torch.zeros(1)), rest

    def synthesise(self, first, second, t):
        objects, camera = (second - first).mean(dim=(0, 2, 3))[:2].tolist()
        flow = torch.zeros(1, 2, 8, 8, 3)
        flow[..., 0], flow[..., 1], flow[..., 2] = 3 / 16 * objects + self.rest, 4 / 16 * objects, 9.0  # depth does not count
        return SimpleNamespace(voxel_flow=flow, pose=torch.tensor([[0.1 * camera, 0, 0, 0, 0.3 * camera, 0.4 * camera]]))


def moved(channel: int) -> tuple[torch.Tensor, torch.Tensor]:
    second = torch.zeros(3, 32, 32)
    second[channel] = 1
    return torch.zeros(3, 32, 32), second


def test_believed_motion_in_its_units():
    assert believed_motion(Believer(), [moved(0)]) == pytest.approx((5, 0, 0), abs=1e-3)  # 16 px a unit: 3 and 4 px
    assert believed_motion(Believer(), [moved(1)]) == pytest.approx((0, math.degrees(0.1), 0.5), abs=1e-5)


def test_a_model_is_asked_for_its_pose_and_flow():
    scenes = {"camera_only": [moved(1)], "objects_only": [moved(0)]}
    found = verdicts(identity_tests("model", PairMethod(blend), PAIRS, Believer(), **scenes))
    assert len(found) == 10 and set(found.values()) == {"passes"}
    slight = [tuple(0.008 * frame for frame in pair) for pair in (moved(0), moved(1))]  # 0.04 px, 0.05 degrees: noise, whatever the scenes
    found = identity_tests("model", PairMethod(blend), PAIRS, Believer(), [slight[0]], [slight[1]]).set_index("test")
    assert found["limit"].tolist()[-3:] == ["<= 0.1", "<= 0.1", "<= 0.005"] and set(found["verdict"]) == {"passes"}
    rest = identity_tests("model", PairMethod(blend), PAIRS, Believer(rest=0.5), **scenes).set_index("test")
    assert rest.loc["equal frames give no flow", ["value", "unit", "limit", "verdict"]].tolist() == [8, "px", "<= 0.1", "fails"]
    swapped = verdicts(identity_tests("model", PairMethod(blend), PAIRS, Believer(), [moved(0)], [moved(1)]))
    assert [test for test, verdict in swapped.items() if verdict == "fails"] == list(swapped)[-3:]


def test_the_real_model_runs_through():
    model = golden_model("small")
    model.flow_trained = True
    table = identity_tests("model", PairMethod(blend), PAIRS[:1], model).set_index("test")
    assert len(table) == 7 and table["value"].notna().all()
    model.flow_trained = False
    assert verdicts(identity_tests("model", PairMethod(blend), PAIRS[:1], model))["equal frames give no flow"] == "no flow"


@pytest.fixture(scope="module")
def sharp(tmp_path_factory):
    """A sharp model with random weights in all its parts: what holds by construction holds for these."""
    model, draws = build_model("sharp"), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=draws)
    return ModelMethod(save_checkpoint(tmp_path_factory.mktemp("model") / "sharp.safetensors", model, "sharp", {"data": []}))


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (72, 72)])  # the last one is no multiple of the coarsest cells
def test_the_sharp_model_passes_by_construction(sharp, size):
    smooth = torch.nn.functional.interpolate(torch.stack([frame for pair in PAIRS for frame in pair]), size, mode="bilinear")
    pairs = [(smooth[0], smooth[1]), (smooth[2], smooth[3]), (smooth[0], 0.9 * smooth[0].roll(2, dims=2))]
    believed = believed_motion(sharp.model, pairs)
    assert min(believed) > 1e-4, "weights that believe in no motion would pass without any construction"
    table = identity_tests("sharp", sharp, pairs, sharp.model)
    assert len(table) == 7 and set(table["verdict"]) == {"passes"}, table
    assert table["value"].tolist()[-3:] == [0, 0, 0]


def test_flow_counts_by_the_share_of_a_voxel_where_the_model_tells_it(sharp, monkeypatch):
    made = sharp.model.synthesise(PAIRS[0][0][None], PAIRS[0][1][None], 0.5)
    flow, share = torch.zeros_like(made.voxel_flow), torch.zeros_like(made.density)
    flow[:, 0, ..., 0], flow[:, 1, ..., 0] = 100.0, 0.25  # nobody sees the first plane, everybody the second
    share[:, 1] = 1
    known = type(made)(**{**made.__dict__, "voxel_flow": flow, "density": share})
    monkeypatch.setattr(sharp.model, "synthesise", lambda first, second, t: known)
    assert believed_motion(sharp.model, [PAIRS[0]])[0] == pytest.approx(4)  # a quarter of half of 32 px


def test_wrong_requests():
    with pytest.raises(ConfigError, match="at least one pair"):
        identity_tests("blend", PairMethod(blend), [])
    with pytest.raises(ConfigError, match="give both, or neither"):
        identity_tests("blend", PairMethod(blend), PAIRS, Believer(), camera_only=PAIRS)
    with pytest.raises(MethodError, match="Method 'short' returned"):
        identity_tests("short", PairMethod(lambda a, b, t: a[None]), PAIRS)
