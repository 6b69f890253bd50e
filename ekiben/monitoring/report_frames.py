"""Rows of the log as data frames: what was asked and answered, and what was answered beside what was true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ekiben.model.spec import ModelSpec
from ekiben.monitoring.answers import Classes, answers_of
from ekiben.monitoring.log_columns import LogColumn, is_list, is_text, log_columns, numbers

if TYPE_CHECKING:
    import pandas as pd

MOST_CATEGORIES: Final = 50
"""The most frequent ones stay, all others are one: a chart of a thousand bars shows nothing."""

OTHER: Final = "(other)"
PREDICTION: Final = "prediction"
ACTUAL: Final = "actual"
SCORE: Final = "score"

_TWO: Final = 2


@dataclass(frozen=True)
class Frames:
    """Rows of a window, and of a reference, with the same columns.

    Attributes:
        current: The window's.
        reference: What they are compared with; None where there is nothing.
        numerical: Columns of numbers, float64, NaN where a value is missing.
        categorical: Columns of text, None where a value is missing.
        left_out: Column → why it is not there.
    """

    current: pd.DataFrame
    reference: pd.DataFrame | None
    numerical: list[str]
    categorical: list[str]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class Answers:
    """Answers whose truth is known; columns ``prediction`` and ``actual``, and a classifier's probabilities.

    Attributes:
        current: The window's.
        reference: Those that they are compared with; None where there are too few.
        probabilities: The column of the positive class's probability of two classes, one a label of more; empty where there are none.
    """

    current: pd.DataFrame
    reference: pd.DataFrame | None
    probabilities: list[str]


def data_frames(current: pa.Table, reference: pa.Table | None, spec: ModelSpec) -> Frames:
    """What was asked and answered.

    Args:
        current: Rows of the log, as `ekiben.monitoring.log_schema` describes them; one at least.
        reference: Those that they are compared with.
        spec: The version's.
    """
    tables = [current] if reference is None else [current, reference]
    found = [{_name(column, spec): column for column in log_columns(table, spec)} for table in tables]
    numerical: list[str] = []
    categorical: list[str] = []
    left_out: dict[str, str] = {}
    for name, column in found[0].items():
        # A column without any value says nothing, and has no distribution to draw.
        if any(name not in columns or pc.count(columns[name].values).as_py() == 0 for columns in found):
            left_out[name] = "it has no values"
        elif not is_text(column):
            numerical.append(name)
        elif is_list(column):
            left_out[name] = "it is a tensor of text"
        else:
            categorical.append(name)
    left_out |= {name: "the log does not hold it" for name in spec_inputs(spec) if name not in found[0]}
    values = [{name: numbers(columns[name]) for name in numerical} for columns in found]
    for name in categorical:
        for frame, texts in zip(values, _texts([columns[name] for columns in found]), strict=True):
            frame[name] = texts
    frames = [_frame(columns) for columns in values]
    return Frames(frames[0], frames[1] if reference is not None else None, numerical, categorical, left_out)


def answer_frames(current: pa.Table, reference: pa.Table | None, spec: ModelSpec) -> Answers | str:
    """What was answered beside what was true, or why that cannot be shown: a sentence without its full stop.

    Args:
        current: Rows of the log joined with ground truth, see `ekiben.monitoring.ground_truth.Joined`.
        reference: Those that they are compared with.
        spec: The version's.
    """
    now = _answers(current, spec)
    if now is None:
        return "the model answers neither a class nor a number"
    if problem := _too_little(now, spec):
        return problem
    then = None if reference is None else _answers(reference, spec)
    if then is not None and _too_little(then, spec):
        then = None
    probabilities = [name for name in now.columns if name not in (PREDICTION, ACTUAL)]
    if not all(_are_measurable(frame, spec, probabilities) for frame in (now, then) if frame is not None):
        probabilities = []
    return Answers(now, then, probabilities)


def spec_inputs(spec: ModelSpec) -> Sequence[str]:
    """The inputs' names."""
    return [item.name for item in spec.inputs]


def _name(column: LogColumn, spec: ModelSpec) -> str:
    """What the column is called; of a tensor the mean of each row is shown, and an output may have an input's name."""
    name = column.name if column.kind == "input" or column.name not in spec_inputs(spec) else f"outputs.{column.name}"
    return f"mean of {name}" if is_list(column) and not is_text(column) else name


def _texts(columns: Sequence[LogColumn]) -> list[Any]:
    """The values as text, the rare ones of all columns together as one."""
    texts = [pc.cast(column.values, pa.string()) for column in columns]
    counted = pc.value_counts(pa.chunked_array([chunk for text in texts for chunk in text.chunks], pa.string()).drop_null())
    if len(counted) > MOST_CATEGORIES:
        # Equal counts are put in the order of the text, so that equal rows always give equal reports.
        ranked = pa.table({"text": counted.field("values"), "n": counted.field("counts")}).sort_by(
            [("n", "descending"), ("text", "ascending")]
        )
        kept = ranked["text"].slice(0, MOST_CATEGORIES).combine_chunks()
        texts = [pc.if_else(pc.or_(pc.is_null(t), pc.is_in(t, value_set=kept)), t, OTHER) for t in texts]
    return [np.array(text.to_pylist(), object) for text in texts]


def _answers(table: pa.Table, spec: ModelSpec) -> pd.DataFrame | None:
    answers, _ = answers_of(table, spec)
    if answers is None:
        return None
    if not isinstance(answers, Classes):
        return _frame({PREDICTION: answers.predicted, ACTUAL: answers.actual})
    labels = np.array(answers.labels, object)
    columns: dict[str, Any] = {PREDICTION: labels[answers.predicted], ACTUAL: labels[answers.actual]}
    if answers.probabilities is not None and answers.is_binary:
        columns[SCORE] = answers.probabilities[:, 1]
    elif answers.probabilities is not None:
        # The probabilities of several classes are found by the labels' own names.
        columns = {**dict(zip(answers.labels, answers.probabilities.T, strict=True)), **columns}
    return _frame(columns)


def _too_little(frame: pd.DataFrame, spec: ModelSpec) -> str:
    if len(frame) < spec.monitor.min_rows:
        return f"the truth of {len(frame):,} of the rows is known, and it takes {spec.monitor.min_rows:,} (monitor.min_rows)"
    if len(spec.labels) == _TWO and frame[ACTUAL].nunique() < _TWO:
        return f"all rows whose truth is known were {frame[ACTUAL].iloc[0]!r}"
    if len(spec.labels) > _TWO and len({*frame[ACTUAL], *frame[PREDICTION]}) <= _TWO:
        return f"of the {len(spec.labels)} classes no more than two occur in rows whose truth is known"
    return ""


def _are_measurable(frame: pd.DataFrame, spec: ModelSpec, probabilities: Sequence[str]) -> bool:
    """Whether probabilities can be judged: they are there, and of each class there is a row that was so."""
    expected = 1 if len(spec.labels) == _TWO else len(spec.labels)
    there = [name for name in probabilities if name in frame.columns]
    return len(there) == expected and frame[ACTUAL].nunique() == len(spec.labels)


def _frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415  a second that only a report pays

    return pd.DataFrame(dict(columns))
