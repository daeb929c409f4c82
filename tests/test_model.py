"""The model's one call: identities that hold on paper, and inputs that are refused."""

from __future__ import annotations

import pytest
import torch
from golden_recipe import golden_model

from vae4d import PRESETS, Encoded, build_model
from vae4d.config import preset
from vae4d.errors import ConfigError
from vae4d.geometry import compose, euler_to_theta
from vae4d.layers import SmoothConv3d


@pytest.fixture(scope="module")
def model():
    model = golden_model("small", scale_rotate=1.0, scale_translate=1.0)  # poses large enough to see
    model.flow_trained = True
    return model


@pytest.fixture(scope="module")
def frames():
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("semantics", ["repaired", "published"])
@torch.no_grad()
def test_synthesis_has_the_promised_shapes_and_range(model, frames, semantics):
    out = model(frames[:1], frames[1:], 0.3, semantics=semantics)
    assert out.image.shape == (1, 3, 64, 96) and out.image.min() >= 0 and out.image.max() <= 1
    assert out.voxel_flow.shape == (1, 16, 16, 24, 3) and out.pose.shape == (1, 6)
    assert [code.shape for code in out.codes] == [(1, 16, 16, 16, 24)] * 3


@torch.no_grad()
def test_repaired_synthesis_without_flow_and_correction_gives_the_ends(model, frames):
    a, b = model.encode(frames[:1]), model.encode(frames[1:])
    start, end = (model.synthesise(a, b, t, use_flow=False) for t in (0.0, 1.0))
    torch.testing.assert_close(start.codes[2], a.code, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(end.codes[2], b.code, rtol=1e-4, atol=1e-5)
    assert start.voxel_flow is None


@torch.no_grad()
def test_repaired_synthesis_is_the_papers_formula_inside_the_volume(model, frames):
    a, b, t = model.encode(frames[:1]), model.encode(frames[1:]), 0.25
    out = model.synthesise(a, b, t, use_correction=False)
    s = model.warp(a.code, t * model.pose(a.frame, b.frame))
    e = model.warp(b.code, (1 - t) * model.pose(b.frame, a.frame))
    flow = model.encoder_flow(s, e)
    plain = (1 - t) * model.flow(s, t * flow) + t * model.flow(e, -(1 - t) * flow)
    torch.testing.assert_close(out.voxel_flow, flow, rtol=1e-4, atol=1e-5)
    centre = (..., slice(6, 10), slice(6, 10), slice(8, 16))  # far from the border both samples lie inside
    torch.testing.assert_close(out.codes[2][centre], plain[centre], rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_outside_the_volume_the_other_end_is_taken(model, frames):
    a, b = model.encode(frames[:1]), model.encode(frames[1:])
    one = Encoded(a.frame, torch.ones_like(a.code)), Encoded(b.frame, torch.ones_like(b.code))
    fused = model.synthesise(*one, 0.5, use_correction=False).codes[2]
    # Fused by the share inside, a volume of ones stays one wherever either end reaches; a plain mean would fade to the border.
    assert ((fused - 1).abs() < 1e-3).float().mean() > 0.97


def test_flow_learns_a_known_motion_and_the_middle_lies_on_the_way():
    """Volumes that move by two voxels: the flow encoder finds the motion, and the repaired synthesis is right at every t."""
    model = build_model("small")  # its fresh poses are nearly zero: the camera stands still
    adam = torch.optim.Adam(model.encoder_flow.parameters(), lr=1e-3)

    def volume(seed: int) -> torch.Tensor:
        noise = torch.randn(2, 16, 6, 6, 6, generator=torch.Generator().manual_seed(seed))
        return torch.nn.functional.interpolate(noise, (16, 16, 24), mode="trilinear", align_corners=False)

    for seed in range(100):
        start, end = volume(seed)[..., :16], volume(seed)[..., 2:18]  # end(p) is start(p + 2 voxels)
        code, _ = model.flow_code(start, end)
        adam.zero_grad()
        (code - end).abs().mean().backward()
        adam.step()
    frame, inner = torch.zeros(2, 3, 64, 64), (..., slice(3, 13), slice(3, 13), slice(3, 13))
    ends, middle = [Encoded(frame, volume(999)[..., i : i + 16]) for i in (0, 2)], volume(999)[..., 1:17]
    with torch.no_grad():
        out = model.synthesise(*ends, 0.5, use_flow=True, use_correction=False)
        still = model.synthesise(*ends, 0.5, use_flow=False)
    flow = out.voxel_flow[:, 3:13, 3:13, 3:13].mean(dim=(0, 1, 2, 3))
    torch.testing.assert_close(flow, torch.tensor([2 * 2 / 16, 0.0, 0.0]), rtol=0, atol=0.03)
    error, error_still = ((result.codes[2] - middle)[inner].abs().mean() for result in (out, still))
    assert error < 0.5 * error_still


@torch.no_grad()
def test_camera_offset_is_composed_after_the_pose(model, frames):
    a, b = model.encode(frames[:1]), model.encode(frames[1:])
    offset = torch.tensor([0.05, -0.02, 0.03, 0.1, 0.0, -0.05])
    plain = model.synthesise(a, b, 0.5, torch.zeros(6), use_flow=False)
    torch.testing.assert_close(plain.image, model.synthesise(a, b, 0.5, use_flow=False).image)
    moved = model.synthesise(a, b, 0.5, offset, use_flow=False)
    theta = compose(euler_to_theta(0.5 * model.pose(a.frame, b.frame)), euler_to_theta(offset[None]))
    torch.testing.assert_close(moved.codes[0], model.warp(a.code, theta), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(moved.image, plain.image, atol=1e-4)


@torch.no_grad()
def test_a_batch_with_its_own_moments_equals_one_by_one(model, frames):
    a, b = model.encode(frames), model.encode(frames.flip(0))
    both = model.synthesise(a, b, torch.tensor([0.2, 0.7]))
    for i, t in enumerate((0.2, 0.7)):
        alone = model.synthesise(a[i : i + 1], b[i : i + 1], t)
        torch.testing.assert_close(both.image[i : i + 1], alone.image, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_flow_and_correction_default_to_what_was_trained_and_to_the_semantics(frames):
    model = build_model("small")
    assert model(frames[:1], frames[1:]).voxel_flow is None  # no flow stage yet
    model.flow_trained = True
    for semantics, correction in (("repaired", True), ("published", False)):
        default = model(frames[:1], frames[1:], semantics=semantics)
        told = model(frames[:1], frames[1:], semantics=semantics, use_flow=True, use_correction=correction)
        other = model(frames[:1], frames[1:], semantics=semantics, use_flow=True, use_correction=not correction)
        assert torch.equal(default.codes[2], told.codes[2]) and not torch.equal(default.codes[2], other.codes[2])


@pytest.mark.parametrize("t", [-0.1, 1.01, float("nan")])
def test_moments_outside_the_pair_are_refused(model, frames, t):
    with pytest.raises(ConfigError, match="between the two frames"):
        model(frames[:1], frames[1:], t)


def test_bad_frames_and_names_are_refused(model, frames):
    with pytest.raises(ConfigError, match="multiples of 16"):
        model.encode(torch.rand(1, 3, 60, 64))
    with pytest.raises(ConfigError, match="divide bytes by 255"):
        model.encode(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(ConfigError, match="3 moments for 1 pairs"):
        model(frames[:1], frames[1:], torch.rand(3))
    with pytest.raises(ConfigError, match=r"offset has shape \(4,\)"):
        model(frames[:1], frames[1:], 0.5, torch.zeros(4))
    with pytest.raises(ConfigError, match="differ in shape"):
        model(frames[:1], frames[1:, :, :48])
    with pytest.raises(ConfigError, match="semantics is 'repared': give 'repaired' or 'published'"):
        model(frames[:1], frames[1:], semantics="repared")
    with pytest.raises(ConfigError, match="Known: original, sharp, sharp-large, small"):
        build_model("smal1")
    with pytest.raises(ConfigError, match="padding_mode"):
        build_model("small", padding_mode="wrap")
    with pytest.raises(ConfigError, match="model field 'depht'"):
        preset("small", depht=8)


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_json(name):
    import json

    config = PRESETS[name]
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_slicewise_convolution_is_the_3d_convolution():
    layer, code = SmoothConv3d(3, 5).double(), torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.conv3d(code, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(code), expected)
    gradients = [torch.autograd.grad(out.square().sum(), (code, layer.weight, layer.bias)) for out in (layer(code), expected)]
    torch.testing.assert_close(*gradients)


@torch.no_grad()
def test_the_trunk_is_torchvisions_resnet50_with_a_finer_last_stage():
    from torchvision.models import resnet50

    reference = resnet50(weights=None).eval()
    encoder = build_model("original").encoder_3d
    encoder.load_imagenet(reference.state_dict())
    image = torch.rand(1, 3, 64, 64)
    stem = reference.maxpool(reference.relu(reference.bn1(reference.conv1(image))))
    expected = reference.layer3(reference.layer2(reference.layer1(stem)))
    torch.testing.assert_close(encoder.feature_extraction[:7](image), expected)
    fine = encoder.feature_extraction(image)
    assert fine.shape == (1, 2048, 4, 4)
    for block in (reference.layer4[0].conv2, reference.layer4[0].downsample[0]):
        block.stride = (1, 1)
    torch.testing.assert_close(fine, reference.layer4(expected))


def test_same_seed_same_model():
    first, again, other = build_model("small", 1), build_model("small", 1), build_model("small", 2)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(first.encoder_3d.conv3d_1.weight, other.encoder_3d.conv3d_1.weight)
