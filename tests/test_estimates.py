"""What estimators say: signs and units from volumes and poses whose motion is known, never from trained weights."""

from __future__ import annotations

import pickle

import pytest
import torch

from vae4d.checkpoint import build_model, save_checkpoint
from vae4d.errors import MethodError
from vae4d.evaluation.estimates import Estimate, ViewEstimator, checked_estimate, checked_views, estimators
from vae4d.evaluation.faithful_estimates import FaithfulEstimator, project_volume
from vae4d.evaluation.methods import ModelMethod, Pair
from vae4d.evaluation.sharp_estimates import SharpEstimator
from vae4d.faithful.model import Encoded
from vae4d.geometry import camera_of_cube, euler_to_theta, flow_warp, invert, offset_in_cube, warp
from vae4d.sharp.camera import twist_matrix

SIDE, SLICES = 8, 4  # a volume of a 32 px picture


def theta(*numbers: float) -> torch.Tensor:
    return euler_to_theta(torch.tensor([numbers], dtype=torch.float64))


@pytest.fixture
def volume():
    """A code with one bright voxel in row 4, column 3, slice 2."""
    code = torch.zeros(1, 1, SLICES, SIDE, SIDE, dtype=torch.float64)
    code[0, 0, 2, 4, 3] = 1
    return code


@pytest.fixture
def frames():
    """A smooth picture, and the same 2 px further right and 1 px further up."""
    small = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    wide = torch.nn.functional.interpolate(small, (80, 80), mode="bicubic", align_corners=False)[0].clamp(0, 1)
    return wide[:, 8:72, 8:72].contiguous(), wide[:, 9:73, 6:70].contiguous()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Untrained, but marked as one whose flow is trained, so that all of it is used."""
    return save_checkpoint(tmp_path_factory.mktemp("model") / "model.safetensors", build_model("small"), "flow")


def place(code: torch.Tensor) -> tuple[int, ...]:
    """(slice, row, column) of the brightest voxel."""
    return tuple(int(i[0]) for i in torch.where(code[0, 0] == code[0, 0].max()))


def test_voxel_flow_points_from_the_first_view_to_the_second(volume):
    # F moves the voxel one column right and one row up: S(p + F(p)) = E(p), so F is minus the motion.
    offset = torch.zeros(1, SLICES, SIDE, SIDE, 3, dtype=torch.float64)
    offset[..., 0], offset[..., 1] = -2 / SIDE, 2 / SIDE
    assert place(volume) == (2, 4, 3)
    assert place(flow_warp(volume, offset)) == (2, 3, 4)
    flow, _ = project_volume(offset, theta(0, 0, 0, 0, 0, 0), volume[:, 0])
    torch.testing.assert_close(flow[0], torch.tensor([4.0, -4.0], dtype=torch.float64)[:, None, None].expand(2, 32, 32))  # 4 px a voxel


def test_the_pose_moves_content_the_way_warping_does(volume):
    # The second view's code is V0 warped by theta: there the voxel is where theta^-1 carries it.
    moved = theta(0, 0, 0, 2 / SIDE, 2 * 2 / SIDE, 0)
    assert place(warp(volume, moved)) == (2, 2, 2)  # one column left, two rows up
    flow, _ = project_volume(torch.zeros(1, SLICES, SIDE, SIDE, 3, dtype=torch.float64), moved, volume[:, 0])
    torch.testing.assert_close(flow[0, :, 18, 14], torch.tensor([-4.0, -8.0], dtype=torch.float64))


def test_pose_and_voxel_flow_compose_as_in_the_model(volume):
    # World moved right by one voxel, seen by a camera turned by 90 degrees: V1 is the warp of the moved V0.
    turn = theta(0, 0, torch.pi / 2, 0, 0, 0)
    offset = torch.zeros(1, SLICES, SIDE, SIDE, 3, dtype=torch.float64)
    offset[..., 0] = -2 / SIDE
    second = place(warp(flow_warp(volume, offset), turn))
    flow, _ = project_volume(offset, turn, volume[:, 0])
    # at the voxel's centre, between four of the enlarged pixels
    seen = flow[0, :, 17:19, 13:15].mean(dim=(1, 2))
    torch.testing.assert_close(seen, torch.tensor([4.0 * (second[2] - 3), 4.0 * (second[1] - 4)], dtype=torch.float64), rtol=0, atol=1e-6)


def test_depth_is_the_weighted_mean_of_slices_and_the_cube_lies_two_in_front():
    weight = torch.zeros(1, SLICES, SIDE, SIDE)
    weight[:, 0], weight[:, 3] = 3.0, 1.0  # slices at -0.75, -0.25, 0.25, 0.75
    weight[:, :, :, 4:] = 0  # nothing there: all slices alike
    offset = torch.zeros(1, SLICES, SIDE, SIDE, 3)
    _, depth = project_volume(offset, theta(0, 0, 0, 0, 0, 0).float(), weight)
    assert depth.shape == (1, 32, 32)
    torch.testing.assert_close(depth[0, :, 0], torch.full((32,), 2 - 0.375))
    torch.testing.assert_close(depth[0, :, -1], torch.full((32,), 2.0))


def test_flow_is_weighted_by_importance():
    weight = torch.ones(1, SLICES, SIDE, SIDE)
    weight[:, 1] = 5.0
    offset = torch.zeros(1, SLICES, SIDE, SIDE, 3)
    offset[:, 1, ..., 0] = -0.5
    flow, _ = project_volume(offset, theta(0, 0, 0, 0, 0, 0).float(), weight)
    torch.testing.assert_close(flow[0, 0], torch.full((32, 32), 0.5 * 5 / 8 * 16))


def test_camera_of_cube_turns_about_the_camera():
    cube = theta(0.1, -0.2, 0.3, 0.4, 0.5, 0.6)
    point, centre = torch.tensor([0.3, -0.5, 0.7], dtype=torch.float64), torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)
    first = cube[0, :, :3] @ point + cube[0, :, 3] + centre
    pose = camera_of_cube(cube)[0]
    torch.testing.assert_close(pose[:, :3] @ (point + centre) + pose[:, 3], first)
    # A cube that swings about its own centre is a camera that circles it.
    torch.testing.assert_close(camera_of_cube(theta(0.1, 0, 0, 0, 0, 0))[0, :, 3], centre - theta(0.1, 0, 0, 0, 0, 0)[0, :, :3] @ centre)


@pytest.mark.parametrize("focal", [100.0, 128.0, 190.0])
@pytest.mark.parametrize(
    "numbers", [(0, 0, 0, 0.1, 0, 0), (0, 0, 0, 0, -0.2, 0), (1e-3, 0, 0, 0, 0, 0), (0, 2e-3, 0, 0, 0, 0), (0, 0, 0.01, 0, 0, 0)]
)
def test_an_offset_moves_a_point_at_the_median_depth_by_as_many_pixels_as_in_truth(numbers, focal):
    width, depth = 128, 5.0
    offset = theta(*numbers)
    x = torch.tensor([0.2, -0.3], dtype=torch.float64)  # where the moved view shows it, in cube units
    pixel = x * width / 2
    point = torch.cat([pixel / focal * depth, torch.tensor([depth], dtype=torch.float64)])  # in the moved camera, at the median depth
    first = offset[0, :, :3] @ point + offset[0, :, 3]
    truth = first[:2] / first[2] * focal - pixel
    cube = offset_in_cube(offset, focal, depth, width)[0]
    source = cube[:, :3] @ torch.cat([x, torch.zeros(1, dtype=torch.float64)]) + cube[:, 3]
    # The cube has no perspective: turns differ by the second order, here a few hundredths of a pixel.
    torch.testing.assert_close((source[:2] - x) * width / 2, truth, rtol=0, atol=0.05)
    assert truth.norm() > 0.1


def test_flow_estimators_see_a_moved_picture(frames):
    estimates = {name: estimator(*frames) for name, estimator in estimators().items()}
    assert list(estimates) == ["nothing moves", "Farneback", "DIS"]
    for name in ("Farneback", "DIS"):
        flow = checked_estimate(name, estimates[name], 64).flow[:, 16:48, 16:48]
        torch.testing.assert_close(flow.mean(dim=(1, 2)), torch.tensor([2.0, -1.0]), rtol=0, atol=0.2)
        assert estimates[name].depth is None
        assert estimates[name].pose is None
    still = estimates["nothing moves"]
    assert float(still.flow.abs().max()) == 0
    assert torch.equal(still.pose, torch.eye(3, 4))


def test_the_model_says_all_and_makes_views(frames, checkpoint):
    method = ModelMethod(checkpoint)
    next(method(iter([pair_of(frames)])))  # a method loads its weights in inference mode: the estimator must not mind
    estimator = estimators([("model", method)])["model"]
    assert isinstance(estimator, ViewEstimator)
    estimate = checked_estimate("model", estimator(*frames), 64)
    assert float(estimate.depth.min()) > 1
    assert float(estimate.depth.max()) < 3
    turn = estimate.pose[:, :3]
    torch.testing.assert_close(turn @ turn.T, torch.eye(3), rtol=0, atol=1e-5)
    again = pickle.loads(pickle.dumps(estimator))(*frames)
    assert all(torch.equal(getattr(estimate, part), getattr(again, part)) for part in ("flow", "depth", "pose"))
    offset = torch.eye(3, 4, dtype=torch.float64)
    unmoved = checked_views("model", estimator.novel_view(*frames, offset, 64.0, 3.0), (3, 64, 64))
    offset[0, 3] = 0.5
    moved = estimator.novel_view(*frames, offset, 64.0, 3.0)
    assert not torch.equal(unmoved, moved)
    checked_views("model", estimator.transfer([*frames, frames[0]], frames[1]), (2, 3, 64, 64))


def test_an_unmoved_novel_view_is_the_models_frame_at_0(frames, checkpoint):
    method = ModelMethod(checkpoint)
    expected = method.model.synthesise(frames[0][None], frames[1][None], 0.0).image[0]
    view = FaithfulEstimator(method).novel_view(*frames, torch.eye(3, 4, dtype=torch.float64), 64.0, 3.0)
    torch.testing.assert_close(view, expected, rtol=0, atol=1e-5)


class KnownFlow(torch.nn.Module):
    """A flow encoder that knows the answer, and makes sure that it is the answer to what it is given."""

    def __init__(self, offset: torch.Tensor):
        super().__init__()
        self.offset = offset

    def forward(self, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        inner = (..., slice(4, 12), slice(4, 12))
        torch.testing.assert_close(flow_warp(start, self.offset)[inner], end[inner], rtol=0, atol=1e-5)
        return self.offset


def test_the_model_is_read_right_where_its_codes_poses_and_flow_are_known(frames, checkpoint, monkeypatch):
    estimator = FaithfulEstimator(ModelMethod(checkpoint))
    model = estimator.method.model
    first = torch.rand(1, 16, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    # The world moves by a voxel to the right, and the camera so that everything moves two voxels up beside.
    offset = torch.zeros(1, 16, 16, 16, 3)
    offset[..., 0] = -2 / 16
    there, back = (torch.tensor([[0, 0, 0, 0, way * 2 * 2 / 16, 0]]) for way in (1, -1))
    second = warp(flow_warp(first, offset), euler_to_theta(there))

    def is_first(frame: torch.Tensor) -> bool:
        return torch.equal(frame[0], frames[0])

    monkeypatch.setattr(model, "encode", lambda frame: Encoded(frame, first if is_first(frame) else second))
    monkeypatch.setattr(model, "pose", lambda reference, target: there if is_first(reference) else back)
    monkeypatch.setattr(model, "encoder_flow", KnownFlow(offset))
    estimate = estimator(*frames)
    torch.testing.assert_close(estimate.flow, torch.tensor([4.0, -8.0])[:, None, None].expand(2, 64, 64), rtol=0, atol=1e-4)
    torch.testing.assert_close(estimate.pose[:, 3], torch.tensor([0, 0.25, 0]))
    without = FaithfulEstimator(ModelMethod(checkpoint, use_flow=False))
    without.method._model = model
    torch.testing.assert_close(without(*frames).flow, torch.tensor([0.0, -8.0])[:, None, None].expand(2, 64, 64), rtol=0, atol=1e-4)


def perturbed(name: str, scale: float = 0.02):
    """An untrained model in which every part has an effect."""
    model, draws = build_model(name), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += scale * torch.randn(weight.shape, generator=draws)
    return model


@pytest.fixture(scope="module")
def sharp(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "sharp.safetensors"
    return SharpEstimator(ModelMethod(save_checkpoint(path, perturbed("sharp"), "sharp", {"data": []})))


def test_the_family_decides_how_a_model_is_read(sharp, checkpoint):
    made = estimators([("small", ModelMethod(checkpoint)), ("sharp", sharp.method)])
    assert type(made["small"]) is FaithfulEstimator
    assert type(made["sharp"]) is SharpEstimator
    assert isinstance(made["sharp"], ViewEstimator)
    assert "semantics" not in made["sharp"].settings


def test_the_sharp_model_says_what_its_synthesis_says(frames, sharp):
    estimate = checked_estimate("sharp", sharp(*frames, 80.0), 64)
    model = sharp.method.model
    made = model.synthesise(frames[0][None], frames[1][None], 0.0, focal=80 / 64)
    torch.testing.assert_close(estimate.flow, made.motion[1][0], rtol=0, atol=1e-5)
    torch.testing.assert_close(estimate.depth, made.depth[0], rtol=0, atol=1e-5)
    assert float(estimate.flow.abs().max()) > 1e-3
    # The cube's pose says the same motion: its unit is 1 / (2 focal) of the median depth, and its centre lies 2 focal in front.
    pose = camera_of_cube(euler_to_theta(made.pose), 2 * 80 / 64)[0]
    torch.testing.assert_close(estimate.pose, torch.cat([pose[:, :3], pose[:, 3:] / (2 * 80 / 64)], dim=1), rtol=0, atol=1e-5)
    assert float(estimate.pose[:, 3].norm()) > 1e-5
    other, nominal, unknown = sharp(*frames, 160.0), sharp(*frames, 64.0), sharp(*frames)
    assert not torch.equal(other.pose, estimate.pose)  # the lens counts
    assert torch.equal(nominal.pose, unknown.pose)
    again = pickle.loads(pickle.dumps(sharp))(*frames, 80.0)
    assert all(torch.equal(getattr(estimate, part), getattr(again, part)) for part in ("flow", "depth", "pose"))


def test_the_pose_of_the_sharp_model_maps_the_second_cameras_points_to_the_first(frames, sharp, monkeypatch):
    xi = torch.tensor([[0.1, -0.2, 0.3, 0.01, 0.02, -0.03]])
    monkeypatch.setattr(sharp.method.model, "twist", lambda first, second, focal: xi)
    torch.testing.assert_close(sharp(*frames).pose, twist_matrix(xi)[0, :3])


def test_swapped_frames_swap_what_the_sharp_model_says(frames, sharp):
    there, back = sharp(*frames).pose, sharp(*frames[::-1]).pose
    torch.testing.assert_close(invert(there[None])[0], back, rtol=0, atol=1e-5)


class Wall:
    """Stands for a sharp model that sees a wall; keeps what it is asked for."""

    def __init__(self, model, depth: float):
        self.model, self.depth, self.asked = model, depth, []

    def __call__(self, first, second, t, offset=None, **how):
        made = self.model(first, second, t, offset, **how)
        self.asked.append((offset, how["focal"]))
        return type(made)(**{**made.__dict__, "depth": torch.full_like(made.depth, self.depth)})


def test_an_offset_reaches_the_sharp_model_in_the_unit_of_its_depth(frames, sharp, monkeypatch):
    model = sharp.method.model
    wall = Wall(model.synthesise, 2.0)
    monkeypatch.setattr(model, "synthesise", wall)
    offset = torch.eye(3, 4, dtype=torch.float64)
    offset[0, 3] = 0.3
    sharp.novel_view(*frames, offset, 80.0, 6.0)  # a depth of 6 is 2 of the model's: its unit is 3, and 0.3 is a tenth
    six, focal = wall.asked[-1]
    assert focal == 80 / 64
    moved = model.offset(six, torch.tensor([focal]))[0]
    expected = torch.eye(4)
    expected[0, 3] = 0.1
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-6)


def test_the_sharp_model_makes_views(frames, sharp):
    still, moved = torch.eye(3, 4, dtype=torch.float64), torch.eye(3, 4, dtype=torch.float64)
    moved[0, 3] = 0.2
    unmoved = checked_views("sharp", sharp.novel_view(*frames, still, 64.0, 3.0), (3, 64, 64))
    torch.testing.assert_close(unmoved, frames[0], rtol=0, atol=1e-4)
    assert not torch.equal(sharp.novel_view(*frames, moved, 64.0, 3.0), unmoved)
    views = checked_views("sharp", sharp.transfer([*frames, frames[0]], frames[1]), (2, 3, 64, 64))
    with torch.inference_mode():
        step = sharp.method.model.synthesise(frames[0][None], frames[1][None], 0.0).pose
        expected = sharp.method.model.synthesise(frames[1][None], frames[1][None], 0.0, step).image[0]
    torch.testing.assert_close(views[0], expected, rtol=0, atol=1e-4)  # the first step of the path
    torch.testing.assert_close(views[1], frames[1], rtol=0, atol=5e-3)  # there and back


@pytest.mark.parametrize(
    ("estimate", "message"),
    [
        (torch.zeros(2, 16, 16), "returned Tensor: return an Estimate"),
        (Estimate(flow=torch.zeros(16, 16, 2)), r"flow of shape \(16, 16, 2\), not \(2, 16, 16\)"),
        (Estimate(depth=torch.full((16, 16), float("nan"))), "depth with NaN"),
        (Estimate(pose=[[1.0]]), "pose of shape list"),
    ],
)
def test_a_wrong_estimate_is_refused(estimate, message):
    with pytest.raises(MethodError, match=f"'mine' {message}" if message.startswith("returned") else message):
        checked_estimate("mine", estimate, 16)


@pytest.mark.parametrize(
    ("views", "message"),
    [(torch.zeros(3, 8, 8), "of the given size"), (torch.full((3, 16, 16), float("inf")), "NaN or infinite"), (None, "NoneType")],
)
def test_wrong_views_are_refused(views, message):
    with pytest.raises(MethodError, match=message):
        checked_views("mine", views, (3, 16, 16))


def pair_of(frames):
    return Pair("test", 64, 2, 0, *frames, (1,), (0.5,))
