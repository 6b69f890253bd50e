"""One Ekiben against itself: what all that measure it so have in common."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from ekiben.state.control import Control
from load_tests.bench.contestants import Contestant, Workplace
from load_tests.bench.models import BenchModel
from load_tests.bench.race import Course
from load_tests.bench.results import Results


class Trial(ABC):
    """Measures a part of a course.

    Args:
        course: What to measure.
        server: Ekiben, with nobody in it who ends what has no rollout.
        models: The models, by name.
        place: Where the server finds what it needs.
        control: The control database that it looks at.
        wrk: The path of the load generator for HTTP/1.1.
        say: Shows a line of progress.
        wall: Seconds since the epoch.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        course: Course,
        *,
        server: Contestant,
        models: dict[str, BenchModel],
        place: Workplace,
        control: Control,
        wrk: str,
        say: Callable[[str], None],
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._course = course
        self._server = server
        self._models = models
        self._place = place
        self._control = control
        self._wrk = wrk
        self._say = say
        self._wall = wall
        self._sleep = sleep
        self._cores = os.cpu_count() or 1

    @abstractmethod
    def run(self, results: Results) -> None:
        """Measures everything and adds it to the results; a server that fails is taken down, and the others go on."""
