from __future__ import annotations

import logging

import pytest
from prometheus_client import CollectorRegistry

from ekiben.errors import StateError
from ekiben.monitoring.metrics import Metrics
from ekiben.serving.control_link import ControlLink

FIRE = StateError("the disk is on fire")


class Wall:
    now = 1_700_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def wall():
    return Wall()


@pytest.fixture
def collectors():
    return CollectorRegistry()


@pytest.fixture
def link(collectors, wall):
    return ControlLink(Metrics(collectors), wall)


@pytest.fixture
def up(collectors):
    return lambda: collectors.get_sample_value("ekiben_control_database_up")


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "ekiben.control")
    return lambda: [record.getMessage() for record in caplog.records]


def test_while_it_answers_nothing_is_said(link, up, said):
    for _ in range(3):
        link.answered("read")
        link.answered("write")
    assert (up(), link.detail, said()) == (1, "", [])


def test_going_and_coming_back_are_said_once_each(link, up, said, wall):
    link.answered("read")
    for n in range(5):
        link.failed("read", StateError(f"fire {n}"))
        wall.now += 0.5
    assert said() == ["the control database is away; serving goes on with the last known routes: fire 0"]
    assert up() == 0
    assert link.detail == "away since 2023-11-14T22:13:20+00:00, serving goes on with the last known routes: fire 4"
    wall.now += 10
    link.answered("read")
    link.answered("read")
    assert said()[1:] == ["the control database is back after 12 s"]
    assert (up(), link.detail) == (1, "")


def test_one_that_can_be_read_and_not_written_is_away_until_it_can(link, up, said):
    for _ in range(4):
        link.answered("read")
        link.failed("write", FIRE)
    assert len(said()) == 1
    assert up() == 0
    assert link.detail.endswith("the disk is on fire")
    link.failed("read", StateError("no more"))
    link.answered("write")
    assert up() == 0
    assert link.detail.endswith("no more")
    link.answered("read")
    assert (up(), link.detail) == (1, "")
    assert len(said()) == 2


def test_a_second_time_is_said_again(link, said):
    for _ in range(2):
        link.failed("write", FIRE)
        link.answered("write")
    assert len(said()) == 4
