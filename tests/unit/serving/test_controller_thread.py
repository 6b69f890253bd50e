from __future__ import annotations

import threading
import time

from ekiben.serving.controller_thread import ControllerThread


class Controller:
    """Works until it is told to stop, or hangs."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.began = threading.Event()
        self.ended = threading.Event()
        self.free = threading.Event()
        self._hangs = hangs

    def run(self, stop: threading.Event) -> None:
        self.began.set()
        self.thread = threading.current_thread()
        (self.free if self._hangs else stop).wait(30)
        self.ended.set()


def test_it_works_in_a_thread_of_its_own_until_it_is_stopped():
    controller = Controller()
    thread = ControllerThread(controller)
    thread.start()
    assert controller.began.wait(10)
    assert controller.thread is not threading.current_thread()
    assert not controller.ended.is_set()
    thread.stop()
    assert controller.ended.is_set()


def test_one_that_hangs_keeps_no_worker_from_ending(monkeypatch):
    monkeypatch.setattr("ekiben.serving.controller_thread._PATIENCE_S", 0.05)
    controller = Controller(hangs=True)
    thread = ControllerThread(controller)
    thread.start()
    assert controller.began.wait(10)
    began = time.monotonic()
    thread.stop()
    assert time.monotonic() - began < 10
    assert controller.thread.daemon
    controller.free.set()
    assert controller.ended.wait(10)


def test_one_that_never_began_stops():
    ControllerThread(Controller()).stop()
