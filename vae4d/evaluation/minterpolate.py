"""Interpolation by ffmpeg's motion-compensated filter: the given frames of a clip go through one process, as a stream.

Conventions: frames are rgb24 both ways, over pipes. The given frames have rate 1 and the filter makes rate `gap`, so output k lies at
t = k / gap: between given frames of uneven time stamps it is as if they were even. The filter works on YUV; ffmpeg converts to
yuv444p and back (about 52 dB on its own, far above any result; yuv420p would cost up to 4 dB). Everything else is the filter's
default, its scene-change detection too: across a change that it finds it repeats a frame.

The filter holds back what follows the last frame but one, so the last given frame is sent twice and what it makes of that is dropped.
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from threading import Thread, Timer
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import MethodError
from .optical_flow import pixels

if TYPE_CHECKING:
    from .methods import Pair

FILTER = "format=yuv444p,minterpolate=fps={gap}:mi_mode=mci"
REMEDY = "leave minterpolate out of the methods, or name another ffmpeg in IMAGEIO_FFMPEG_EXE"


class Minterpolate:
    """The filter as a method; the ffmpeg is imageio-ffmpeg's. Frames need at least 32 pixels a side.

    Args:
        patience: seconds that ffmpeg may take for one frame before it is stopped.
    """

    def __init__(self, patience: float = 60):
        self.patience = patience
        self.settings = {"filter": FILTER.format(gap="gap"), "ffmpeg": ffmpeg_version()}

    def __call__(self, pairs: Iterable[Pair]) -> Iterator[Tensor]:
        """Pairs that follow each other share one stream; where one does not, a new stream begins.

        Raises:
            MethodError: ffmpeg is missing, fails or stops answering.
        """
        stream, last = None, None
        try:
            for pair in pairs:
                if not pair.follows(last):
                    if stream is not None:
                        yield from stream.finish()
                        stream.close()
                    stream = Stream(pair, self.patience)
                stream.add(pair)
                last = pair
                yield from stream.ready()
            if stream is not None:
                yield from stream.finish()
        finally:
            if stream is not None:
                stream.close()


class Stream:
    """One ffmpeg process: given frames in, blocks of in-between frames out.

    A thread reads what ffmpeg writes, so that neither waits for the other with a full pipe. What is held is what ffmpeg has
    been given and not yet answered: a few frames, however long the clip.
    """

    def __init__(self, pair: Pair, patience: float):
        height, width = pair.first.shape[1:]
        self.pair, self.patience, self.waiting = pair, patience, 0
        self.block = (pair.gap, height, width, 3)
        self.answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}", "-framerate", "1", "-i", "pipe:0"]
        made = ["-vf", FILTER.format(gap=pair.gap), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
        command = [self._ffmpeg(), "-nostdin", "-v", "error", "-filter_threads", "1", *source, "-threads", "1", *made]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.complaints)
        self.reader = Thread(target=self._read, daemon=True)
        self.reader.start()
        self._put(pair.first)

    def add(self, pair: Pair) -> None:
        """Send the frame that ends a pair."""
        self.pair = pair
        self._put(pair.second)
        self.waiting += 1

    def ready(self) -> Iterator[Tensor]:
        """The in-between frames of pairs that ffmpeg has finished, without waiting."""
        while self.waiting and not self.answers.empty():
            yield self._answer()

    def finish(self) -> Iterator[Tensor]:
        """Pad, end the input and wait for the in-between frames of all pairs that are left."""
        self._put(self.pair.second)
        self.process.stdin.close()
        while self.waiting:
            yield self._answer()

    def close(self) -> None:
        """Stop the process and free the pipes, whatever state they are in."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        with contextlib.suppress(OSError):  # the rest of a frame that it did not take
            self.process.stdin.close()
        self.complaints.close()

    def _put(self, frame: Tensor) -> None:
        deadline = Timer(self.patience, self.process.kill)
        deadline.start()
        try:
            self.process.stdin.write(pixels(frame).data)
            self.process.stdin.flush()
        except OSError as error:
            raise self._failure() from error
        finally:
            deadline.cancel()

    def _read(self) -> None:
        size = int(np.prod(self.block))
        while len(block := self.process.stdout.read(size)) == size:
            self.answers.put(block)
        self.answers.put(b"")

    def _answer(self) -> Tensor:
        try:
            block = self.answers.get(timeout=self.patience)
        except queue.Empty:
            self.process.kill()
            block = b""
        if not block:
            raise self._failure()
        self.waiting -= 1
        frames = torch.from_numpy(np.frombuffer(bytearray(block), np.uint8).reshape(self.block))
        return frames[1:].movedim(-1, 1).float().div_(255)  # the first shows the given frame

    def _failure(self) -> MethodError:
        code = self.process.wait()
        self.complaints.seek(0)
        lines = self.complaints.read().decode(errors="replace").strip().splitlines()
        reason = lines[0] if lines else f"it ended with code {code}" if code >= 0 else f"stopped, no answer within {self.patience:g} s"
        return MethodError(f"Method 'minterpolate': ffmpeg failed on {self.pair} ({reason}): {REMEDY}.")

    def _ffmpeg(self) -> str:
        try:
            import imageio_ffmpeg

            return imageio_ffmpeg.get_ffmpeg_exe()
        except (ImportError, RuntimeError) as error:
            raise MethodError(f"Method 'minterpolate' cannot run on {self.pair}, ffmpeg is missing: pip install imageio-ffmpeg.") from error


def ffmpeg_version() -> str:
    """Version of imageio-ffmpeg's ffmpeg, for the settings beside a result; "not installed" without one."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_version()
    except (ImportError, RuntimeError):
        return "not installed"
