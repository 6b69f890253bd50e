"""Ground truth as clients report it, item by item: checked against what the model answers, and made the `Truth` that is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ekiben.errors import InvalidRows, RowError
from ekiben.model.columns import shown
from ekiben.model.labels import label_of
from ekiben.model.spec import ModelSpec
from ekiben.serving.rest.http import fits_header
from ekiben.state.truth import Truth, Value

FIELDS: Final = ("request_id", "row", "actual", "outcome", "feedback", "comment", "time")
LONGEST_COMMENT: Final = 4_000
"""Characters."""

_LARGEST_ROW: Final = 2**31 - 1
_SHOWN_LABELS: Final = 10
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
_AHEAD_S: Final = timedelta(days=1).total_seconds()
_ID_RULE: Final = "must be the request's id: text of 1 to 128 printable ASCII characters, no space at its ends"
_ROW_RULE: Final = "must be the index of the row in its request: a whole number, 0 for the first"
_TIME_RULE: Final = "must be a time from 2000 to a day from now: ISO 8601 (UTC where it names no zone), or seconds since the epoch"
_OUTCOME_RULE: Final = "must be a finite number, or true or false"
_FEEDBACK_RULE: Final = "must be up or down"
_COMMENT_RULE: Final = f"must be text of 1 to {LONGEST_COMMENT:,} characters"
_FEEDBACK: Final = {"up": 1.0, "down": 0.0}
_SAYS: Final = ("actual", "outcome", "feedback", "comment")


class _Fault(Exception):
    """A field is wrong; the rule says what would be right."""

    def __init__(self, field: str | None, value: Any, rule: str) -> None:
        super().__init__(rule)
        self.field = field
        self.value = value
        self.rule = rule


class TruthItems:
    """Checks the items of one model.

    An item is ``{request_id, row = 0, actual, outcome, feedback, comment, time = now}``, with at least one of the middle four; a
    field that is null is left out. A label may be given as the number or the boolean that it is called after; of two labels the
    second is 1 and true. ``feedback``, a user's thumb, is an outcome: ``up`` is 1 and ``down`` is 0.

    Args:
        model: The model's name.
        spec: What it answers.
        numbers_as_text: Numbers may stand there as text, as all do in a CSV file.
    """

    def __init__(self, model: str, spec: ModelSpec, *, numbers_as_text: bool = False) -> None:
        self._model = model
        self._is_text = numbers_as_text
        self._labels = spec.labels
        self._actual: Callable[[Any], Value]
        if spec.is_classifier:
            self._actual = self._label
        else:
            self._actual = self._real if spec.task == "regression" else _no_actual

    def read(self, items: Sequence[Any], *, now: float) -> list[Truth]:
        """The truths that items say.

        Args:
            items: One object each.
            now: Seconds since the epoch; the time of items that say none.

        Raises:
            InvalidRows: Some are wrong; ``row`` of its details is the item's index.
        """
        truths: list[Truth] = []
        faults: list[RowError] = []
        for index, item in enumerate(items):
            try:
                truths.append(self._truth(item, now))
            except _Fault as e:
                faults.append(RowError(index, e.field, shown(e.value), e.rule))
        if faults:
            raise InvalidRows(faults)
        return truths

    def _truth(self, item: Any, now: float) -> Truth:
        if not isinstance(item, Mapping):
            raise _Fault(None, item, f"must be an object with {', '.join(FIELDS)}")
        given = {name: value for name, value in item.items() if value is not None}
        unknown = next((name for name in given if name not in FIELDS), None)
        if unknown is not None:
            raise _Fault(unknown, given[unknown], f"is no field of ground truth; there are {', '.join(FIELDS)}")
        if not any(name in given for name in _SAYS):
            raise _Fault("actual", None, f"is missing; give what really happened, or one of {', '.join(_SAYS[1:])}")
        if "feedback" in given and "outcome" in given:
            raise _Fault("feedback", given["feedback"], "stands beside outcome, and both are kept as the outcome; leave one out")
        return Truth(
            model=self._model,
            request_id=_request_id(given.get("request_id")),
            row=self._row(given.get("row", 0)),
            time=self._time(given["time"], now) if "time" in given else now,
            actual=self._actual(given["actual"]) if "actual" in given else None,
            outcome=self._outcome(given),
            comment=_comment(given["comment"]) if "comment" in given else None,
        )

    def _row(self, value: Any) -> int:
        number = self._number(value)
        if number is None or not (0 <= number <= _LARGEST_ROW and number == int(number)):
            raise _Fault("row", value, _ROW_RULE)
        return int(number)

    def _label(self, value: Any) -> Value:
        label = label_of(value, self._labels) if isinstance(value, str | bool | int | float) else None
        if label is None and self._is_text:
            meant = {"true": True, "false": False}.get(str(value).lower(), self._number(value))
            label = None if meant is None else label_of(meant, self._labels)
        if label is None:
            raise _Fault("actual", value, _label_rule(self._labels))
        return label

    def _real(self, value: Any) -> Value:
        number = self._number(value)
        if number is None:
            raise _Fault("actual", value, "must be a finite number, as the model predicts")
        return number

    def _outcome(self, given: Mapping[str, Any]) -> float | None:
        if "feedback" in given:
            return _thumb(given["feedback"])
        if "outcome" not in given:
            return None
        value = given["outcome"]
        number = float(value) if isinstance(value, bool) else self._number(value)
        if number is None:
            raise _Fault("outcome", value, _OUTCOME_RULE)
        return number

    def _time(self, value: Any, now: float) -> float:
        found = self._number(value)
        if found is None and isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise _Fault("time", value, _TIME_RULE) from None
        if isinstance(value, datetime):
            found = (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp()
        if found is None or not _EARLIEST <= found <= now + _AHEAD_S:
            raise _Fault("time", value, _TIME_RULE)
        return found

    def _number(self, value: Any) -> float | None:
        """A finite number, or None."""
        if isinstance(value, bool) or not isinstance(value, (int, float, str) if self._is_text else (int, float)):
            return None
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None


def _no_actual(value: Any) -> Value:
    raise _Fault("actual", value, "cannot be compared with a tensor model's outputs; leave it out and report an outcome")


def _thumb(value: Any) -> float:
    number = _FEEDBACK.get(value) if isinstance(value, str) else None
    if number is None:
        raise _Fault("feedback", value, _FEEDBACK_RULE)
    return number


def _comment(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_COMMENT:
        raise _Fault("comment", value, _COMMENT_RULE)
    return value


def _label_rule(labels: Sequence[str]) -> str:
    more = len(labels) - _SHOWN_LABELS
    return f"must be one of the model's labels: {', '.join(labels[:_SHOWN_LABELS])}{f' and {more} more' if more > 0 else ''}"


def _request_id(value: Any) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not fits_header(text):
        raise _Fault("request_id", value, _ID_RULE)
    return text
