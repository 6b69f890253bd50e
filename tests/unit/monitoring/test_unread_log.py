import pytest

from ekiben.errors import LogError
from ekiben.monitoring.unread_log import UnreadLog


@pytest.mark.parametrize("ask", ["read", "count"])
def test_who_asks_is_told_what_is_missing_and_where_to_ask(ask):
    with pytest.raises(LogError, match=r"log of m cannot be read here: pyarrow is not installed; ask where 'ekiben\[monitor\]' is"):
        getattr(UnreadLog(), ask)("m", since=0.0, until=1.0)
