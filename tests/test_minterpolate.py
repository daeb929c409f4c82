"""ffmpeg's minterpolate as a method: how many frames come out, where they lie, and what happens when ffmpeg fails."""

from __future__ import annotations

import itertools
import stat
import sys
import threading
from dataclasses import replace

import pytest
import torch
from test_methods import frames_of, pairs_of

from vae4d import metrics
from vae4d.errors import MethodError
from vae4d.evaluation.methods import repeat
from vae4d.evaluation.minterpolate import Minterpolate


@pytest.fixture(scope="module")
def method() -> Minterpolate:
    pytest.importorskip("imageio_ffmpeg")
    return Minterpolate(patience=20)


@pytest.mark.parametrize("given", [2, 3, 10])
@pytest.mark.parametrize("gap", [2, 3, 8])
def test_every_in_between_frame_comes_out(method, given, gap):
    made = list(method(pairs_of(frames_of((given - 1) * gap + 1, 32), gap)))
    assert [x.shape for x in made] == [(gap - 1, 3, 32, 32)] * (given - 1)
    assert all(x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1 for x in made)


def test_the_frames_lie_at_k_over_gap(method):
    """A grey ramp: frame k between brightness a and b has a + (b - a) k / gap, for every pair, up to the YUV round trip."""
    ramp = (torch.arange(13.0) * 4 + 40).reshape(13, 1, 1, 1).expand(13, 3, 64, 64) / 255
    for pair, made in zip(pairs_of(ramp, 4), method(pairs_of(ramp, 4)), strict=True):
        assert torch.allclose(made, ramp[list(pair.numbers)], atol=1.5 / 255)


def test_it_follows_a_moving_pattern(method):
    frames = 0.3 + 0.3 * frames_of(9, 128, shift=2)  # of more contrast the filter takes the motion for a change of scene
    for pair, made in zip(pairs_of(frames, 4), method(pairs_of(frames, 4)), strict=True):
        truth = frames[list(pair.numbers)]
        inner = (..., slice(24, -24), slice(24, -24))
        gain = metrics.psnr(made[inner], truth[inner]) - metrics.psnr(repeat(pair.first, pair.second, pair.times)[inner], truth[inner])
        assert gain.min() > 6


def test_a_second_run_gives_the_same_frames(method):
    frames = frames_of(9, 64)
    assert all(torch.equal(a, b) for a, b in zip(method(pairs_of(frames)), method(pairs_of(frames)), strict=True))


def test_pairs_that_do_not_follow_each_other_begin_a_new_stream(method):
    frames = frames_of(13, 48)
    a, _, c = pairs_of(frames, 4)
    apart = list(method(iter([a, c, replace(a, clip="other")])))
    assert torch.equal(apart[0], apart[2]) and torch.equal(apart[1], next(method(iter([c]))))


def test_it_answers_while_it_reads_in_constant_memory(method):
    """Over 300 pairs the method is never more than some pairs ahead of its answers."""
    frames, ahead, read = frames_of(3, 64), [], [0]

    def endless():
        for start in range(0, 600, 2):
            read[0] += 1
            yield replace(pair, start=start, numbers=(start + 1,))

    pair = next(pairs_of(frames))
    for answered, _ in enumerate(method(endless()), 1):
        ahead.append(read[0] - answered)
    assert answered == 300 and max(ahead) < 60


def test_stopping_early_leaves_no_process_and_no_thread(method):
    threads = threading.active_count()
    running = method(replace(pair, start=2 * i) for i, pair in enumerate(itertools.repeat(next(pairs_of(frames_of(3, 64))), 400)))
    next(running)
    process = running.gi_frame.f_locals["stream"].process
    assert process.poll() is None
    running.close()
    assert process.poll() is not None and threading.active_count() == threads


def fake_ffmpeg(tmp_path, monkeypatch, script: str) -> Minterpolate:
    path = tmp_path / "ffmpeg"
    path.write_text(f"#!/bin/sh\nif [ \"$1\" = -version ]; then echo ffmpeg version 1; exit 0; fi\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))
    return Minterpolate(patience=0.3)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'No such filter' >&2; exit 8", "No such filter"),
        ("cat > /dev/null", "it ended with code 0"),
        ("exec sleep 60", "stopped, no answer within 0.3 s"),
        ("cat > /dev/null; exec sleep 60", "stopped, no answer within 0.3 s"),
    ],
)
def test_a_failing_ffmpeg_is_named_with_its_reason(tmp_path, monkeypatch, script, reason):
    pytest.importorskip("imageio_ffmpeg")
    method = fake_ffmpeg(tmp_path, monkeypatch, script)
    with pytest.raises(MethodError, match=rf"'minterpolate': ffmpeg failed on bikes \(128 px.*\({reason}\): leave minterpolate out"):
        list(method(pairs_of(frames_of(9, 128), clip="bikes")))


def test_frames_too_small_for_the_filter_are_said(method):
    with pytest.raises(MethodError, match="Height or width < 32"):
        list(method(pairs_of(frames_of(9, 16))))


def test_without_imageio_ffmpeg_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    method = Minterpolate()
    assert method.settings["ffmpeg"] == "not installed"
    with pytest.raises(MethodError, match=r"on c .*: pip install imageio-ffmpeg"):
        next(method(pairs_of(frames_of(3))))
