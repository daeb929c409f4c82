"""The same work on several processes, as `accelerate launch` starts them, on one host or many; with one process everything here is free.

Work that falls into independent pieces (clips, files) takes `share` of them and meets the others in `wait`. Training splits every batch:
a step computes the same loss and gradients on N processes as on one (`reduce_gradients`, `synchronise_batch_norm`, `maximum`).
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .errors import Vae4dError

T = TypeVar("T")
PATIENCE = timedelta(days=7)  # with which one process waits for another; torch's own limits (10 and 30 minutes) are shorter than a share


def processes() -> int:
    """How many processes share the work."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's part: every `processes()`-th item."""
    return items[rank() :: processes()]


def connect() -> None:
    """Open the connection between the processes where training has not opened one: by gloo, which takes no GPU.

    A share of work may take `PATIENCE` longer than another's.
    """
    if processes() > 1 and not dist.is_initialized():
        dist.init_process_group("gloo", timeout=PATIENCE)
        disconnect_at_exit()


def disconnect_at_exit() -> None:
    """Close the connection when the process ends: gloo's threads, left to themselves, may abort it then."""
    atexit.register(lambda: dist.is_initialized() and dist.destroy_process_group())


def wait() -> None:
    """Go on when every process has come here."""
    if processes() > 1:
        connect()
        dist.barrier()


def from_first(work: Callable[[], T]) -> T:
    """What the first process gets from `work`, in every process; an error of vae4d is raised in all of them, so that none waits in vain."""
    if processes() == 1:
        return work()
    connect()
    box: list = [None, None]
    if not rank():
        try:
            box[0] = work()
        except Vae4dError as error:
            box[1] = error
    dist.broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]


def gathered(part: list[T]) -> list[T]:
    """The lists of all processes, one after the other."""
    if processes() == 1:
        return part
    connect()
    parts: list[list[T]] = [[] for _ in range(processes())]
    dist.all_gather_object(parts, part)
    return [item for each in parts for item in each]


def total(values: Tensor) -> Tensor:
    """The sum of every process's tensor; without gradient."""
    return _reduced(values, dist.ReduceOp.SUM) if processes() > 1 else values


def average(values: Tensor) -> Tensor:
    """The mean of every process's tensor; without gradient."""
    return total(values) / processes()


def maximum(values: Tensor) -> Tensor:
    """The largest of every process's tensor, element by element; without gradient."""
    return _reduced(values, dist.ReduceOp.MAX) if processes() > 1 else values


class _Sum(torch.autograd.Function):
    """The sum of every process's tensor, with gradient: that of the sum of every process's loss, which is the sum of the gradients.

    So its backward is itself, and can be differentiated again.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor) -> Tensor:
        return _reduced(values, dist.ReduceOp.SUM)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


def _reduced(values: Tensor, operation: dist.ReduceOp) -> Tensor:
    values = values.detach().clone()
    dist.all_reduce(values, operation)
    return values


def reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Make every gradient the mean over the processes.

    DistributedDataParallel does this within `backward`; here a step has several backward passes (the parts of a batch), and networks that
    take no part in some of them.
    """
    if processes() == 1:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters if p.requires_grad]
    flat = average(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes; keys and values of `nn.BatchNorm2d`.

    PyTorch's own SyncBatchNorm runs on GPUs alone. The gradient, and the gradient's gradient, pass through the exchange.
    """

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return super().forward(features)
        wide = features.float()
        mean = _Sum.apply(wide.mean((0, 2, 3))) / processes()
        centred = wide - mean[:, None, None]
        variance = _Sum.apply(centred.square().mean((0, 2, 3))) / processes()  # of centred values: no difference of large numbers
        with torch.no_grad():
            count = features.numel() / features.shape[1] * processes()
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight / (variance + self.eps).sqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(features.dtype)


def synchronise_batch_norm(network: nn.Module) -> None:
    """Replace every batch normalisation in `network` by a SharedBatchNorm with the same tensors; with one process nothing changes."""
    if processes() == 1:
        return
    for module in network.modules():
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
                shared.weight, shared.bias = child.weight, child.bias
                shared.running_mean, shared.running_var = child.running_mean, child.running_var
                shared.num_batches_tracked = child.num_batches_tracked
                setattr(module, name, shared.train(child.training))
