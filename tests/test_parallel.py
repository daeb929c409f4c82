"""Two processes compute what one does with the batch of both; started as users start them, by `accelerate launch`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
import torch
from make_clips import pictures, save_images

from vae4d import parallel
from vae4d.__main__ import main
from vae4d.checkpoint import read_checkpoint
from vae4d.clips.datasets import prepare_dataset
from vae4d.clips.windows import Batches, augment, step_generator
from vae4d.errors import ConfigError
from vae4d.faithful.train import TrainConfig, train


@pytest.fixture(scope="module")
def options(tmp_path_factory, weights) -> dict:
    root = tmp_path_factory.mktemp("data")
    for number, split in enumerate(("train", "validate", "test")):
        save_images(root / "set" / split / f"clip{number}", pictures(8, 48, 40, seed=number))
    prepare_dataset(root / "set", 32, root, progress=None)
    (root / "weights").symlink_to(weights)
    common = {"dataset": str(root / "set"), "data_root": str(root), "input_size": 32, "perceptual_size": 0, "workers": 0, "bsize": 2}
    common |= {"clip_length": 3, "max_steps": 3, "valid_freq": 3, "valid_clips": 3, "frame_limit": 4}
    return common | {"device": "cpu", "augment": True}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def run_on_two(code: str, *arguments: str) -> list[str]:
    """What each of two processes prints that run the same Python code, with what a launch tells its processes."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    running = [
        subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=Path(__file__).resolve().parents[1], text=True,
                         stdout=subprocess.PIPE, env=os.environ | shared | {"RANK": number, "LOCAL_RANK": number})
        for number in "01"
    ]
    printed = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    return printed


def launch(arguments: list[str], processes: int = 2, **environment: str) -> subprocess.CompletedProcess:
    """`accelerate launch` of `python -m vae4d ...` on processes of this machine's CPU."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes), "--num_machines", "1"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", free_port(), "-m", "vae4d", *arguments]
    variables = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)


def as_arguments(config: dict) -> list[str]:
    flags = [f"--{name}" if value is True else f"--{name}={value}" for name, value in config.items() if name != "stage"]
    return ["train", config.get("stage", "base"), *flags]


@pytest.fixture
def one_thread_each():
    """As in the launched processes: another number of threads rounds otherwise, and steps of Adam let rounding grow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("stage", ["base", "flow"])
def test_two_processes_train_as_one(options, tmp_path, stage, one_thread_each):
    """Gradients, losses, validation and checkpoints; the discriminator and batch norm take part."""
    config = options | {"stage": stage}
    if stage == "flow":
        train(TrainConfig(**(options | {"savepath": str(tmp_path / "base"), "max_steps": 1, "lambda_perc": 0.0})), lambda line: None)
        config |= {"resume": str(tmp_path / "base" / "newest.safetensors"), "reconstruction_substeps": 2, "interpolation_substeps": 1}
        config |= {"pairs": 3, "chunk": 4}
    for steps in (1, 3):
        config |= {"max_steps": steps}
        train(TrainConfig(**config, savepath=str(tmp_path / "one")), lambda line: None)
        done = launch(as_arguments(config | {"savepath": str(tmp_path / "two")}))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(f"step {steps}/{steps}  loss") == 1, "one process speaks for both"
        if steps == 1:
            a, b = (read_checkpoint(tmp_path / name / "newest.safetensors")[1] for name in ("one", "two"))
    one, two = (pd.read_csv(tmp_path / name / "losses.csv").drop(columns=["loader_seconds", "step_seconds"]) for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two, rtol=2e-4, atol=1e-6)
    scores = [pd.read_csv(tmp_path / name / "validation.csv") for name in ("one", "two")]
    pd.testing.assert_frame_equal(*scores, rtol=1e-4)
    assert a.keys() == b.keys()
    # The first moment of Adam is a mean of gradients: it shows their size, which a step of Adam does not. That of the first step is
    # compared, as steps of Adam let rounding grow: a gradient near zero moves a weight as far as any other, by its sign.
    moments = [name for name in a if name.endswith("exp_avg")]
    assert moments and (stage == "flow" or any("critic" in name for name in moments))
    most = 1e-3 if stage == "base" else 1e-2  # the flow stage makes four steps of Adam on a batch
    for name in moments:
        assert (a[name] - b[name]).norm() <= most * a[name].norm() + 1e-9, name


def test_a_run_goes_on_with_another_number_of_processes(options, tmp_path):
    config = options | {"savepath": str(tmp_path / "run"), "stage": "base", "save_freq": 1}
    train(TrainConfig(**(config | {"max_steps": 1})), lambda line: None)
    done = launch(as_arguments(config))
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(tmp_path / "run" / "losses.csv")["step"].tolist() == [1, 2, 3]


def test_two_processes_score_as_one(options, tmp_path):
    arguments = ["evaluate", "--dataset", options["dataset"], "--data-root", options["data_root"], "--sizes", "32", "--gaps", "2", "3"]
    arguments += ["--methods", "repeat", "linear blend", "--checkpoint", "small", "--no-lpips", "--workers", "1", "--splits", "all"]
    assert main([*arguments, "--output", str(tmp_path / "one")]) == 0
    done = launch([*arguments, "--output", str(tmp_path / "two")])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Written to") == 1, "one process speaks for both"
    for name in ("scores.csv", "summary.csv", "differences.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_batch_that_cannot_be_split_is_refused(options, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="bsize is 3, for 2 processes: use a multiple of their number"):
        TrainConfig(**(options | {"bsize": 3}))


def test_each_process_gets_its_part_of_every_batch_and_of_its_random_numbers(monkeypatch):
    whole = list(Batches(7, 4, seed=3, start=0, stop=4))
    clips = torch.rand(4, 2, 3, 4, 4)
    changed = augment({"frames": clips}, step_generator(0, 0, "step"), 4)["frames"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    for number in ("0", "1"):
        monkeypatch.setenv("RANK", number)
        half = slice(2 * int(number), 2 * int(number) + 2)
        assert list(Batches(7, 4, seed=3, start=0, stop=4)) == [batch[half] for batch in whole]
        assert torch.equal(augment({"frames": clips[half]}, step_generator(0, 0, "step"), 4)["frames"], changed[half])
        assert parallel.share(range(5)) == range(int(number), 5, 2)


def test_who_waits_is_patient_and_takes_no_gpu(monkeypatch):
    """Also on a host with a GPU; where training has opened a connection, that one is used."""
    opened, barriers = [], []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, timeout: opened.append((backend, timeout)))
    monkeypatch.setattr(torch.distributed, "barrier", lambda: barriers.append(len(opened)))
    parallel.wait()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    parallel.wait()
    assert barriers == [1, 1] and opened[0][0] == "gloo" and opened[0][1] >= timedelta(days=1)


DERIVATIVES = """
import copy, warnings
warnings.simplefilter("error", FutureWarning)
import torch
from vae4d import parallel

def derivatives(norm, features):
    features = features.clone().requires_grad_()
    result = norm(features)
    gradient, = torch.autograd.grad(result.pow(3).sum(), features, create_graph=True)
    return result, gradient, torch.autograd.grad(gradient.square().sum(), features)[0]

parallel.connect()
torch.manual_seed(0)
whole = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
torch.nn.init.uniform_(whole[0].weight, 0.5, 2.0)
shared, features = copy.deepcopy(whole), torch.randn(4, 3, 5, 5)
parallel.synchronise_batch_norm(shared)
half = slice(2 * parallel.rank(), 2 * parallel.rank() + 2)
for ours, expected in zip(derivatives(shared, features[half]), derivatives(whole, features)):
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(ours, expected[half], rtol=1e-3, atol=1e-3 * expected.abs().max().item())
torch.testing.assert_close(shared[0].running_var, whole[0].running_var)
print(type(shared[0]).__name__)
"""


def test_batch_norm_of_two_processes_is_that_of_the_whole_batch():
    """Its values, its gradient, and the gradient's gradient, which the gradient penalty needs; without a word on what is deprecated."""
    assert run_on_two(DERIVATIVES) == ["SharedBatchNorm\n"] * 2


def test_one_process_shares_with_nobody():
    assert parallel.processes() == 1 and list(parallel.share("abc")) == list("abc")
    norm = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    parallel.synchronise_batch_norm(norm)
    parallel.wait()
    assert type(norm[0]) is torch.nn.BatchNorm2d
