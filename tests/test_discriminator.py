"""The discriminator is the original's, and its losses are known on paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_recipe import GOLDEN, draw
from skimage import data
from torch import nn

from vae4d.errors import ConfigError
from vae4d.faithful.discriminator import Discriminator, blocks_for, critic_loss, generator_loss, gradient_penalty


class Linear(nn.Module):
    """D(x) = gain * sum of x: its gradient has the norm gain * sqrt(pixels and colours) everywhere."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, image):
        return (self.gain * image.sum((1, 2, 3), keepdim=True)).requires_grad_()


def pictures(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_golden_output():
    net = Discriminator().eval()
    net.load_state_dict({name: draw(f"netd.{name}", value) for name, value in net.state_dict().items()})
    picture = torch.from_numpy(data.astronaut()[:256, 128:384].copy()).permute(2, 0, 1)[None].float() / 255
    expected = np.load(GOLDEN / "golden.npz")["netd.output_eval"]
    found = net(picture).numpy()
    assert found.shape == expected.shape == (1, 1, 1, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_layers_have_the_names_of_the_original():
    net = Discriminator(256, "original")
    shapes = {name: tuple(value.shape) for name, value in net.named_parameters() if value.ndim == 4}
    channels = (3, 64, 128, 128, 128, 256, 512, 1)
    indices = (0, 2, 4, 7, 10, 13, 16)
    assert shapes == {f"netd.{i}.weight": (channels[n + 1], channels[n], 4, 4) for n, i in enumerate(indices)}
    norms = {name.rsplit(".", 1)[0] for name in net.state_dict() if name.endswith("running_mean")}
    assert norms == {f"netd.{i}" for i in (5, 8, 11, 14)}
    assert not [name for name, _ in net.named_parameters() if name.endswith("bias") and name.rsplit(".", 1)[0] not in norms]


@pytest.mark.parametrize(
    ("size", "blocks", "side"),
    [(512, 6, 5), (256, 6, 1), (192, 5, 3), (128, 5, 1), (96, 4, 3), (64, 4, 1), (48, 3, 3), (32, 3, 1), (16, 2, 1), (8, 1, 1)],
)
def test_blocks_by_frame_size(size, blocks, side):
    assert blocks_for("small", size) == blocks
    net = Discriminator(size, "small")
    assert sum(isinstance(layer, nn.LeakyReLU) for layer in net.netd) == blocks
    assert net(pictures(2, size)).shape == (2, 1, side, side)
    assert generator_loss(net, pictures(2, size)).shape == (2,)


def test_frames_without_room_are_refused():
    with pytest.raises(ConfigError, match=r"'original' needs frames of at least 256 px, not 240: set input_size to 256, preset to 'small'"):
        Discriminator(240, "original")
    with pytest.raises(ConfigError, match="at least 8 px, not 7: set a larger input_size"):
        Discriminator(7, "small")
    with pytest.raises(ConfigError, match="needs frames of at least 256 px, not 128"):
        blocks_for("original", 128)


@pytest.mark.parametrize("gain", [0.0, 0.05, 0.3])
def test_losses_of_a_linear_critic(gain):
    """All terms on paper: |grad| = gain * sqrt(3 * 4 * 4)."""
    critic = Linear(gain)
    real, fake = torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), 0.25)
    real[1] = 1
    parts = critic_loss(critic, real, fake, torch.tensor([0.1, 0.9]))
    on_real, on_fake = torch.tensor([24 * gain, 48 * gain]), torch.full((2,), 12 * gain)
    penalty = torch.full((2,), (gain * 48**0.5 - 1) ** 2)
    for name, value in {"real": on_real, "fake": on_fake, "drift": on_real**2, "penalty": penalty}.items():
        torch.testing.assert_close(parts[name].detach(), value, msg=name)
    torch.testing.assert_close(parts["loss"].detach(), -on_real + 0.001 * on_real**2 + on_fake + 10 * penalty)
    torch.testing.assert_close(generator_loss(critic, fake).detach(), -on_fake)
    parts["penalty"].mean().backward()
    slope = 2 * (gain * 48**0.5 - 1) * 48**0.5 if gain else 0.0  # at a zero gradient the norm has no slope, and none that is not finite
    torch.testing.assert_close(critic.gain.grad, torch.tensor(slope))


def test_the_mix_is_each_images_own():
    """D(x) = sum x^2 / 2 has the gradient x, so the penalty tells where it was taken."""
    critic = lambda image: image.square().sum((1, 2, 3), keepdim=True) / 2  # noqa: E731
    real, fake = pictures(3, 4), pictures(3, 4, seed=1)
    mix = torch.tensor([0.0, 0.25, 1.0])
    expected = torch.stack([(m * a + (1 - m) * b).norm() for m, a, b in zip(mix, real, fake, strict=True)])
    torch.testing.assert_close(gradient_penalty(critic, real, fake, mix).detach(), (expected - 1) ** 2)


def test_a_map_counts_by_its_mean():
    net = Discriminator(96, "small").eval()
    images = pictures(2, 96)
    scores = net(images)
    torch.testing.assert_close(generator_loss(net, images), -scores.mean((1, 2, 3)))
    parts = critic_loss(net, images, images, torch.zeros(2))
    torch.testing.assert_close(parts["drift"], scores.square().mean((1, 2, 3)))
    assert float((parts["real"] - parts["fake"]).detach().abs().max()) < 1e-6


def test_gradients_reach_the_weights_and_not_the_images():
    net = Discriminator(32, "small")
    real, fake = pictures(2, 32).requires_grad_(), pictures(2, 32, seed=1).requires_grad_()
    critic_loss(net, real, fake, torch.tensor([0.3, 0.6]))["penalty"].mean().backward()
    for name, value in net.named_parameters():
        if value.ndim == 4:
            assert value.grad.abs().max() > 0, name
    critic_loss(net, real, fake, torch.tensor([0.3, 0.6]))["loss"].mean().backward()
    assert real.grad is None and fake.grad is None
    generator_loss(net, fake).mean().backward()
    assert fake.grad.abs().max() > 0


def test_the_penalty_has_the_right_gradient_in_the_weights():
    critic = nn.Sequential(nn.Conv2d(3, 2, 4, stride=2, padding=1), nn.Tanh(), nn.Conv2d(2, 1, 2)).double()
    real, fake, mix = pictures(2, 4).double(), pictures(2, 4, seed=1).double(), torch.tensor([0.3, 0.8])

    def penalty(*weights):
        named = dict(zip(dict(critic.named_parameters()), weights, strict=True))
        return gradient_penalty(lambda image: torch.func.functional_call(critic, named, image), real, fake, mix)

    assert torch.autograd.gradcheck(penalty, tuple(critic.parameters()))


def test_mixed_precision_leaves_the_penalty_in_float32_and_evaluation_needs_no_graph():
    net = Discriminator(32, "small").eval()
    real, fake, mix = pictures(2, 32), pictures(2, 32, seed=1), torch.tensor([0.3, 0.8])
    exact = gradient_penalty(net, real, fake, mix)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = critic_loss(net, real, fake, mix)
    assert exact.dtype == torch.float32 and torch.equal(parts["penalty"], exact)
    with torch.no_grad():
        plain = gradient_penalty(net, real, fake, mix)
    assert exact.requires_grad and not plain.requires_grad and torch.equal(plain, exact)


def test_wrong_shapes_are_refused():
    net = Discriminator(32, "small")
    for real, fake, mix in ((2, 3, 2), (2, 2, 3)):
        with pytest.raises(ConfigError, match="as many real as fake"):
            critic_loss(net, pictures(real, 32), pictures(fake, 32), torch.zeros(mix))
