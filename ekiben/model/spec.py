"""``models/<name>/model.yaml``: what a model takes and gives, how it is served, and who answers for it.

A spec is checked whole when it is read. Whatever is wrong is a `SpecError` that names the file, the field and what
would be right. ``ekiben models schema`` prints the JSON Schema of the file for editors.
"""

from __future__ import annotations

import re
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import msgspec

from ekiben.errors import SpecError
from ekiben.model.default_checks import default_contradictions
from ekiben.model.guard_checks import breaker_contradictions, cache_contradictions, limits_contradictions
from ekiben.model.guard_spec import BreakerSpec, CacheSpec, LimitsSpec
from ekiben.model.monitor_checks import log_contradictions, monitor_contradictions
from ekiben.model.monitor_spec import LogSpec, MonitorSpec
from ekiben.model.plan_reading import right_in_plan, with_short_forms, with_steps_spelt_out
from ekiben.model.rollout_checks import plan_contradictions, quality_contradictions, routing_contradictions
from ekiben.model.rollout_spec import PlanSpec, QualitySpec, RoutingSpec

Task = Literal["binary_classification", "multiclass_classification", "regression", "tensor"]
ScalarType = Literal["bool", "int", "float", "string"]
DType = Literal["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "string"]

NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,62}$"
_MAX_LENGTH = 65_536
RESERVED_NAMES = frozenset({
    "v1", "v2", "metrics", "docs", "livez", "readyz", "healthz", "health", "ping", "version", "invocations", "score", "schema", "stats",
    "static_content",
})  # fmt: skip


class InputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One named input.

    A scalar input (bool, int, float, string) holds one value a row. A tensor input holds an array of ``shape`` a row;
    -1 stands for a dimension that varies from request to request.

    What happens to unusual values, the same in every way of running:

    * **null, or a field left out**: refused, unless ``nullable``. Then a float, int or bool becomes NaN (int and bool
      columns are carried as float64 for it) and a string the empty string.
    * **NaN**: treated as null. **Infinities**, and numbers too large for ``dtype``: always refused.
    * **a category not listed** in ``categories``: refused, unless ``unknown: allow``; then the value reaches the model.
    * **wrong types**: refused. An integer is a valid float, and 3.0 a valid int; true is no number, "3" is not 3.
    * **fields the signature does not have**: refused, so that a misspelt name never passes for a missing value.
    * **strings of more than** ``max_length`` **characters**: refused, those in a tensor too.
    """

    name: str
    type: Literal["bool", "int", "float", "string", "tensor"]
    dtype: DType | None = None
    shape: tuple[int, ...] | None = None
    min: float | None = None
    max: float | None = None
    categories: tuple[str, ...] | None = None
    unknown: Literal["reject", "allow"] = "reject"
    max_length: int = _MAX_LENGTH
    nullable: bool = False
    description: str = ""
    unit: str = ""

    @property
    def array_dtype(self) -> str:
        """The numpy dtype of this input's column (``object`` for strings)."""
        if self.type == "tensor":
            return "object" if self.dtype == "string" else str(self.dtype)
        if self.type == "string":
            return "object"
        if self.nullable and self.type != "float":
            return "float64"
        return self.dtype or {"bool": "bool", "int": "int64", "float": "float32"}[self.type]


class OutputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One named output of a tensor model; ``shape`` is that of one row."""

    name: str
    dtype: DType
    shape: tuple[int, ...] = ()
    description: str = ""


class BatchingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """How requests are gathered.

    Attributes:
        enabled: False where the model has no batch dimension: each row is run alone.
        max_batch_size: Rows in one run, at most.
        max_queue_delay_ms: How long a batch may wait for more rows while the model is idle. 0: never.
        max_queue_rows: Rows that may wait, at most; beyond it requests are refused with 503.
    """

    enabled: bool = True
    max_batch_size: int = 128
    max_queue_delay_ms: float = 0.0
    max_queue_rows: int = 20_000


class CardSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What people must know before they put the model in front of users."""

    owner: str
    why_this_model: str = ""
    expected_performance: str = ""
    known_limitations: str = ""
    rollback_procedure: str = ""


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A model: its name, task, inputs and outputs, batching, latency and card.

    Attributes:
        labels: Class labels in the order of the model's probabilities; of a binary classifier the second is the positive.
        outputs: For tensor models only; the other tasks' outputs follow from the task.
        latency_budget_ms: What users are promised at p99; alerts and capacity plans use it.
        timeout_ms: Deadline of a request that brings none of its own.
        routing: What keeps a user on one version while two answer.
        quality: What good answers are, once ground truth is known; None takes F1, accuracy or MAE, by task.
        rollout: How a new version reaches users; None takes the default plan.
        log: What of each answered row is kept.
        monitor: How the model is watched.
        limits: How much may be asked.
        breaker: When a version counts as broken, and what is answered meanwhile.
        cache: Which answers are remembered.
    """

    name: str
    task: Task
    inputs: tuple[InputSpec, ...]
    card: CardSpec
    outputs: tuple[OutputSpec, ...] = ()
    labels: tuple[str, ...] = ()
    description: str = ""
    batching: BatchingSpec = BatchingSpec()
    latency_budget_ms: float = 50.0
    timeout_ms: float = 1000.0
    routing: RoutingSpec = RoutingSpec()
    quality: QualitySpec | None = None
    rollout: PlanSpec | None = None
    log: LogSpec = LogSpec()
    monitor: MonitorSpec = MonitorSpec()
    limits: LimitsSpec = LimitsSpec()
    breaker: BreakerSpec = BreakerSpec()
    cache: CacheSpec = CacheSpec()

    @property
    def is_classifier(self) -> bool:
        """True when the model answers with one of its labels."""
        return self.task in ("binary_classification", "multiclass_classification")


def is_field_name(name: str) -> bool:
    """Whether an input may be called so: what needs no escape in JSON, which the decoder of rows wants of names."""
    return bool(name) and not re.search(r'["\\\x00-\x1f]', name)


def load_spec(path: Path) -> ModelSpec:
    """Reads and checks a ``model.yaml``.

    Raises:
        SpecError: The file is missing, is not YAML, or a field is wrong.
    """
    import yaml  # noqa: PLC0415  a device that holds an artifact needs no YAML

    shown = f"{path.parent.name}/{path.name}"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(shown, "(file)", "there is no such file", "every folder in models/ needs a model.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise SpecError(shown, "(file)", f"not readable as YAML: {e}", "see docs/10-models.md for an example") from e
    spec = spec_from_builtins(raw, file=shown)
    if spec.name != path.parent.name:
        raise SpecError(shown, "name", f"is {spec.name!r}", f"the folder is {path.parent.name!r}; both must be the same")
    return spec


def spec_from_builtins(raw: Any, *, file: str) -> ModelSpec:
    """Makes a spec of dicts and lists, as YAML or JSON give them.

    Raises:
        SpecError: A field is missing, unknown, of the wrong type, or contradicts another.
    """
    if isinstance(raw, dict) and "rollout" in raw:
        raw = {**raw, "rollout": with_steps_spelt_out(raw["rollout"])}
    try:
        spec = msgspec.convert(raw, ModelSpec, strict=True)
    except msgspec.ValidationError as e:
        problem, _, where = str(e).partition(" - at `$")
        where = where.rstrip("`").lstrip(".")
        of_plan = re.match(r"rollout(?:\.|$)(.*)", where)
        right = right_in_plan(problem, of_plan[1]) if of_plan else _right(problem)
        raise SpecError(file, where or "(top)", problem, right) from None
    for field, problem, right in _contradictions(spec):
        raise SpecError(file, field, problem, right)
    return spec


def dump_spec(spec: ModelSpec) -> str:
    """The spec as YAML text, fields in their order, defaults left out."""
    import yaml  # noqa: PLC0415  as in load_spec

    builtins = msgspec.to_builtins(spec)
    return yaml.safe_dump(builtins, sort_keys=False, allow_unicode=True, width=120)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of ``model.yaml``."""
    return with_short_forms(msgspec.json.schema(ModelSpec))


def _right(problem: str) -> str:
    if "unknown field" in problem:
        return f"a model has the fields {', '.join(ModelSpec.__struct_fields__)}; see `ekiben models schema`"
    if "missing required field" in problem:
        return "add it; see `ekiben models schema`"
    return "see `ekiben models schema` for what is allowed here"


def _contradictions(spec: ModelSpec) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    if not re.match(NAME_PATTERN, spec.name):
        found.append(
            ("name", f"{spec.name!r} is not a valid name", "lower-case letters, digits, _ and -, beginning with a letter, 63 at most")
        )
    if spec.name in RESERVED_NAMES:
        found.append(("name", f"{spec.name!r} is a path the server uses itself", "choose another name"))
    if not spec.inputs:
        found.append(("inputs", "is empty", "a model has at least one input"))
    names = [i.name for i in spec.inputs]
    for n, item in enumerate(spec.inputs):
        if names.index(item.name) != n:
            found.append((f"inputs[{n}].name", f"{item.name!r} occurs twice", "give every input its own name"))
        if not is_field_name(item.name):
            right = "a name without quotation marks, backslashes and control characters"
            found.append((f"inputs[{n}].name", f"{item.name!r} cannot be the name of a field", right))
        found += [(f"inputs[{n}].{field}", problem, right) for field, problem, right in _input_contradictions(item)]
    found += _task_contradictions(spec)
    found += _rollout_contradictions(spec)
    types = {i.name: i.type for i in spec.inputs}
    found += [*log_contradictions(spec.log, types), *monitor_contradictions(spec.monitor, types)]
    found += [*limits_contradictions(spec.limits), *breaker_contradictions(spec.breaker), *cache_contradictions(spec.cache)]
    found += default_contradictions(spec.breaker, spec.task, spec.labels, spec.outputs)
    limits = (
        ("batching.max_batch_size", spec.batching.max_batch_size >= 1, "1 or more"),
        ("batching.max_queue_rows", spec.batching.max_queue_rows >= 1, "1 or more"),
        ("batching.max_queue_delay_ms", spec.batching.max_queue_delay_ms >= 0, "0 or more"),
        ("latency_budget_ms", spec.latency_budget_ms > 0, "more than 0"),
        ("timeout_ms", spec.timeout_ms > 0, "more than 0"),
    )
    found += [(field, "is out of range", f"must be {right}") for field, ok, right in limits if not ok]
    return found


def _rollout_contradictions(spec: ModelSpec) -> list[tuple[str, str, str]]:
    found = routing_contradictions(spec.routing, {i.name: i.type for i in spec.inputs})
    if spec.quality is not None:
        found += quality_contradictions(spec.quality, spec.task)
    if spec.rollout is not None:
        metric = spec.quality.metric if spec.quality is not None else ""
        found += [(f"rollout.{field}", problem, right) for field, problem, right in plan_contradictions(spec.rollout, spec.task, metric)]
    return found


def _input_contradictions(item: InputSpec) -> list[tuple[str, str, str]]:
    found = _tensor_contradictions(item) if item.type == "tensor" else _scalar_contradictions(item)
    is_number = item.type in ("int", "float") or (item.type == "tensor" and item.dtype not in ("bool", "string"))
    for field, bound in (("min", item.min), ("max", item.max)):
        if bound is not None and not is_number:
            found.append((field, "only numbers have min and max", "leave it out"))
        elif bound is not None and not isfinite(bound):
            found.append((field, f"{bound} is no bound", "a finite number, or leave it out"))
    if item.min is not None and item.max is not None and item.min > item.max:
        found.append(("min", f"{item.min} is above max {item.max}", "min must not exceed max"))
    is_text = item.type == "string" or item.dtype == "string"
    if item.max_length < 1:
        found.append(("max_length", f"{item.max_length} leaves no string", "1 or more, or leave it out"))
    elif item.max_length != _MAX_LENGTH and not is_text:
        found.append(("max_length", "only strings have a length", "leave it out"))
    if item.categories is not None and item.type != "string":
        found.append(("categories", "only strings have categories", "leave them out"))
    if item.categories is not None and len(set(item.categories)) != len(item.categories):
        found.append(("categories", "a category occurs twice", "list each once"))
    return found


def _tensor_contradictions(item: InputSpec) -> list[tuple[str, str, str]]:
    found = []
    if item.dtype is None or item.shape is None:
        found.append(("dtype", "a tensor needs dtype and shape", "for example dtype: float32, shape: [8, 8]"))
    if item.shape is not None and any(d == 0 or d < -1 for d in item.shape):
        found.append(("shape", f"{list(item.shape)} has an impossible dimension", "positive numbers, or -1 where it varies"))
    if item.nullable and not str(item.dtype).startswith("float"):
        found.append(("nullable", f"a tensor of {item.dtype} has no value for null", "leave it out, or use a float dtype"))
    return found


def _scalar_contradictions(item: InputSpec) -> list[tuple[str, str, str]]:
    found = []
    allowed = {"float": {None, "float32", "float64"}, "int": {None, "int32", "int64"}}.get(item.type, {None})
    if item.dtype not in allowed:
        right = "leave it out, or float32/float64 for float, int32/int64 for int"
        found.append(("dtype", f"{item.dtype} does not go with type {item.type}", right))
    if item.shape is not None:
        found.append(("shape", f"a {item.type} holds one value", "leave it out, or use type: tensor"))
    return found


def _task_contradictions(spec: ModelSpec) -> list[tuple[str, str, str]]:
    found = []
    if spec.task == "binary_classification" and len(spec.labels) != 2:  # noqa: PLR2004  binary
        found.append(("labels", f"has {len(spec.labels)} labels", "a binary classifier has two, the second is the positive one"))
    if spec.task == "multiclass_classification" and len(spec.labels) < 2:  # noqa: PLR2004  at least two classes
        found.append(("labels", f"has {len(spec.labels)} labels", "a classifier has two or more, in the order of its probabilities"))
    if len(set(spec.labels)) != len(spec.labels):
        found.append(("labels", "a label occurs twice", "labels must differ"))
    if not spec.is_classifier and spec.labels:
        found.append(("labels", f"a {spec.task} model has none", "leave it out"))
    if spec.task == "tensor" and not spec.outputs:
        found.append(("outputs", "is empty", "a tensor model names its outputs with dtype and shape"))
    if spec.task != "tensor" and spec.outputs:
        found.append(("outputs", f"follow from the task {spec.task}", "leave it out"))
    return found
