import asyncio
from collections import Counter

import pytest
from unit.load_tests.demo.told import answers, counts, event

from load_tests.demo import story
from load_tests.demo.flights import Flight
from load_tests.demo.project import CommandFailed
from load_tests.demo.scenario import Scenario

FLIGHTS = [Flight(i, b"{}", 0.0, 0.0, "late") for i in range(3)]


class Home:
    def __truediv__(self, _name):
        return self


class World:
    """What a story meets: a project, a server, clients and news that are only told."""

    def __init__(self):
        self.said, self.asked, self.months, self.busy_until, self.retrains, self.verdict = [], [], [], 0, False, "ok"
        self.stopped = self.waited = 0
        self.fails = ""

    # the project
    home = Home()

    async def run(self, module, *words):
        self.asked.append((module, *words))
        if self.fails and self.fails in words:
            raise CommandFailed(self.fails)
        return ""

    async def ask(self, *words):
        self.asked.append(words)
        if words[0] == self.fails:
            raise CommandFailed(self.fails)
        match words[:2]:
            case ("models", "list"):
                return [{"version": "v0", "aliases": []}, {"version": "v1", "aliases": ["champion"]}]
            case ("monitor", "check"):
                drift = {"kind": "drift", "version": "v1", "rows": 3, "outcome": "ok", "summary": "none", "report": {}}
                return [drift, {"kind": "quality", "version": "v1", "arm": "", "outcome": self.verdict, "summary": "so"}]
            case ("rollout", "history"):
                return [event("alert")]
        return []

    # the audience
    def step(self, text):
        self.said.append(text)

    def event(self, event):
        self.said.append(event["kind"])

    def month_begins(self, month, _flights):
        self.months.append(month)

    def asked_flights(self, _n):
        pass

    def month_ends(self, month):
        self.said.append(month.name)


class Serving:
    world: World
    url = "http://nowhere"

    def __init__(self, project, webhook):
        assert webhook.startswith("http://")

    def wait(self):
        pass

    def workers(self):
        return [1, 2]

    def kill_worker(self):
        return 4711

    def stop(self):
        self.world.stopped += 1


class Replay:
    def __init__(self, url, *, seed):
        self.answers, self.failures, self.lost, self.refused = answers(4), [], [], []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def month(self, month, flights, told, *, is_over):
        await asyncio.sleep(0.03)
        return 1 if is_over() else len(flights)

    async def reported(self):
        pass


class News:
    world: World

    def __init__(self, *_):
        pass

    @property
    def was_retrained(self):
        return self.world.retrains

    @property
    def is_busy(self):
        return self.world.months[-1] < self.world.busy_until

    async def until_retrained(self, _patience_s):
        self.world.waited += 1
        self.world.retrains = True

    async def follow(self):
        await asyncio.sleep(100)


async def rows_by_month(_project):
    return []


async def count(_project, _replay):
    return counts()


class Receiver:
    url = "http://hook"

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def lacks(self, alerts, _patience_s):
        assert alerts == {1}
        return set()


@pytest.fixture
def world(monkeypatch):
    world = World()
    for met in (Serving, News):
        monkeypatch.setattr(met, "world", world, raising=False)
    replaced = {"Serving": Serving, "Replay": Replay, "News": News, "Receiver": Receiver, "rows_by_month": rows_by_month, "count": count}
    replaced |= {"flights_of": lambda *_: FLIGHTS, "_SETTLE_S": 0.0}
    for name, value in replaced.items():
        monkeypatch.setattr(story, name, value)
    return world


def played(world, **more):
    given = {"last_month": 7, "flights": 3, "month_s": 0.02, "bad_month": 5, "kill_month": 6} | more
    audience = type(
        "Audience", (), {n: getattr(world, n) for n in ("step", "event", "month_begins", "month_ends")} | {"asked": world.asked_flights}
    )
    made = story.Story(Scenario(**given), "short", world, audience)
    return asyncio.run(made.play())


def test_months_are_played_and_what_goes_wrong_goes_wrong(world):
    record = played(world)
    assert world.months == [5, 6, 7]
    assert [m.month for m in record.months] == [5, 6, 7]
    assert (record.champion, record.killed) == ("v1", 4711)
    assert ("rollout", "start", "flight_delay", "--to", "opposite") in world.asked
    assert record.months[0].since < record.killed_at < record.months[2].since
    assert world.stopped == 1


def test_nothing_is_checked_before_the_first_month_but_once(world):
    played(world)
    assert Counter(words[:2] for words in world.asked)["monitor", "check"] == 4


def test_it_goes_on_while_a_version_is_on_trial_and_no_longer_than_the_year(world):
    world.busy_until = 9
    months = played(world).months
    assert [m.month for m in months] == [5, 6, 7, 8, 9]
    assert [m.asked for m in months] == [3, 3, 3, 3, 1]
    world.months.clear()
    world.busy_until = 99
    assert [m.month for m in played(world).months] == list(range(5, 13))


def test_where_nothing_calls_for_training_the_demo_does(world):
    played(world, last_month=8, own_month=6)
    assert [words[1] for words in world.asked if words[0] == "ekiben"] == ["retrain"]


def test_where_the_quality_is_bad_training_is_waited_for_once(world):
    world.verdict = "bad"
    played(world, own_month=7)
    assert world.waited == 1
    assert not any(words[0] == "ekiben" for words in world.asked)


def test_training_that_fails_is_found_by_the_promises(world):
    world.fails = "retrain"
    record = played(world, last_month=8, own_month=6)
    assert [m.month for m in record.months] == [5, 6, 7, 8]
    assert not record.kept_all


def test_what_fails_on_the_way_ends_it_and_the_server(world):
    world.fails = "rollout"
    with pytest.raises(CommandFailed):
        played(world)
    assert world.stopped == 1


def test_what_fails_at_the_start_starts_no_server(world):
    world.fails = "--json"
    with pytest.raises(CommandFailed):
        played(world)
    assert world.stopped == 0
