import io

from rich.console import Console
from unit.load_tests.demo.told import event, month, quality

from load_tests.demo.screen import Screen


def test_it_shows_steps_events_and_months():
    out = io.StringIO()
    now = iter(range(100))
    screen = Screen(Console(file=out, width=160), clock=lambda: float(next(now)))
    screen.asked(1)
    screen.step("Train it")
    screen.month_begins(5, 100)
    screen.asked(50)
    screen.event(event("promoted", "v2 is champion"))
    screen.event(event("pause-over", "nobody needs to know"))
    screen.month_ends(month(quality=[quality(), quality("v2", "", roc_auc=(0.7, 0.6, 0.75))]))
    screen.close()
    text = out.getvalue()
    assert "    1 s  Train it" in text
    assert "promoted: v2 is champion" in text
    assert "nobody" not in text
    assert "May: 100 flights, 0 failed, p95 3.2 ms" in text
    assert "0.700 ± 0.100" in text
    assert "0.500" in text
    assert "drift of v1" in text
