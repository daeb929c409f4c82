"""Stopping a training between two steps, so that nothing of them is lost."""

from __future__ import annotations

import signal
import threading


class StopRequest:
    """Turns an interrupt (Ctrl-C, SIGTERM, the notebook's stop button) into a stop between two steps; a second Ctrl-C acts at once.

    SIGTERM never acts at once: a notebook that is interrupted gets it seconds after the interrupt, in the middle of saving.
    """

    def __enter__(self) -> StopRequest:
        self.received: int | None = None
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # only there can signals be handled
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _handle(self, number: int, frame) -> None:
        self.received = number
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
