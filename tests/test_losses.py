"""Losses and metrics: values known on paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_recipe import golden_model
from torch import nn

from vae4d import build_model, metrics
from vae4d.errors import AssetError, ConfigError
from vae4d.faithful import losses
from vae4d.perceptual import PerceptualLoss, VGGFeatures, load_lpips


def test_l1_and_cosine_on_paper():
    a = torch.zeros(2, 2, 1, 1, 2)
    b = a.clone()
    a[0, 0], b[0, 0] = 3.0, 1.0  # parallel: cosine 1, mean |a - b| = 2 * 2 / 4
    a[1, 0], b[1, 1] = 1.0, 1.0  # orthogonal: cosine 0, every entry differs by one
    assert losses.l1(a, b).tolist() == [1.0, 1.0]
    torch.testing.assert_close(losses.channel_cosine(a, b), torch.tensor([0.0, 1.0]))


def test_clip_rule_looks_at_the_largest_channel():
    code = torch.tensor([[0.004, -0.006, 0.005], [0.001, 0.0001, -0.005]]).view(1, 2, 1, 1, 3)
    expected = torch.tensor([[0.0, -0.006, 0.0], [0.0, 0.0001, 0.0]]).view(1, 2, 1, 1, 3)
    assert torch.equal(losses.clip_voxels(code), expected)


def test_importance_is_the_gradient_over_the_batch_maximum():
    class Stub(nn.Module):
        def decode(self, code):
            return code * torch.tensor([1.0, 2.0, 4.0]) + torch.tensor([0.5, 0.0, 0.0])

    code = torch.tensor([[0.1, 0.1, 0.3]])  # the last pixel, 1.2, is clamped and passes no gradient
    torch.testing.assert_close(losses.importance_mask(Stub(), code), torch.tensor([[0.5, 1.0, 0.0]]))


def test_importance_is_not_lost_in_half_precision():
    model = golden_model("small")
    code = model.encode(torch.rand(1, 3, 32, 32)).code.half()
    exact = losses.importance_mask(model, code.float())
    with torch.autocast("cpu", dtype=torch.float16):
        half = losses.importance_mask(model, code)
    assert half.max() == 1
    torch.testing.assert_close(half, exact, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_consistency_is_zero_for_a_camera_that_stands_still():
    model = build_model("small")
    model.encoder_traj.pose_pred.weight.zero_()
    model.encoder_traj.pose_pred.bias.zero_()
    frame = torch.rand(1, 3, 32, 32)
    frames = frame[:, None].expand(1, 3, -1, -1, -1)
    codes = model.encode(frames[0]).code[None]
    assert losses.voxel_consistency(model, frames, codes).item() < 1e-6
    codes = codes + torch.tensor([0.0, 1.0, 3.0]).view(1, 3, 1, 1, 1, 1)
    torch.testing.assert_close(losses.voxel_consistency(model, frames, codes), torch.tensor([2.0]), rtol=1e-4, atol=1e-5)


class TellsTheBrightness:
    """A pose network that says how much brighter the target is than the reference, six times."""

    gain = torch.ones((), requires_grad=True)

    def pose(self, reference, target):
        return self.gain * (target.mean((1, 2, 3)) - reference.mean((1, 2, 3)))[:, None].expand(-1, 6)


def test_pose_error_on_paper():
    frames = torch.tensor([0.0, 0.1, 0.3])[None, :, None, None, None].expand(1, 3, 3, 4, 4)
    true = (frames[:, None, :, 0, 0, 0] - frames[:, :, None, 0, 0, 0])[..., None].repeat(1, 1, 1, 6)
    assert losses.pose_error(TellsTheBrightness(), frames, true).item() == pytest.approx(0, abs=1e-12)
    true[:, [0, 1, 2], [0, 1, 2]] = 9.0  # what a frame's camera is to itself is not asked
    true[0, 0, 1, 2] += 0.6  # one number of one of six pairs: 0.36 / 36
    assert losses.pose_error(TellsTheBrightness(), frames, true).item() == pytest.approx(0.01, rel=1e-5)
    # [i, j] is frame j seen from frame i: the other way round each of the pairs is off by twice its difference
    flipped = -true.diagonal_scatter(torch.zeros(1, 6, 3), dim1=1, dim2=2)
    flipped[0, 0, 1, 2] = -0.1
    expected = sum(2 * (2 * d) ** 2 for d in (0.1, 0.2, 0.3)) / 6
    assert losses.pose_error(TellsTheBrightness(), frames, flipped).item() == pytest.approx(expected, rel=1e-5)


def test_pose_error_leaves_clips_of_unknown_cameras_out():
    model = TellsTheBrightness()
    frames = torch.tensor([[0.0, 0.5], [0.0, 0.5]])[:, :, None, None, None].expand(2, 2, 3, 4, 4)
    poses = torch.zeros(2, 2, 2, 6)
    poses[0] = torch.nan
    found = losses.pose_error(model, frames, poses)
    assert found.tolist() == [0.0, 0.25]
    gradients = [torch.autograd.grad(value, model.gain, retain_graph=True)[0].item() for value in found]
    assert gradients == [0.0, pytest.approx(0.5)]


@torch.no_grad()
def test_code_loss_weights_its_parts(weights):
    model, perceptual = build_model("small"), PerceptualLoss(weights, size=None)
    frame = torch.rand(1, 3, 32, 32)
    code = model.encode(frame).code
    other = code * 1.5
    still = torch.zeros_like(code)
    found = losses.code_loss(model, perceptual, other, code, perceptual.features(frame), None, still)
    a, b = losses.clip_voxels(other), losses.clip_voxels(code)
    torch.testing.assert_close(found.total, 1000 * losses.l1(a, b) + losses.channel_cosine(a, b) + 0.1 * found.perceptual)
    assert found.perceptual.item() > 0
    torch.testing.assert_close(found.still_l1, losses.l1(still, b))  # had the code been empty
    torch.testing.assert_close(torch.stack([found.l2, found.still_l2]), torch.stack([losses.squared(a, b), losses.squared(still, b)]))
    nothing = losses.code_loss(model, perceptual, other, code, perceptual.features(frame), torch.zeros_like(code), still)
    assert nothing.l1.item() == nothing.still_l1.item() == 0


def test_psnr_on_paper():
    black, grey = torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 51 / 255)
    assert metrics.psnr(black, grey)[0] == pytest.approx(20 * np.log10(5))  # an error of a fifth of the range
    assert metrics.psnr(grey, grey)[0] == np.inf and metrics.ssim(grey, grey)[0] == pytest.approx(1)
    # Rounded to uint8 before comparing: 51.4 grey levels are 51.
    assert metrics.mse(grey, torch.full_like(grey, 51.4 / 255))[0] == 0


def test_metrics_refuse_frames_of_different_size():
    with pytest.raises(ConfigError, match="one shape"):
        metrics.psnr(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))


def test_perceptual_targets_can_be_computed_once(weights):
    perceptual = PerceptualLoss(weights)
    a, b = torch.rand(2, 3, 32, 32).requires_grad_(), torch.rand(2, 3, 32, 32)
    once, anew = perceptual(a, perceptual.features(b)), perceptual(a, b)
    torch.testing.assert_close(once, anew)
    once.sum().backward()
    assert a.grad.abs().sum() > 0 and not any(p.requires_grad for p in perceptual.parameters())


def test_vgg_cosine_needs_five_blocks(weights):
    with pytest.raises(ConfigError, match="five"):
        metrics.vgg_cosine(VGGFeatures(weights, blocks=4), torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))


def test_lpips_has_the_real_backbone(weights):
    pytest.importorskip("lpips")
    from vae4d.assets import load_alexnet

    model, images = load_lpips(weights), torch.rand(2, 3, 64, 64)
    assert torch.equal(dict(model.net.named_parameters())["slice2.3.weight"], load_alexnet(weights)["features.3.weight"])
    same, different = metrics.lpips(model, images, images), metrics.lpips(model, images, images.flip(0))
    assert np.allclose(same, 0) and (different > 0.01).all()


def test_missing_weights_name_the_remedy(tmp_path):
    with pytest.raises(AssetError, match="make setup"):
        PerceptualLoss(tmp_path)
