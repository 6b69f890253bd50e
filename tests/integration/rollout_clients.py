"""Clients of a model that is rolled out: what they ask, and what they see."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Sequence
from typing import Self

import httpx
import msgspec
import numpy as np
from integration.rollouts import LABELS, draw
from integration.running import Running

IN_FORCE_S = 1.0
"""So long after a change no request meets what was in force before."""


class Answer(msgspec.Struct):
    """What a client saw.

    Attributes:
        sent, received: Seconds since the epoch.
        status: 0 where there was no answer.
        version, arm: From the headers.
        key: The routing key it brought; empty where it brought none.
        local_port: The client's own port.
        detail: Of a failure: what was said.
    """

    sent: float
    received: float
    status: int
    version: str
    arm: str
    key: str
    local_port: int
    detail: str = ""

    @property
    def is_failed(self) -> bool:
        return self.status != 200


class Load:
    """Clients that ask a model on both ports over keep-alive connections, and tell some 100 ms later what really happened.

    Args:
        servers: Who is asked, in turn.
        model: Which model.
        rate: Requests a second, of all clients together.
        clients: How many; each connection is used for 60 requests, so that every worker is met.
        truth: Whether ground truth is told.
    """

    def __init__(self, *servers: Running, model: str, rate: float = 240, clients: int = 8, truth: bool = True) -> None:
        self.answers: list[Answer] = []
        self.told = 0
        self.refused: list[str] = []
        self._model = model
        self._servers = servers
        self._rows, self._truth = draw(4000, seed=11)
        self._period_s = clients / rate
        self._stopping = threading.Event()
        self._untold: list[tuple[float, str, bool]] = []
        self._lock = threading.Lock()
        ports = [port for server in servers for port in (server.port, server.data_port)]
        self._threads = [threading.Thread(target=self._ask, args=(n, ports[n % len(ports)])) for n in range(clients)]
        if truth:
            self._threads.append(threading.Thread(target=self._tell))

    def __enter__(self) -> Self:
        self.began = time.time()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(30)

    def _ask(self, number: int, port: int) -> None:
        due = time.monotonic() + self._period_s * number / 8
        connection: http.client.HTTPConnection | None = None
        asked = 0
        while not self._stopping.is_set():
            late = time.monotonic() - due
            if late < 0:
                time.sleep(-late)
            due = due + self._period_s if late < 1 else time.monotonic()
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            self._request(connection, number, asked)
            asked += 1
            if asked % 60 == 0 or self.answers[-1].status == 0:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _request(self, connection: http.client.HTTPConnection, number: int, asked: int) -> None:
        which = (asked * 8 + number) % len(self._rows)
        request_id = f"{self._model}-{number}-{asked}"
        key = "" if asked % 3 == 0 else f"user-{(asked * 131 + number * 17) % 600}"
        headers = {"content-type": "application/json", "x-request-id": request_id, **({"x-routing-key": key} if key else {})}
        body = msgspec.json.encode({"instances": [self._rows[which].tolist()]})
        sent, status, version, arm, detail, local_port = time.time(), 0, "", "", "", 0
        try:
            if connection.sock is None:
                connection.connect()
            local_port = connection.sock.getsockname()[1]
            connection.request("POST", f"/v1/models/{self._model}:predict", body, headers)
            response = connection.getresponse()
            content = response.read()
            status, version, arm = response.status, response.headers["x-model-version"] or "", response.headers["x-model-arm"] or ""
            detail = "" if status == 200 else content.decode()[:300]
        except (OSError, http.client.HTTPException) as e:
            connection.close()
            detail = repr(e)
        received = time.time()
        self.answers.append(Answer(sent, received, status, version, arm, key, local_port, detail))
        if status == 200:
            with self._lock:
                self._untold.append((received, request_id, bool(self._truth[which])))

    def _tell(self) -> None:
        urls = [f"{server.url}/v1/models/{self._model}/ground_truth" for server in self._servers]
        with httpx.Client(timeout=20) as client:
            while not self._stopping.wait(0.1):
                until = time.time() - 0.1
                with self._lock:
                    ripe = [item for item in self._untold if item[0] <= until]
                    self._untold = [item for item in self._untold if item[0] > until]
                if not ripe:
                    continue
                items = [{"request_id": request_id, "actual": LABELS[is_yes]} for _, request_id, is_yes in ripe]
                answer = client.post(urls[self.told % len(urls)], json={"ground_truth": items})
                if answer.status_code == 200:
                    self.told += answer.json()["accepted"]
                else:
                    self.refused.append(answer.text)

    # ── what they saw ────────────────────────────────────────────────────────────────────────────────────────────────

    def between(self, begin: float, end: float = float("inf")) -> list[Answer]:
        """Answers to requests that were sent in a time."""
        return [a for a in list(self.answers) if begin <= a.sent < end]

    def failures(self) -> list[Answer]:
        return [a for a in list(self.answers) if a.is_failed]

    def in_force_s(self, changed: float, version: str, *, until: float = float("inf")) -> float:
        """How long after a change the last request was sent that another version than this answered; 0 where there was none."""
        return max((a.sent - changed for a in self.between(changed, until) if not a.is_failed and a.version != version), default=0.0)

    def figures(self) -> str:
        took = np.array([a.received - a.sent for a in self.answers if a.status]) * 1000
        seconds = max(a.received for a in self.answers) - self.began
        return (
            f"{len(took):,} answers in {seconds:.1f} s ({len(took) / seconds:.0f}/s), p50 {np.median(took):.1f} ms, "
            f"p99 {np.quantile(took, 0.99):.1f} ms, {len(self.failures())} failed, {self.told:,} truths told"
        )


def share_of(answers: Sequence[Answer], version: str) -> tuple[float, int]:
    """The share of a version in what came without a routing key, and of how many: each of these is a draw of its own."""
    drawn = [a for a in answers if not a.key and not a.is_failed]
    return (sum(a.version == version for a in drawn) / len(drawn) if drawn else 0.0), len(drawn)


def moved_back(answers: Sequence[Answer], version: str) -> list[tuple[Answer, Answer]]:
    """Requests with a key that had met a version on trial more than a second before, and met another one again."""
    first: dict[str, Answer] = {}
    found = []
    for a in sorted(answers, key=lambda a: a.sent):
        if not a.key or a.is_failed:
            continue
        if a.version == version:
            first.setdefault(a.key, a)
        elif a.key in first and a.sent > first[a.key].received + IN_FORCE_S and a.arm != "fallback":
            found.append((first[a.key], a))
    return found
