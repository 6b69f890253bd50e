"""Whether a version may answer in place of another: clients must not notice which of them it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ekiben.errors import RolloutRefused
from ekiben.model.spec import InputSpec, ModelSpec, OutputSpec

_Items = Sequence[InputSpec | OutputSpec]


def check_fit(champion: ModelSpec, version: str, spec: ModelSpec, other: str) -> None:
    """Refuses a version that takes or gives something else than the champion.

    Args:
        champion: What the champion takes and gives.
        version: The champion's version.
        spec: What the other one takes and gives.
        other: Its version.

    Raises:
        RolloutRefused: With the first difference, and what would be right.
    """
    difference = next(_differences(champion, spec), None)
    if difference is not None:
        raise RolloutRefused(
            f"{spec.name}:{other} cannot answer in place of {version}: {difference}; clients would notice. "
            f"Let those who want it name the version (/v1/models/{spec.name}/versions/{other}:predict), or give the model a new name"
        )


def _differences(one: ModelSpec, two: ModelSpec) -> Iterator[str]:
    if one.task != two.task:
        yield f"its task is {two.task}, not {one.task}"
    if one.labels != two.labels:
        yield f"its labels are {_listed(two.labels)}, not {_listed(one.labels)}"
    yield from _of_items("input", one.inputs, two.inputs, ("type", "nullable", "array_dtype", "shape"))
    yield from _of_items("output", one.outputs, two.outputs, ("dtype", "shape"))


def _of_items(kind: str, one: _Items, two: _Items, facts: tuple[str, ...]) -> Iterator[str]:
    names, others = [i.name for i in one], [i.name for i in two]
    for name in (n for n in others if n not in names):
        yield f"it has an {kind} {name!r} more"
    for name in (n for n in names if n not in others):
        yield f"it has no {kind} {name!r}"
    if names != others:
        yield f"the order of its {kind}s is {_listed(others)}, not {_listed(names)}"
    for mine, theirs in zip(one, two, strict=False):
        for fact in facts:
            was, now = getattr(mine, fact), getattr(theirs, fact)
            if was != now:
                yield f"{fact.removeprefix('array_')} of its {kind} {mine.name!r} is {_shown(now)}, not {_shown(was)}"


def _shown(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
