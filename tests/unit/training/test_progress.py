from __future__ import annotations

import io

import pytest
from rich.console import Console

from training.progress import Steps


def test_a_step_leaves_one_line_with_what_came_of_it_and_how_long_it_took():
    shown, clock = io.StringIO(), iter([10.0, 12.5])
    with Steps(Console(file=shown, width=40), clock=lambda: next(clock)).step("Train on [n] rows", total=3) as step:
        step.advance(2)
        step.tell("a sentence that is longer than the forty columns of this console")
    assert shown.getvalue() == "✓ Train on [n] rows: a sentence that is longer than the forty columns of this console (2.5 s)\n"


def test_a_step_that_fails_is_not_ticked_off(steps, shown):
    with pytest.raises(ValueError, match="no"), steps.step("Train"):
        raise ValueError("no")
    assert "✓" not in shown.getvalue()


def test_a_bar_moves_on_a_terminal():
    shown = io.StringIO()
    with Steps(Console(file=shown, force_terminal=True, width=80)).step("Grow", total=4) as step:
        step.advance(4)
    assert "4/4" in shown.getvalue()


def test_a_note_is_shown_as_it_is(steps, shown):
    steps.note("the shape [2, 3] differs")
    assert shown.getvalue() == "! the shape [2, 3] differs\n"
