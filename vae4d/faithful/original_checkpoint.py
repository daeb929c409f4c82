"""Checkpoints of the original system: `{module: state_dict}` by torch.save, every key prefixed `module.` (it was wrapped in DataParallel).

A base checkpoint holds encoder_3d, encoder_traj, rotate and decoder; a flow checkpoint adds encoder_flow, flow (empty) and
flow_correction (docs/original-system.md, section 1). Their suffix varies (.ckpt, .tar, .pt, .pth); the content is torch's zip archive, or
the bare pickles of older torch.

Such files come from strangers, so nothing in them is trusted: the pickle may name only what a state dict is made of, no archive member
may be compressed, and no tensor may be larger than the bytes behind it. Errors are all `CheckpointError`.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..errors import CheckpointError
from ..family import differences, listed, presets
from ..files import atomic_path
from .model import BASE_MODULES, FLOW_MODULES, VideoAutoencoder4D

SUFFIXES = (".ckpt", ".tar", ".pt", ".pth")
PREFIX = "module."
COPY_AGAIN = "copy it again, or take another"
PLAIN = re.compile(r"collections OrderedDict|torch(\.storage)? \w+Storage|torch Size|torch\._utils _rebuild_(tensor|tensor_v2|parameter)")
PROTOCOL = 3  # of pickle, the newest whose operations torch's `weights_only` knows; torch.save writes 2
PICKLE_LIMIT = 4 << 20  # bytes; a flow checkpoint with its optimiser has 0.1 MB of pickle beside its tensors
MEMBER_LIMIT = 10_000  # one archive member is one tensor; a flow checkpoint has 359


def is_original(path: str | Path) -> bool:
    """Whether a file is to be read as one of the original system: by its first bytes, where they say nothing by its suffix."""
    with Path(path).open("rb") as stream:
        start = stream.read(9)
    if start[8:] == b"{":  # safetensors: eight bytes of length, then JSON
        return False
    return start.startswith((b"PK", b"\x80")) or Path(path).suffix.lower() in SUFFIXES


def read_original(path: str | Path) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """The modules of an original checkpoint, and the names of what else the file holds (an optimiser, a discriminator, an epoch).

    Returns:
        ({module: {key without prefix: float32 tensor on the CPU}}, [ignored name]): the four base modules, and the flow modules where the
        file holds them. Batch norm counters that very old files lack are 0.
    Raises:
        CheckpointError: the file is damaged, hostile or not there, or lacks a module; nothing in it has been run then.
    """
    path = Path(path)
    if path.suffix == ".safetensors":  # torch.load would go by the name
        raise CheckpointError(f"{path} was written by torch.save: rename it to {path.stem}{SUFFIXES[0]}.")
    try:
        with path.open("rb") as stream:
            zipped = stream.read(2) == b"PK"
            stream.seek(0)
            (check_archive if zipped else check_pickles)(path, stream)
        # Mapped, a storage is a part of the file: it cannot be larger than the file, and what is not used is never read.
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error).strip().split("\n")[0][:120] or type(error).__name__
        raise CheckpointError(f"{path} is no whole checkpoint of torch.save ({reason}): {COPY_AGAIN}.") from error
    if not isinstance(held, dict):
        raise CheckpointError(f"{path} holds a {type(held).__name__}, not the modules of the original system: choose another file.")
    ignored = sorted(str(name) for name in held if name not in BASE_MODULES + FLOW_MODULES)
    with_weights = [name for name in FLOW_MODULES if name != "flow"]
    wanted = [*BASE_MODULES, *(with_weights if any(name in held for name in with_weights) else [])]
    if missing := [name for name in wanted if name not in held]:
        also = f"; it holds {listed(ignored)}" if ignored else ""
        raise CheckpointError(f"{path} lacks the modules {', '.join(missing)}{also}: take a whole checkpoint of the original system.")
    return state_dicts(path, {name: held[name] for name in BASE_MODULES + FLOW_MODULES if name in held}), ignored


def check_archive(path: Path, stream: BinaryIO) -> None:
    """Refuse an archive that torch.save did not write: compressed or overlapping members, a damaged one, a pickle that is not plain."""
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if len(members) > MEMBER_LIMIT:
            raise CheckpointError(f"{path} is an archive of {len(members)} members, a checkpoint has at most {MEMBER_LIMIT}: take another.")
        size = sum(member.file_size for member in members)
        packed = any(member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size for member in members)
        if packed or size > path.stat().st_size or len({member.filename.lower() for member in members}) < len(members):
            what = f"{path.stat().st_size} bytes that unpack to {size}"
            raise CheckpointError(f"{path} is a packed archive ({what}), which torch.save does not write: unpack it, or take another file.")
        root = members[0].filename.split("/")[0] if members else ""  # torch takes the first member's folder
        with archive.open(f"{root}/data.pkl") as pickled:
            check_pickle(path, pickled)
        if damaged := archive.testzip():  # torch itself does not compare the checksums
            raise CheckpointError(f"{path} is damaged (checksum of {damaged}): {COPY_AGAIN}.")


def check_pickles(path: Path, stream: BinaryIO) -> None:
    """The same for the older format: pickles of a magic number, a version, the machine, the object and its storages, then raw numbers."""
    if stream.read(1) != b"\x80":
        remedy = "copy it again, unpack it where it is an archive of files, or take another"
        raise CheckpointError(f"{path} is neither a zip archive nor a pickle of torch.save: {remedy}.")
    stream.seek(0)
    for _ in range(5):
        check_pickle(path, stream)


def check_pickle(path: Path, stream: BinaryIO) -> None:
    """Refuse a pickle that names anything but the parts of state dicts, before any of it runs.

    torch's own `weights_only` refuses code as well, but lets `bytearray` through, which makes gigabytes out of a few bytes.
    """
    for operation, argument, position in pickletools.genops(stream):
        if position > PICKLE_LIMIT:
            raise CheckpointError(f"{path} has more than {PICKLE_LIMIT >> 20} MB of pickle beside its tensors: take another checkpoint.")
        if operation.name == "PROTO" and argument > PROTOCOL:
            remedy = "have its owner save it again with torch.save's default, protocol 2"
            raise CheckpointError(f"{path} was saved with pickle protocol {argument}, which is not read: {remedy}.")
        named = operation.name in ("GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4")
        if named and not (operation.name == "GLOBAL" and PLAIN.fullmatch(argument)):
            what = str(argument or operation.name).replace(" ", ".")
            remedy = "take another, or have its owner save the modules' state dicts alone with torch.save"
            raise CheckpointError(f"{path} asks for {what}, which a checkpoint of tensors does not need, and was not loaded: {remedy}.")


def state_dicts(path: Path, held: dict[str, object]) -> dict[str, dict[str, Tensor]]:
    """What a file holds for its modules, checked and without the prefix, as float32 tensors of their own."""
    for module, state in held.items():
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise CheckpointError(f"{path} holds no state dict for the module {module} but a {type(state).__name__}: take another.")
    keys = [key for state in held.values() for key in state]
    prefixed = [key for key in keys if key.startswith(PREFIX)]
    if 0 < len(prefixed) < len(keys):
        odd = next(key for key in keys if not key.startswith(PREFIX))
        mixed = f"{prefixed[0]} and {odd}"
        raise CheckpointError(f"{path} mixes keys with and without the prefix {PREFIX!r} ({mixed}): rename them alike, or take another.")
    left = path.stat().st_size  # no tensor is there twice, so together they cannot outgrow the file
    modules: dict[str, dict[str, Tensor]] = {}
    for module, state in held.items():
        modules[module] = {}
        for key, value in state.items():
            name = f"{module}.{key.removeprefix(PREFIX)}"
            check_tensor(path, name, value)
            claimed, behind = value.numel() * value.element_size(), value.untyped_storage().nbytes()
            left -= claimed
            if claimed > behind or left < 0:
                what = f"shape {tuple(value.shape)} takes {claimed} bytes, its storage has {behind}, the file {path.stat().st_size}"
                raise CheckpointError(f"{path} holds less than it claims for {name} ({what}): {COPY_AGAIN}.")
            kind = torch.float32 if value.is_floating_point() else torch.int64
            modules[module][key.removeprefix(PREFIX)] = value.detach().to(kind, copy=True).contiguous()
        for key in [key for key in modules[module] if key.endswith("running_mean")]:
            modules[module].setdefault(key.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    return modules


def check_tensor(path: Path, name: str, value: object) -> None:
    """Refuse what is no dense tensor of floats (or, for batch norm's counters, of integers)."""
    if not isinstance(value, Tensor):
        raise CheckpointError(f"{path} holds a {type(value).__name__} for {name}, not a tensor: take another checkpoint.")
    counter = name.endswith("num_batches_tracked")
    number = value.is_floating_point() != counter and not value.is_complex() and value.dtype != torch.bool
    if not number or value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        kind = f"{value.dtype} {value.layout}".replace("torch.", "")
        raise CheckpointError(f"{path} holds numbers of kind {kind} for {name}: save it as {'int64' if counter else 'float32'}.")


def fitting_config(path: str | Path, tensors: dict[str, Tensor], lacks: tuple[str, ...] = ()) -> ModelConfig:
    """The preset whose names and shapes the tensors have.

    Raises:
        CheckpointError: none; the message names the nearest preset and what differs from it.
    """
    known = presets(VideoAutoencoder4D)
    wrong = {name: differences(tensors, config, lacks) for name, config in known.items()}
    nearest = min(wrong, key=lambda name: len(wrong[name]))
    if wrong[nearest]:
        raise CheckpointError(
            f"{path} fits none of the presets {', '.join(known)}; the nearest is {nearest!r}, but {listed(wrong[nearest])}: "
            "take a checkpoint of one of them, or the version that knows its preset."
        )
    return known[nearest]


def write_original(path: str | Path, model: VideoAutoencoder4D) -> int:
    """Write a model so that the original system can load it; returns the number of tensors.

    The base modules alone where the model never had a flow stage, else all seven; float32, on the CPU, keys prefixed `module.`.

    Raises:
        StorageError: the disk is full or the folder cannot be written; an older file stays as it was.
    """
    names = BASE_MODULES + (FLOW_MODULES if model.flow_trained else ())
    held = {name: prefixed_state(model.get_submodule(name)) for name in names}
    with atomic_path(path) as partial, partial.open("wb") as stream:
        torch.save(held, stream)
    return sum(len(state) for state in held.values())


def prefixed_state(module: nn.Module) -> OrderedDict[str, Tensor]:
    """A module's state dict as DataParallel would give it."""
    values = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    return OrderedDict((PREFIX + key, value.float() if value.is_floating_point() else value) for key, value in values.items())
