"""What happens to a clip between the cache and the model."""

from __future__ import annotations

import torch

from vae4d.clips.windows import augment, step_generator


def test_augmentation_is_one_change_for_all_frames_of_a_clip():
    clip = torch.rand(1, 1, 3, 4, 4).expand(1, 5, -1, -1, -1) * 0.7  # five equal frames
    seen = set()
    for step in range(20):
        out = augment({"frames": clip}, step_generator(0, step, "step"), len(clip))["frames"]
        assert out.shape == clip.shape and torch.equal(out[:, :1].expand_as(out), out)
        gains = out[0, 0].sum((1, 2)) / clip[0, 0].sum((1, 2))
        assert (gains >= 0.6).all() and (gains <= 1.4).all() and len(set(gains.tolist())) == 3
        mirrored = torch.allclose(out[0, 0], clip[0, 0].flip(-1) * gains[:, None, None], atol=1e-6)
        assert mirrored or torch.allclose(out[0, 0], clip[0, 0] * gains[:, None, None], atol=1e-6)
        seen.add(mirrored)
    assert seen == {True, False}


def test_augmentation_stays_in_range_and_repeats_with_its_seed():
    clip = torch.ones(2, 2, 3, 4, 4)
    out = augment({"frames": clip}, step_generator(1, 0, "step"), len(clip))["frames"]
    assert out.max() == 1 and not torch.equal(out[0], out[1])
    assert torch.equal(out, augment({"frames": clip}, step_generator(1, 0, "step"), len(clip))["frames"])


def test_a_mirrored_clip_has_mirrored_poses():
    """A camera that moves right and turns right moves and turns left in the mirror; nodding, rising and approaching stay."""
    clip, poses = torch.rand(8, 1, 3, 4, 4), torch.ones(8, 2, 2, 6)
    out = augment({"frames": clip, "poses": poses}, step_generator(0, 0, "step"), len(clip))
    mirrored = (out["poses"][:, 0, 0, 3] < 0).tolist()
    assert set(mirrored) == {True, False}
    for frames, before, pose, flipped in zip(out["frames"], clip, out["poses"], mirrored, strict=True):
        ratio = frames / (before.flip(-1) if flipped else before)
        inside = frames < 1
        assert all(torch.allclose(ratio[:, c][inside[:, c]], ratio[:, c][inside[:, c]][0], atol=1e-4) for c in range(3))
        assert pose[0, 1].tolist() == ([-1, 1, -1, -1, 1, 1] if flipped else [1] * 6)
