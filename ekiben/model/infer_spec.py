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

from ekiben.errors import ArtifactError, EkibenError
from ekiben.model.estimator_facts import EstimatorFacts, estimator_facts
from ekiben.model.features import Transform
from ekiben.model.infer_inputs import columns_of, completed, graph_inputs, table_inputs
from ekiben.model.infer_outputs import Outcome, infer_outputs
from ekiben.model.outputs import Outputs
from ekiben.model.predictor import Predictor
from ekiben.model.probe import Seen, probe
from ekiben.model.runtimes import Runtime, TensorInfo
from ekiben.model.spec import BatchingSpec, CardSpec, DType, InputSpec, ModelSpec, OutputSpec, Task

Array = npt.NDArray[Any]

_OTHER_TYPES: Final = ("object", "sequence", "map")  # strings, and what becomes tensors when it is run


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
    odd = [info for info in runtime.outputs if not _is_served(info)]
    if odd:
        raise ArtifactError(
            f"{name}: the model's output {odd[0].name!r} is of the type {odd[0].dtype}; Ekiben serves {', '.join(get_args(DType))}: "
            f"convert it in the model, or write models/{name}/model.yaml with the outputs you need and without it"
        )
    failures: list[EkibenError] = []
    objections: list[EkibenError] = []  # to what a model gives, which say more than that it fails
    second_best: Inferred | None = None
    for candidate in _candidates(name, runtime, facts, rows):
        if candidate.max_rows and second_best is not None:  # it takes several, and they matter to each other
            continue
        try:
            seen = probe(Predictor(_raw_spec(name, runtime, candidate), runtime), rows)
        except EkibenError as e:
            failures.append(e)
            continue
        try:
            outcome = _judged(name, runtime, facts, seen, candidate, task=task, labels=labels)
        except EkibenError as e:
            objections.append(e)
            continue
        found = _conclude(name, candidate, seen, outcome, owner)
        if seen.dependence != "strong":
            return found
        second_best = second_best or found
    if second_best is not None and not _has_fixed_rows(runtime):
        return second_best
    if second_best is not None:
        raise ArtifactError(
            f"{name}: a row's outputs depend on the rows beside it, and the model takes {runtime.inputs[0].shape[0]} at a time; "
            "leave out --sample, --task and --labels, and it is served with all of them as one"
        )
    raise [*objections, *failures][0]


def bound_outputs(spec: ModelSpec, runtime: Runtime, rows: Sequence[Any] | None, transform: Transform | None = None) -> dict[str, str]:
    """Which output of the graph a spec that is there speaks of: output of the spec → output of the graph.

    Args:
        spec: The spec.
        runtime: The model.
        rows: A sample, or None.
        transform: The feature code.

    Raises:
        ArtifactError: The outputs cannot be those of the spec's task.
        InvalidRows, PredictionFailed: As `probe`.
    """
    if spec.task == "tensor":
        return {}
    raw = msgspec.structs.replace(spec, task="tensor", labels=(), outputs=_raw_outputs(runtime))
    seen = probe(Predictor(raw, runtime, transform=transform), rows)
    given = [_observed(spec.name, o.name, seen.runs, is_batched=spec.batching.enabled) for o in raw.outputs]
    if spec.task == "regression":
        return next(({"prediction": o.name} for o in given if o.dtype.startswith(("float", "int")) and o.shape in ((), (1,))), {})
    facts = estimator_facts(runtime)
    return infer_outputs(spec.name, facts, given, seen.runs[0], task=spec.task, labels=spec.labels, keys=runtime.keys).bound


def _judged(
    name: str, runtime: Runtime, facts: EstimatorFacts, seen: Seen, candidate: _Candidate, *, task: Task | None, labels: Sequence[str]
) -> Outcome:
    given = [_observed(name, info.name, seen.runs, is_batched=candidate.is_batched) for info in runtime.outputs]
    outcome = infer_outputs(name, facts, given, seen.runs[0], task=task, labels=labels, keys=runtime.keys)
    if not outcome.outputs:
        return outcome
    told = tuple(_as_declared(o, i, is_batched=candidate.is_batched) for o, i in zip(given, runtime.outputs, strict=True))
    return msgspec.structs.replace(outcome, outputs=told)


class _Candidate(msgspec.Struct, frozen=True):
    """One reading of the graph."""

    inputs: tuple[InputSpec, ...]
    is_batched: bool
    max_rows: int | None = None


def _candidates(name: str, runtime: Runtime, facts: EstimatorFacts, rows: Sequence[Any] | None) -> list[_Candidate]:
    """The readings to try, in this order: the first dimension counts rows; it does not; it does, and is always 1."""
    if not runtime.inputs:
        return [_Candidate(_untyped_inputs(name, runtime, facts, rows), is_batched=True)]
    readings = [(True, None), (False, None), (True, 1)] if _may_be_batched(runtime, rows) else [(False, None)]
    candidates, failure = [], None
    for is_batched, max_rows in readings:
        try:
            candidates.append(_Candidate(graph_inputs(name, runtime.inputs, rows, is_batched=is_batched), is_batched, max_rows))
        except ArtifactError as e:
            failure = failure or e
    if failure and not candidates:
        raise failure
    return candidates


def _may_be_batched(runtime: Runtime, rows: Sequence[Any] | None) -> bool:
    """Whether the first dimension may count rows: it varies in all inputs, or is the same number in all inputs and outputs."""
    first = {info.shape[0] if info.shape else 0 for info in completed(runtime.inputs, rows or [], is_batched=True)}
    if first == {None}:
        return True
    # An output without dimensions may be one that declares none.
    outputs = {info.shape[0] for info in runtime.outputs if info.shape}
    return len(first) == 1 and 0 not in first and outputs <= first


def _has_fixed_rows(runtime: Runtime) -> bool:
    return any(info.shape and (info.shape[0] or 1) > 1 for info in runtime.inputs)


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


def _raw_spec(name: str, runtime: Runtime, candidate: _Candidate) -> ModelSpec:
    """A spec that gives all the model's outputs as they are."""
    return ModelSpec(
        name=name,
        task="tensor",
        inputs=candidate.inputs,
        outputs=_raw_outputs(runtime),
        batching=_batching(candidate),
        card=CardSpec(owner=""),
    )


def _raw_outputs(runtime: Runtime) -> tuple[OutputSpec, ...]:
    return tuple(OutputSpec(name=info.name, dtype="float32") for info in runtime.outputs if _is_served(info))


def _is_served(info: TensorInfo) -> bool:
    return info.dtype in get_args(DType) or info.dtype in _OTHER_TYPES


def _batching(candidate: _Candidate) -> BatchingSpec:
    return BatchingSpec(enabled=candidate.is_batched, max_batch_size=candidate.max_rows or BatchingSpec().max_batch_size)


def _conclude(name: str, candidate: _Candidate, seen: Seen, outcome: Outcome, owner: str) -> Inferred:
    notes = list(outcome.notes)
    spec = ModelSpec(
        name=name,
        task=outcome.task,
        inputs=candidate.inputs,
        outputs=outcome.outputs,
        labels=outcome.labels,
        batching=_batching(candidate),
        card=CardSpec(owner=owner),
    )
    if not candidate.is_batched:
        notes.append(
            "no dimension counts rows that are independent of each other: each is run alone, its tensors whole (batching.enabled: false)"
        )
    elif seen.dependence != "none":
        spec = msgspec.structs.replace(spec, batching=BatchingSpec(max_batch_size=1))
        notes.append("a row's outputs depend on the rows beside it: rows are run one at a time (batching.max_batch_size: 1)")
    elif candidate.max_rows:
        notes.append("the model takes one row at a time (batching.max_batch_size: 1)")
    if any(item.type == "string" for item in candidate.inputs):
        notes.append("strings are not restricted to those seen; list `categories` in model.yaml to refuse others")
    return Inferred(spec=spec, outputs=outcome.bound, rows=seen.rows, notes=tuple(notes))


def _observed(name: str, output: str, runs: Sequence[Outputs], *, is_batched: bool) -> OutputSpec:
    """An output as it came out; a dimension is -1 where it varied."""
    arrays = [array for run in runs for array in _row_arrays(run.arrays[output], is_batched=is_batched)]
    if any(array.dtype.kind == "O" and array.ndim and isinstance(array.flat[0], np.ndarray) for array in arrays if array.size):
        raise ArtifactError(
            f"{name}: the model's output {output!r} is a sequence of tensors of different shapes, which no one tensor holds; pad them in "
            f"the model, or write models/{name}/model.yaml with the outputs you need and without it"
        )
    shapes = {array.shape for array in arrays}
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1:
        raise ArtifactError(f"{name}: the model's output {output!r} has now {min(ranks)}, now {max(ranks)} dimensions")
    found = [next(iter(sizes)) if len(sizes := set(column)) == 1 else -1 for column in zip(*shapes, strict=True)]
    dtypes = {array.dtype for array in arrays}
    dtype = "string" if {d.kind for d in dtypes} <= set("OUS") else np.result_type(*dtypes).name
    if dtype not in get_args(DType):
        raise ArtifactError(f"{name}: the model's output {output!r} is of type {dtype}; Ekiben serves {', '.join(get_args(DType))}")
    return OutputSpec(name=output, dtype=dtype, shape=tuple(found))  # type: ignore[arg-type]


def _as_declared(observed: OutputSpec, info: TensorInfo, *, is_batched: bool) -> OutputSpec:
    """The output with -1 also where a dimension is declared to vary, or is not declared."""
    if info.dtype in ("sequence", "map"):
        return observed
    declared = info.shape[1:] if is_batched else info.shape
    shape = observed.shape
    if not info.shape and shape:  # not declared at all
        shape = (-1,) * len(shape)
    elif len(declared) == len(shape):
        shape = tuple(-1 if d is None else size for d, size in zip(declared, shape, strict=True))
    return msgspec.structs.replace(observed, shape=shape)


def _row_arrays(array: Array, *, is_batched: bool) -> list[Array]:
    """One array a row, of an array of all rows or of one that holds an array a row because their shapes differ."""
    is_ragged = array.dtype.kind == "O" and array.ndim == 1 and len(array) > 0 and isinstance(array[0], np.ndarray)
    if is_ragged and is_batched:
        raise ArtifactError("the rows' outputs differ in shape")
    return list(array) if is_ragged else [np.asarray(row, array.dtype) for row in array]
