"""A spec for a model that came with none: from its graph, from a sample of its inputs, and from running it.

What a graph declares is only where this begins. The model is run on the sample, or on made-up rows, and what comes out
decides: whether the first dimension counts rows, whether a row's outputs depend on the rows beside it, which dimensions
the outputs really have, and what is in a sequence or a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.errors import ArtifactError, EkibenError, InvalidRows
from ekiben.model.estimator_facts import EstimatorFacts, estimator_facts
from ekiben.model.infer_inputs import columns_of, graph_inputs, table_inputs
from ekiben.model.infer_outputs import Outcome, infer_outputs
from ekiben.model.outputs import Outputs
from ekiben.model.predictor import Predictor
from ekiben.model.runtimes import Runtime, TensorInfo
from ekiben.model.signature import Signature
from ekiben.model.spec import BatchingSpec, CardSpec, DType, InputSpec, ModelSpec, OutputSpec, Task
from ekiben.model.synthetic import synthetic_rows

Array = npt.NDArray[Any]

PROBE_ROWS: Final = 32
_ALONE: Final = 4  # rows that are also run without the others
_FREE_DIMS: Final = (3, 8, 32, 64, 224)
_INTEGERS_BELOW: Final = (10, 2, 1)


class Inferred(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about a model.

    Attributes:
        spec: A complete spec.
        outputs: Output of the spec → output of the graph, where the names do not say it.
        rows: Rows that the model was run on: the sample's first, or made-up ones.
        notes: What a person should know or look at.
    """

    spec: ModelSpec
    outputs: dict[str, str]
    rows: list[Any]
    notes: tuple[str, ...]


def infer_spec(
    name: str,
    runtime: Runtime,
    *,
    rows: Sequence[Any] | None = None,
    task: Task | None = None,
    labels: Sequence[str] = (),
    owner: str = "",
) -> Inferred:
    """Finds out what a model takes and gives.

    Args:
        name: The model's name.
        runtime: The model.
        rows: A sample of what clients will send: dicts or lists; None makes rows up.
        task: The task, where it is known.
        labels: The classes in the order of the probabilities, where they are known.
        owner: For the card.

    Raises:
        ArtifactError: The model cannot be served, or the sample does not fit it.
        InvalidRows: The sample has a row that the model's types refuse.
        PredictionFailed: The model fails on the rows.
    """
    facts = estimator_facts(runtime)
    failures: list[EkibenError] = []
    for candidate in _candidates(name, runtime, facts, rows):
        try:
            seen = probe(Predictor(_raw_spec(name, runtime, candidate), runtime), rows)
        except EkibenError as e:
            failures.append(e)
            continue
        given = [_observed(name, info, seen.runs, is_batched=candidate.is_batched) for info in runtime.outputs]
        outcome = infer_outputs(name, facts, given, seen.runs[0], task=task, labels=labels)
        return _conclude(name, candidate, seen, outcome, owner)
    raise failures[0]


class Seen(msgspec.Struct, frozen=True):
    """What a model gave for some rows.

    Attributes:
        rows: The rows: the first of the sample, or made-up ones.
        runs: The outputs of several runs; together they show what varies.
        are_independent: False when a row run alone gave other outputs than beside others.
    """

    rows: list[Any]
    runs: list[Outputs]
    are_independent: bool


class _Candidate(msgspec.Struct, frozen=True):
    """One reading of the graph."""

    inputs: tuple[InputSpec, ...]
    is_batched: bool


def _candidates(name: str, runtime: Runtime, facts: EstimatorFacts, rows: Sequence[Any] | None) -> list[_Candidate]:
    if not runtime.inputs:
        return [_Candidate(_untyped_inputs(name, runtime, facts, rows), is_batched=True)]
    readings = [True, False] if _may_be_batched(runtime) else [False]
    candidates, failure = [], None
    for is_batched in readings:
        try:
            candidates.append(_Candidate(graph_inputs(name, runtime.inputs, rows, is_batched=is_batched), is_batched))
        except ArtifactError as e:
            failure = failure or e
    if failure and not candidates:
        raise failure
    return candidates


def _may_be_batched(runtime: Runtime) -> bool:
    """Whether the first dimension may count rows: it varies in all inputs, or is the same number in all inputs and outputs."""
    first = {info.shape[0] if info.shape else 0 for info in runtime.inputs}
    if first == {None}:
        return True
    outputs = {info.shape[0] if info.shape else 0 for info in runtime.outputs}
    return len(first) == 1 and 0 not in first and outputs == first


def _untyped_inputs(name: str, runtime: Runtime, facts: EstimatorFacts, rows: Sequence[Any] | None) -> tuple[InputSpec, ...]:
    """The inputs of a model that takes a table or one matrix, and says at most the columns or how many."""
    if rows and (facts.columns or columns_of(rows)):
        found = table_inputs(name, facts.columns, rows)
        width = found[0].shape[0] if len(found) == 1 and found[0].shape else len(found)
        if facts.width not in (None, width):
            raise ArtifactError(f"{name}: the sample has {width} columns; the model takes {facts.width}")
        return found if runtime.wants_frame else tuple(map(_as_float, found))
    if facts.columns:
        return tuple(InputSpec(name=column, type="float", dtype="float64") for column in facts.columns)
    if facts.width is None:
        raise ArtifactError(f"{name}: the model does not say how many values it takes; give a sample of its inputs (--sample)")
    return (InputSpec(name="x", type="tensor", dtype="float64", shape=(facts.width,)),)


def _as_float(item: InputSpec) -> InputSpec:
    """A column of a matrix of numbers: a whole number seen in the sample may be followed by others."""
    return InputSpec(name=item.name, type="float", dtype="float64", nullable=item.nullable) if item.type == "int" else item


def probe(predictor: Predictor, rows: Sequence[Any] | None) -> Seen:
    """Runs a model on the sample or, where there is none, on the first made-up rows that it can take.

    Raises:
        InvalidRows: The sample has a row that the signature refuses.
        PredictionFailed: The model fails on the sample.
        ArtifactError: The model fails on all made-up rows.
    """
    signature = predictor.signature
    if rows is not None:
        return _run(predictor, same_shapes(signature, rows[:PROBE_ROWS]))
    failure: EkibenError | None = None
    found: Seen | None = None
    for free_dim in _FREE_DIMS[:1] if signature.fixed_shapes else _FREE_DIMS:
        for below in _INTEGERS_BELOW:
            try:
                seen = _run(predictor, synthetic_rows(signature.inputs, PROBE_ROWS, free_dim=free_dim, below=below))
            except EkibenError as e:
                failure = failure or e
                continue
            if found is not None:  # a second size shows which dimensions of the outputs follow it
                return Seen(found.rows, found.runs + seen.runs, found.are_independent and seen.are_independent)
            found = seen
            break
    if found is None:
        raise ArtifactError(
            f"{predictor.spec.name}: the model fails on made-up rows; give a sample of real ones (--sample): {failure}"
        ) from failure
    return found


def _run(predictor: Predictor, rows: list[Any]) -> Seen:
    signature = predictor.signature
    batch = signature.batch(signature.parse_rows(rows))
    faults = signature.check(batch)
    if faults:
        raise InvalidRows(faults)
    together = predictor.run(batch)
    alone = [predictor.run(batch.take(slice(n, n + 1))) for n in range(min(batch.n, _ALONE))]
    agree = all(_agree(run, together.take(n, n + 1)) for n, run in enumerate(alone))
    return Seen(rows, [together, *alone], agree)


def _agree(one: Outputs, other: Outputs) -> bool:
    for name, a in one.arrays.items():
        b = other.arrays[name]
        if a.dtype.kind == "f" and b.dtype.kind == "f":
            if a.shape != b.shape or not np.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True):
                return False
        elif a.shape != b.shape or a.tolist() != b.tolist():
            return False
    return True


def _raw_spec(name: str, runtime: Runtime, candidate: _Candidate) -> ModelSpec:
    """A spec that gives all the model's outputs as they are."""
    return ModelSpec(
        name=name,
        task="tensor",
        inputs=candidate.inputs,
        outputs=tuple(OutputSpec(name=info.name, dtype="float32") for info in runtime.outputs),
        batching=BatchingSpec(enabled=candidate.is_batched),
        card=CardSpec(owner=""),
    )


def _conclude(name: str, candidate: _Candidate, seen: Seen, outcome: Outcome, owner: str) -> Inferred:
    notes = list(outcome.notes)
    spec = ModelSpec(
        name=name,
        task=outcome.task,
        inputs=candidate.inputs,
        outputs=outcome.outputs,
        labels=outcome.labels,
        card=CardSpec(owner=owner),
    )
    if not candidate.is_batched:
        spec = msgspec.structs.replace(spec, batching=BatchingSpec(enabled=False))
        notes.append("the model has no dimension that counts rows: each row is run alone (batching.enabled: false)")
    elif not seen.are_independent:
        spec = msgspec.structs.replace(spec, batching=BatchingSpec(max_batch_size=1))
        notes.append("a row's outputs depend on the rows beside it: rows are run one at a time (batching.max_batch_size: 1)")
    if any(item.type == "string" for item in candidate.inputs):
        notes.append("strings are not restricted to those seen; list `categories` in model.yaml to refuse others")
    return Inferred(spec=spec, outputs=outcome.bound, rows=seen.rows, notes=tuple(notes))


def _observed(name: str, info: TensorInfo, runs: Sequence[Outputs], *, is_batched: bool) -> OutputSpec:
    """An output as it came out; a dimension is -1 where it is declared to vary, is not declared, or did vary."""
    arrays = [array for run in runs for array in _row_arrays(run.arrays[info.name])]
    shapes = {array.shape for array in arrays}
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1:
        raise ArtifactError(f"{name}: the model's output {info.name!r} has now {min(ranks)}, now {max(ranks)} dimensions")
    found = [next(iter(sizes)) if len(sizes := set(column)) == 1 else -1 for column in zip(*shapes, strict=True)]
    if info.dtype not in ("sequence", "map"):
        declared = info.shape[1:] if is_batched else info.shape
        if not info.shape and found:  # not declared at all
            found = [-1] * len(found)
        elif len(declared) == len(found):
            found = [-1 if d is None else size for d, size in zip(declared, found, strict=True)]
    dtypes = {array.dtype for array in arrays}
    dtype = "string" if {d.kind for d in dtypes} <= set("OUS") else np.result_type(*dtypes).name
    if dtype not in get_args(DType):
        raise ArtifactError(f"{name}: the model's output {info.name!r} is of type {dtype}; Ekiben serves {', '.join(get_args(DType))}")
    return OutputSpec(name=info.name, dtype=dtype, shape=tuple(found))  # type: ignore[arg-type]


def _row_arrays(array: Array) -> list[Array]:
    """One array a row, of an array of all rows or of one that holds an array a row because their shapes differ."""
    is_ragged = array.dtype.kind == "O" and array.ndim == 1 and len(array) > 0 and isinstance(array[0], np.ndarray)
    return list(array) if is_ragged else [np.asarray(row, array.dtype) for row in array]


def same_shapes(signature: Signature, rows: Sequence[Any]) -> list[Any]:
    """The rows whose tensors have the shapes of the first row's: rows that fit one request."""
    if signature.fixed_shapes:
        return list(rows)
    keys = [signature.shapes(signature.parse_rows([row])) for row in rows]
    return [row for row, key in zip(rows, keys, strict=True) if key == keys[0]]
