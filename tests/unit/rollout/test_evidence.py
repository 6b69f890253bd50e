from __future__ import annotations

import pytest

from ekiben.rollout.evidence import Evidence
from ekiben.state.windows import Window


def evidence(challenger, champion, *, is_shadow=False):
    return Evidence(
        model="m",
        champion_version="a",
        challenger_version="b",
        task="regression",
        is_shadow=is_shadow,
        challenger=Window(ok=challenger),
        champion=Window(ok=champion),
        baseline=Window(ok=1000, errors={"X": 5}),
    )


@pytest.mark.parametrize(
    ("challenger", "champion", "is_shadow", "reference"),
    [
        (0, 0, False, 0),
        (100, 100, False, 100),
        (500, 10, False, 10),
        (501, 10, False, 1015),
        (5, 0, False, 1005),
        (5, 0, True, 0),
    ],
)
def test_earlier_requests_of_the_champion_stand_in_only_where_the_challenger_has_the_traffic(challenger, champion, is_shadow, reference):
    assert evidence(challenger, champion, is_shadow=is_shadow).reference.requests == reference
