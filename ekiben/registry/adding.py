"""Bring your own: a model file becomes a spec, an artifact and a version, with no code written."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from ekiben.errors import EkibenError, InvalidRows, RegistryError
from ekiben.model.artifact import CARD, FEATURES, ModelFile, Provenance, sha256_of
from ekiben.model.build import MIN_GOLDEN_ROWS, build_artifact, choose_golden_rows, plain_row
from ekiben.model.features import load_transform
from ekiben.model.infer_spec import bound_outputs, infer_spec
from ekiben.model.predictor import Predictor
from ekiben.model.probe import probe, same_shapes
from ekiben.model.rows_file import read_rows
from ekiben.model.runtimes import Runtime, open_runtime
from ekiben.model.signature import Signature
from ekiben.model.spec import RESERVED_NAMES, ModelSpec, Task, dump_spec, load_spec, spec_from_builtins
from ekiben.model.synthetic import recombined_rows
from ekiben.registry.model_source import PACKAGES, ModelSource
from ekiben.registry.provenance import framework_versions, git_commit, now
from ekiben.registry.reference import check_model_name, parse_tag
from ekiben.registry.store import Registry, Version

SPEC_FILE: Final = "model.yaml"
SAMPLE_ROWS: Final = 5000


class Hints(msgspec.Struct, frozen=True, kw_only=True):
    """What the person who adds a model knows and the model does not say; used only where there is no model.yaml yet."""

    task: Task | None = None
    labels: tuple[str, ...] = ()
    owner: str = ""


class Added(msgspec.Struct, frozen=True):
    """What adding a model made.

    Attributes:
        version: The registered version.
        spec_file: Its model.yaml.
        is_new_spec: Whether that was written now.
        notes: What the person should know.
    """

    version: Version
    spec_file: Path
    is_new_spec: bool
    notes: tuple[str, ...]


class _Plan(msgspec.Struct, frozen=True):
    spec: ModelSpec
    outputs: dict[str, str]
    rows: list[Any]
    notes: list[str]


def add_model(
    registry: Registry,
    models_dir: Path,
    name: str,
    source: ModelSource,
    *,
    sample: Path | None = None,
    hints: Hints = Hints(),  # noqa: B008  immutable
    tag: str | None = None,
) -> Added:
    """Adds a model.

    A ``models/<name>/model.yaml`` that exists is the spec, and a features.py beside it the feature code; otherwise the spec
    is inferred and written there. When anything fails, neither the file nor a version is left behind.

    Args:
        registry: Where the version goes.
        models_dir: The folder of specs.
        name: The model's name.
        source: The model.
        sample: A file of rows as clients will send them.
        hints: What is known beyond the model.
        tag: The version's tag; None has one made.

    Raises:
        EkibenError: The name, tag, model, spec or sample cannot be used, with what would be right.
    """
    _check_name(name)
    if tag is not None:
        parse_tag(tag, name)
    spec_file = models_dir / name / SPEC_FILE
    features = models_dir / name / FEATURES
    is_new = not spec_file.exists()
    rows = None if sample is None else [plain_row(row) for row in read_rows(sample, limit=SAMPLE_ROWS)]
    runtime = open_runtime(source.framework, source.file)
    if is_new:
        plan = _inferred(name, runtime, rows, hints, spec_file)
    else:
        plan = _given(load_spec(spec_file), runtime, rows, features if features.exists() else None, hints)
    signature = Signature(plan.spec.inputs)
    if rows is not None:
        _check_rows(signature, rows)
    golden, note = golden_rows(signature, plan.rows, rows)
    with tempfile.TemporaryDirectory(prefix="ekiben-") as folder:
        built = build_artifact(
            Path(folder) / name,
            spec=plan.spec,
            model=ModelFile(framework=source.framework, file=source.name, outputs=plan.outputs),
            files=source.files,
            provenance=Provenance(
                created=now(),
                git_commit=git_commit(Path.cwd()),
                frameworks=framework_versions("ekiben", "numpy", *PACKAGES[source.framework]),
                data={} if sample is None else {"name": sample.name, "rows": len(rows or []), "sha256": sha256_of(sample)},
            ),
            golden_rows=golden,
            min_golden_rows=MIN_GOLDEN_ROWS if rows is not None else len(golden),
            reference=rows or [],
            features=features if not is_new and features.exists() else None,
            card=card if (card := models_dir / name / CARD).exists() else None,
        )
        with _written(spec_file, plan.spec, source) if is_new else _untouched():
            version = registry.register(built.path, tag=tag)
    return Added(version, spec_file, is_new, (*plan.notes, note))


def golden_rows(signature: Signature, probed: list[Any], sample: Sequence[Any] | None) -> tuple[list[Any], str]:
    """The golden rows, and how they came about in words.

    Args:
        signature: The model's signature.
        probed: Rows that the model was run on: the golden rows where there is no sample.
        sample: Rows as clients send them.
    """
    if sample is None:
        return probed, f"no sample was given: the {len(probed)} golden rows are made up; they show that the model stays the same, no more"
    chosen = choose_golden_rows(same_shapes(signature, sample))
    missing = MIN_GOLDEN_ROWS - len(chosen)
    if missing <= 0:
        return chosen, f"{len(chosen)} golden rows from the sample"
    if len(signature.names) > 1:
        named = [row if isinstance(row, dict) else dict(zip(signature.names, row, strict=True)) for row in chosen]
        return chosen + recombined_rows(named, missing), f"{len(chosen)} golden rows from the sample, {missing} recombined from its values"
    repeated = [chosen[n % len(chosen)] for n in range(missing)]
    return chosen + repeated, f"{len(chosen)} golden rows from the sample, repeated to make {MIN_GOLDEN_ROWS}"


def _check_name(name: str) -> None:
    check_model_name(name)
    if name in RESERVED_NAMES:
        raise RegistryError(f"{name!r} is a path the server uses itself; choose another name")


def _check_rows(signature: Signature, rows: list[Any]) -> None:
    """Checks the whole sample, so that what is wrong is named by its place there."""
    parsed = signature.parse_rows(rows)
    faults = signature.check(signature.batch(parsed)) if signature.fixed_shapes else []
    if faults:
        raise InvalidRows(faults)


def _inferred(name: str, runtime: Runtime, rows: list[Any] | None, hints: Hints, spec_file: Path) -> _Plan:
    found = infer_spec(name, runtime, rows=rows, task=hints.task, labels=hints.labels, owner=hints.owner)
    checked = spec_from_builtins(msgspec.to_builtins(found.spec), file=f"{spec_file.parent.name}/{spec_file.name}")
    return _Plan(checked, found.outputs, found.rows, list(found.notes))


def _given(spec: ModelSpec, runtime: Runtime, rows: list[Any] | None, features: Path | None, hints: Hints) -> _Plan:
    transform = None if features is None else load_transform(features)
    outputs = bound_outputs(spec, runtime, rows, transform)
    predictor = Predictor(spec, runtime, transform=transform, output_names=outputs)
    notes = [f"models/{spec.name}/{SPEC_FILE} was there and is used as it is"]
    if hints != Hints():
        notes.append(f"--task, --labels and --owner are not used: they are in models/{spec.name}/{SPEC_FILE}")
    return _Plan(spec, outputs, probe(predictor, rows).rows, notes)


@contextmanager
def _written(spec_file: Path, spec: ModelSpec, source: ModelSource) -> Iterator[None]:
    """Writes the spec for as long as it takes to register the version, and for good when that succeeds."""
    made_folder = not spec_file.parent.exists()
    heading = f"# What {spec.name} takes and gives, inferred from {source.file.name}. Refine it (min, max, categories, unit, the card),\n"
    heading += "# then run the same `ekiben models add` again: the next version will have it.\n"
    try:
        try:
            spec_file.parent.mkdir(parents=True, exist_ok=True)
            spec_file.write_text(heading + dump_spec(spec), encoding="utf-8")
        except OSError as e:
            raise EkibenError(f"{spec_file} cannot be written: {e.strerror or e}") from e
        yield
    except BaseException:
        with suppress(OSError):
            spec_file.unlink()
        if made_folder:
            shutil.rmtree(spec_file.parent, ignore_errors=True)
        raise


@contextmanager
def _untouched() -> Iterator[None]:
    yield
