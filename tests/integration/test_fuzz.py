"""Nothing that a client sends makes the server fail: thousands of mutated requests, gRPC calls, and HTTP/2 frames.

A case is made from the seed, its kind and its number. ``FUZZ_SEED=7 pytest tests/integration/test_fuzz.py`` makes others,
``FUZZ_ONLY=grpc:310`` plays a single one again, ``FUZZ_TIMES=20`` plays twenty times as many (``make fuzz`` does).
"""

from __future__ import annotations

import asyncio
import os
import re
import warnings
from collections.abc import Iterator
from itertools import chain
from random import Random
from statistics import median

import httpx
import psutil
import pytest
from integration.fuzzing import frames
from integration.fuzzing.campaign import Campaign
from integration.fuzzing.corpus import ADDED, TINY_ANSWER, TINY_ROWS
from integration.fuzzing.http1 import Answer
from integration.fuzzing.mutations import mutated_bytes
from integration.fuzzing.oddities import BODY, HEAD, ODDITIES, SMUGGLED, answers_to
from integration.fuzzing.soundness import assert_sound
from integration.onnx_graphs import save_cases
from integration.running import Project, Running

pytestmark = pytest.mark.processes

SEED = os.environ.get("FUZZ_SEED", "ekiben")
ONLY = os.environ.get("FUZZ_ONLY", "")
TIMES = int(os.environ.get("FUZZ_TIMES", "1"))
BATCHES = 10
WARM_UP = 4
A_BATCH = {"v2": 700, "rest": 650, "grpc": 550, "frames": 120}
"""Cases of each kind: 7,000 bodies of V2 with binary tensors, 6,500 others, 6,700 gRPC calls and HTTP/2 connections."""
MOST_GROWTH = 1.05
THRIFTY_MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""glibc gives freed memory back, so that what is resident is what the server holds."""


@pytest.fixture
def running(project: Project, tiny_artifact, tmp_path) -> Iterator[Running]:
    """Two workers that serve tiny, and models of every datatype, of strings, of varying shapes and without rows."""
    project.register(tiny_artifact, version="1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = save_cases(tmp_path, ADDED)
    for name, file in files.items():
        project.run("ekiben", "models", "add", name, "--onnx", str(file))
    with Running(project, workers=2, EKIBEN_PLATFORM_MODEL="tiny", **THRIFTY_MALLOC) as running:
        running.wait()
        yield running


def resident_bytes(pids: list[int]) -> list[int]:
    return [psutil.Process(pid).memory_info().rss for pid in pids]


def assert_no_faults(campaign: Campaign) -> None:
    told = [f"{f.kind}:{f.number}: {f.what}\n    {f.sent}" for f in campaign.faults]
    assert not told, "\n".join([f"seed {SEED!r}; play one again with FUZZ_SEED={SEED} FUZZ_ONLY=kind:number", *told])


def assert_nothing_failed(log: str) -> None:
    failures = re.findall(r"^.*(?:Traceback|call failed|request failed|panicked).*$", log, re.MULTILINE)
    assert not failures, failures[:5]


@pytest.mark.skipif(bool(ONLY), reason="FUZZ_ONLY plays a single case")
def test_no_mutation_makes_the_server_fail(running):
    pids = sorted(running.workers())
    assert len(pids) == 2
    campaign = Campaign(running.port, running.data_port, SEED)
    most = []
    for batch in range(BATCHES * TIMES):
        for kind, count in A_BATCH.items():
            asyncio.run(campaign.run(kind, range(batch * count, (batch + 1) * count)))
        assert_no_faults(campaign)
        assert_sound(running.port, running.data_port)
        assert sorted(running.workers()) == pids, "a worker died"
        most.append(resident_bytes(pids))
    # Measured against what the same kinds of requests have made of the workers already: every batch has all of them.
    warm, ended = most[WARM_UP - 1 : WARM_UP + 2], most[-3:]
    before, after = ([median(n) for n in zip(*part, strict=True)] for part in (warm, ended))
    assert all(b <= a * MOST_GROWTH for a, b in zip(before, after, strict=True)), f"seed {SEED!r}: memory grew: {most}"
    assert_nothing_failed(running.log.read_text(errors="replace"))
    # The cases are worth something only if many get past the first check, and many do not.
    for kind in ("v2", "rest"):
        assert campaign.outcomes[kind]["200"] > 0.05 * A_BATCH[kind] * BATCHES < campaign.outcomes[kind]["400"]
    assert campaign.outcomes["grpc"]["0"] > 0.05 * A_BATCH["grpc"] * BATCHES < campaign.outcomes["grpc"]["3"]


@pytest.mark.skipif(not ONLY, reason="FUZZ_ONLY says which")
def test_one_case(running):
    kind, _, number = ONLY.partition(":")
    campaign = Campaign(running.port, running.data_port, SEED)

    asyncio.run(campaign.run(kind, range(int(number), int(number) + 1)))

    assert_no_faults(campaign)


@pytest.fixture
def tiny(project: Project, tiny_artifact) -> Iterator[Running]:
    """One worker that serves tiny."""
    project.register(tiny_artifact, version="1")
    with Running(project, workers=1) as running:
        running.wait()
        yield running


def test_no_request_is_smuggled_into_another(tiny):
    async def ask() -> list[list[Answer]]:
        return await asyncio.gather(*(answers_to(tiny.data_port, o.data) for o in ODDITIES))

    found = [tuple(a.status for a in answers) for answers in asyncio.run(ask())]

    # A refusal can get lost where the connection is closed with bytes unread: then the client sees it reset.
    wrong = {o.name: f for o, f in zip(ODDITIES, found, strict=True) if f != o.answers and not (f == () and max(o.answers) >= 400)}
    assert not wrong


def test_more_calls_than_a_connection_may_have_open_are_refused(tiny):
    async def ask() -> list[str | None]:
        return await asyncio.gather(*(frames.play(tiny.data_port, frames.unended(1100)) for _ in range(4)))

    pids = tiny.workers()
    for _ in range(3):
        assert asyncio.run(ask()) == [None] * 4
    answer = httpx.post(f"{tiny.data_url}/v1/models/tiny:predict", json={"instances": TINY_ROWS}, timeout=20)
    assert [p["prediction"] for p in answer.json()["predictions"]] == TINY_ANSWER
    assert tiny.workers() == pids


@pytest.mark.parametrize("port", ["port", "data_port"])
def test_no_bytes_of_http_1_make_the_server_fail(tiny, port):
    sound = (
        HEAD
        + b"content-length: 25\r\n\r\n"
        + BODY
        + HEAD
        + b"transfer-encoding: chunked\r\n\r\n19\r\n"
        + BODY
        + b"\r\n0\r\n\r\n"
        + SMUGGLED
    )
    pids = tiny.workers()

    async def ask(numbers: Iterator[int]) -> list[tuple[int, int]]:
        failed = []
        for number in numbers:
            data = mutated_bytes(Random(f"{SEED}:http1:{number}"), sound)
            failed += [(number, a.status) for a in await answers_to(getattr(tiny, port), data) if a.status >= 500 and a.status != 501]
        return failed

    async def ask_all() -> list[list[tuple[int, int]]]:
        numbers = iter(range(500))
        return await asyncio.gather(*(ask(numbers) for _ in range(32)))

    assert not list(chain.from_iterable(asyncio.run(ask_all()))), f"seed {SEED!r}"
    assert tiny.workers() == pids
    assert_nothing_failed(tiny.log.read_text(errors="replace"))
