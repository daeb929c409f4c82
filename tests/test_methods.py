"""Methods: baselines whose answer is known, models, users' functions, and predictions that are none."""

from __future__ import annotations

import pickle
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_recipe import golden_model

from vae4d import metrics
from vae4d.checkpoint import build_model, save_checkpoint
from vae4d.errors import CheckpointError, ConfigError, MethodError, MissingInputError
from vae4d.evaluation.methods import BASELINES, ModelMethod, Pair, PairMethod, baselines, blend, checked, load_user_method, repeat
from vae4d.evaluation.optical_flow import FlowWarp, dis_flow, farneback_flow, warp


def frames_of(count: int, size: int = 64, shift: int = 3) -> torch.Tensor:
    """(count, 3, size, size) of a texture that moves `shift` pixels to the right a frame."""
    cells = torch.rand(1, 3, size // 8 + 1, (size + count * shift) // 8 + 2, generator=torch.Generator().manual_seed(0))
    wide = torch.nn.functional.interpolate(cells, scale_factor=12, mode="bicubic", align_corners=False)[0].clamp(0, 1)
    return torch.stack([wide[:, :size, (count - i) * shift : (count - i) * shift + size] for i in range(count)])


def pairs_of(frames: torch.Tensor, gap: int = 2, clip: str = "c"):
    """The chained pairs of frames (n, 3, S, S)."""
    for start in range(0, len(frames) - gap, gap):
        numbers = tuple(range(start + 1, start + gap))
        times = tuple((i - start) / gap for i in numbers)
        yield Pair(clip, frames.shape[-1], gap, start, frames[start], frames[start + gap], numbers, times)


def some_method(first, second, times):
    return torch.stack([first for _ in times])


def test_repeat_takes_the_nearer_frame_and_blend_weighs_by_time():
    first, second = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    assert repeat(first, second, (0.25, 0.5, 0.75))[:, 0, 0, 0].tolist() == [0, 0, 1]
    assert blend(first, second, (0.25, 0.5, 0.75))[:, 0, 0, 0].tolist() == [0.25, 0.5, 0.75]


@pytest.mark.parametrize("flow", [dis_flow, farneback_flow])
def test_flow_runs_from_the_first_to_the_second_in_pixels(flow):
    pytest.importorskip("cv2")
    frames = frames_of(3)
    forth, back = flow(frames[0], frames[1]), flow(frames[1], frames[0])
    assert forth.shape == (2, 64, 64) and forth.dtype == np.float32
    assert np.median(forth[0]) == pytest.approx(3, abs=0.15) and np.median(forth[1]) == pytest.approx(0, abs=0.15)
    assert np.median(back[0]) == pytest.approx(-3, abs=0.15)
    sideways = flow(frames[0].mT, frames[1].mT)
    assert np.median(sideways[0]) == pytest.approx(0, abs=0.15) and np.median(sideways[1]) == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("name", ["DIS", "Farneback"])
def test_flow_warp_beats_blend_by_far_at_every_moment(name):
    pytest.importorskip("cv2")
    frames = frames_of(5, shift=2)
    pair = next(pairs_of(frames, gap=4))
    (made,) = baselines([name])[name](iter([pair]))
    mixed = blend(pair.first, pair.second, pair.times)
    ours, theirs = (metrics.psnr(x[..., 16:-16, 16:-16], frames[1:4, :, 16:-16, 16:-16]) for x in (made, mixed))
    assert (ours - theirs).min() > 8


def test_flow_warp_uses_the_intermediate_flows_of_super_slomo():
    """A flow of 4 px to the right, 4 back: at t = 1/4 first(p - 1) and second(p + 3), weighed 3 to 1."""
    pytest.importorskip("cv2")
    x = torch.arange(16.0).expand(3, 16, 16) / 16
    calls = []

    def flow(first, second):
        calls.append(1)
        return np.stack([np.full((16, 16), 4.0 if first is x else -4.0, np.float32), np.zeros((16, 16), np.float32)])

    a, b = FlowWarp(flow)(x, x.clone() / 2, (0.25, 0.75))[:, 0, 8, 6] * 16
    assert a == pytest.approx(0.75 * 5 + 0.25 * 9 / 2) and b == pytest.approx(0.25 * 3 + 0.75 * 7 / 2)
    assert len(calls) == 2


def test_warp_is_bilinear_and_repeats_the_border():
    pytest.importorskip("cv2")
    image = np.repeat(np.arange(8, dtype=np.float32)[None, :, None], 8, 0).repeat(3, 2)
    flow = np.zeros((2, 8, 8), np.float32)
    flow[0] = 2.5
    assert warp(image, flow)[4, :, 0].tolist() == [2.5, 3.5, 4.5, 5.5, 6.5, 7, 7, 7]


def test_without_opencv_the_method_fails_and_not_the_list_of_methods(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    method = baselines(["DIS"])["DIS"]
    assert method.settings["opencv"] == "not installed"
    with pytest.raises(MethodError, match="pip install opencv-python-headless"):
        next(method(pairs_of(frames_of(3))))


def test_baselines_by_name():
    assert list(baselines()) == list(BASELINES) == ["repeat", "linear blend", "Farneback", "DIS", "minterpolate"]
    assert list(baselines(["DIS", "repeat"])) == ["repeat", "DIS"]
    with pytest.raises(ConfigError, match="baseline"):
        baselines(["RIFE"])


def test_every_method_travels_to_other_processes(checkpoint, tmp_path):
    (tmp_path / "mine.py").write_text("def f(first, second, times):\n    return first[None].repeat(len(times), 1, 1, 1)\n")
    model = ModelMethod(checkpoint)
    assert model.model is not None
    methods = [*baselines().values(), model, PairMethod(some_method, version="2"), load_user_method(f"{tmp_path}/mine.py:f")]
    pair = next(pairs_of(frames_of(3, 32)))
    for method in methods:
        copy = pickle.loads(pickle.dumps(method))
        assert copy.settings == method.settings
        if method.settings.get("opencv") != "not installed" and method.settings.get("ffmpeg") != "not installed":
            assert torch.equal(next(copy(iter([pair]))), next(method(iter([pair]))))
    assert len(pickle.dumps(model)) < 2000


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("model") / "model.safetensors", golden_model("small"), "flow")


def test_a_model_is_a_method_and_encodes_a_shared_frame_once(checkpoint, monkeypatch):
    method, calls, frames = ModelMethod(checkpoint), [], frames_of(5, 32)
    encode = method.model.encode
    monkeypatch.setattr(method.model, "encode", lambda frame: calls.append(1) or encode(frame))
    chained = list(method(pairs_of(frames)))
    assert len(calls) == 3 and [p.shape for p in chained] == [(1, 3, 32, 32)] * 2
    with torch.no_grad():
        truth = method.model(frames[2][None], frames[4][None], 0.5, use_flow=True).image
    assert torch.allclose(chained[1], truth, atol=1e-6) and not chained[1].requires_grad
    other = [replace(pair, clip=str(i)) for i, pair in enumerate(pairs_of(frames))]
    calls.clear()
    assert torch.equal(list(method(iter(other)))[1], chained[1]) and len(calls) == 4


def test_a_models_settings_tell_checkpoints_and_options_apart(checkpoint, tmp_path):
    other = save_checkpoint(tmp_path / "other.safetensors", golden_model("small"), "base")
    changes = [{}, {"use_flow": False}, {"semantics": "published"}]
    found = [*(ModelMethod(checkpoint, **change) for change in changes), ModelMethod(other)]
    assert len({str(method.settings) for method in found}) == 4
    pair = next(pairs_of(frames_of(3, 32)))
    assert not torch.equal(next(found[0](iter([pair]))), next(found[1](iter([pair]))))
    with pytest.raises(MissingInputError, match=r"no checkpoint .*nothing\.safetensors"):
        ModelMethod(tmp_path / "nothing.safetensors")
    with pytest.raises(ConfigError, match="semantics"):
        ModelMethod(checkpoint, semantics="own")


@pytest.fixture(scope="module")
def sharp(tmp_path_factory):
    """Untrained: its pictures are the linear blend."""
    return save_checkpoint(tmp_path_factory.mktemp("model") / "sharp.safetensors", build_model("sharp"), "sharp", {"data": []})


def test_a_sharp_checkpoint_is_a_method_too(sharp, monkeypatch):
    method, frames = ModelMethod(sharp), frames_of(5, 40)
    assert method.sharp and method.settings.keys() == {"checkpoint", "use_flow"} and method.settings["use_flow"] == "as trained"
    matched, calls, encode = [], [], method.model.encode
    one_way = method.model.one_way
    monkeypatch.setattr(method.model, "encode", lambda frame: calls.append(1) or encode(frame))
    monkeypatch.setattr(method.model, "one_way", lambda *how: matched.append(1) or one_way(*how))
    (made,) = method(pairs_of(frames, gap=4))
    assert torch.allclose(made, blend(frames[0], frames[4], (0.25, 0.5, 0.75)), atol=1e-3)
    assert len(calls) == 2 and len(matched) == 2  # one pair, both ways, whatever the number of moments
    assert ModelMethod(sharp, use_flow=False).settings["use_flow"] == "false"
    copy = pickle.loads(pickle.dumps(method))
    assert copy.sharp and torch.equal(next(copy(pairs_of(frames, gap=4))), made) and copy.seen == frozenset()


def test_a_sharp_checkpoint_has_no_semantics(sharp, checkpoint):
    assert not ModelMethod(checkpoint, semantics="published").sharp
    with pytest.raises(ConfigError, match=r"sharp\.safetensors is a sharp model.*'published' does not apply.*leave semantics out"):
        ModelMethod(sharp, semantics="published")


def test_what_a_checkpoint_has_seen(sharp, checkpoint, tmp_path):
    assert ModelMethod(checkpoint).seen is None and ModelMethod(sharp).seen == frozenset()
    path = save_checkpoint(tmp_path / "some.safetensors", golden_model("small"), "flow", {"data": ["a", "b"]})
    assert ModelMethod(path).seen == {"a", "b"}
    path.write_bytes(path.read_bytes()[:1000])
    broken = ModelMethod(path)  # told when the method is used
    assert broken.seen is None
    with pytest.raises(CheckpointError, match="not a whole safetensors"):
        broken.model  # noqa: B018


def test_a_users_function_joins(tmp_path):
    method = PairMethod(some_method, version="2")
    frames = frames_of(5, 16)
    made = list(method(pairs_of(frames)))
    assert torch.equal(made[1][0], frames[2]) and method.settings == {"function": "test_methods.some_method", "version": "2"}
    path = tmp_path / "mine.py"
    path.write_text("def halve(first, second, times):\n    return first[None] / 2\n")
    mine = load_user_method(f"{path}:halve")
    assert torch.equal(next(mine(pairs_of(frames)))[0], frames[0] / 2) and mine.settings["function"] == "halve"
    assert len(mine.settings["sha256"]) == 64
    (tmp_path / "random.py").write_text(  # a dataclass asks sys.modules for its module, which is not the library's of that name
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Own:\n    part: float = 0.25\n"
        "def scale(first, second, times):\n    return first[None] * Own().part\n")  # fmt: skip
    assert torch.equal(next(load_user_method(f"{tmp_path}/random.py:scale")(pairs_of(frames)))[0], frames[0] / 4)
    assert hasattr(sys.modules.get("random", random), "random")


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("x = 1", "mine.py", "names no function: write my_file.py:my_function"),
        ("x = 1", "other.py:f", "no file .*other.py"),
        ("x = 1", "mine.py:f", "mine.py has no function 'f'"),
        ("x = 1", "mine.py:x", "mine.py has no function 'x'"),
        ("import nothing_of_this_name", "mine.py:f", "mine.py cannot be run .ModuleNotFoundError: .*nothing_of_this_name"),
        ("def f(:", "mine.py:f", "mine.py cannot be run .SyntaxError"),
        ("import sys\nsys.exit(3)", "mine.py:f", "mine.py cannot be run .SystemExit: 3"),
    ],
)
def test_a_users_file_that_cannot_serve_is_named(tmp_path, text, where, message):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_user_method(f"{tmp_path}/{where}")


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (np.zeros((3, 3, 16, 16), np.float32), r"returned numpy.ndarray .*torch tensor \(3, 3, 16, 16\)"),
        (None, "returned NoneType .*torch tensor"),
        (torch.zeros(3, 3, 16, 16, dtype=torch.uint8), "returned torch.uint8 .*divided by 255"),
        (torch.zeros(1, 3, 16, 16), "returned 1 frames, not 3 .*moments 0.25, 0.5, 0.75"),
        (torch.zeros(3, 3, 32, 32), r"returned shape \(3, 3, 32, 32\), not \(3, 3, 16, 16\)"),
        (torch.zeros(3, 16, 16, 3), r"returned shape \(3, 16, 16, 3\)"),
        (torch.zeros(()), r"returned shape \(\)"),
        (torch.cat([torch.zeros(2, 3, 16, 16), torch.full((1, 3, 16, 16), torch.nan)]), r"not finite .*in frame 3"),
        (torch.full((3, 3, 16, 16), torch.inf), "not finite .*in frame 1"),
        (torch.full((3, 3, 16, 16), 128.0), "values from 128 to 128 .*divided by 255"),
        (torch.full((3, 3, 16, 16), -1.0), "values from -1 to -1 .*floats in"),
    ],
)
def test_what_is_no_prediction_is_refused_with_method_clip_and_remedy(prediction, message):
    pair = next(pairs_of(frames_of(5, 16), gap=4, clip="bikes"))
    with pytest.raises(MethodError, match=message) as caught:
        checked("mine", prediction, pair)
    assert "Method 'mine'" in str(caught.value) and "bikes (16 px, gap 4, frames 0 and 4)" in str(caught.value)


def test_a_prediction_comes_back_as_float32_within_the_range():
    pair = next(pairs_of(frames_of(3, 16)))
    colours = torch.tensor([-0.2, 0.5, 1.2], dtype=torch.float64, requires_grad=True)
    made = checked("mine", colours.reshape(1, 3, 1, 1).expand(1, 3, 16, 16), pair)
    assert made.dtype == torch.float32 and made[0, :, 0, 0].tolist() == [0, 0.5, 1] and not made.requires_grad
