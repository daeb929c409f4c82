"""Tasks spread over processes, so that one that crashes or is interrupted costs no other its result.

Workers are spawned once for a whole run, as each takes seconds to import torch. Every worker holds the reading
end of a pipe whose writing end is the parent's alone: it closes when the parent wants to stop and when the parent is killed, and then
the worker ends, at once but not while it holds `FINISHING`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

FINISHING = threading.Lock()  # held while a file is written, so that no half of it stays behind


def spread(
    tasks: Sequence[T], work: Callable[[T], R], workers: int, portable: Callable[[T], bool], crashed: Callable[[T], R]
) -> Iterator[tuple[T, R]]:
    """(task, work(task)) for every task, as they finish.

    With two workers or more the portable tasks go to that many processes, the others run here meanwhile; else all run here in order.
    When a worker dies (out of memory, a crash in a library), the tasks that were left are done one by one, and the one that
    kills its worker again gives `crashed(task)`. An exception of `work`, or an interruption, ends everything at once.
    """
    chosen = [workers > 1 and portable(task) for task in tasks]
    away = [task for task, yes in zip(tasks, chosen, strict=True) if yes]
    here = [task for task, yes in zip(tasks, chosen, strict=True) if not yes]
    if not away:
        yield from ((task, work(task)) for task in here)
        return
    left = []
    with _Pool(min(workers, len(away))) as pool:
        futures = {pool.submit(work, task): task for task in away}
        yield from ((task, work(task)) for task in here)
        for future in as_completed(futures):
            try:
                result = future.result()
            except BrokenProcessPool:
                left.append(futures[future])
                continue
            yield futures[future], result
    while left:
        with _Pool(1) as pool:
            while left:
                task = left.pop(0)
                try:
                    result = pool.submit(work, task).result()
                except BrokenProcessPool:
                    yield task, crashed(task)
                    break
                yield task, result


class _Pool:
    """A pool of spawned processes that end with the block, however it ends."""

    def __init__(self, workers: int):
        context = multiprocessing.get_context("spawn")
        self.stop, self.hold = context.Pipe(duplex=False)
        self.pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(self.stop,))

    def __enter__(self) -> ProcessPoolExecutor:
        return self.pool

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.pool.shutdown(wait=kind is None, cancel_futures=True)
        self.hold.close()
        self.stop.close()


def _start(stop: Connection) -> None:
    """Begin a worker: it leaves Ctrl-C to its parent and ends when the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        stop.poll(None)  # nothing is ever sent
        with FINISHING:
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
