"""The predictor: validate → features → runtime → outputs. The only code that turns rows into predictions.

Training evaluates with it; the server, a batch job, a device and a function all run it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ekiben.errors import ArtifactError, FeatureError, GoldenRowsMismatch, InvalidRows, PredictionFailed
from ekiben.model.artifact import FEATURES, Artifact, read_artifact
from ekiben.model.code_on_load import refuse_code
from ekiben.model.features import Transform, load_transform
from ekiben.model.golden import GOLDEN_TOLERANCE, HALF_TOLERANCE, differing_rows
from ekiben.model.outputs import Head, Outputs
from ekiben.model.runtimes import Runtime, TensorInfo, open_runtime
from ekiben.model.signature import Batch, Signature
from ekiben.model.spec import ModelSpec

Array = npt.NDArray[Any]
Feeds = dict[str, Array]

_SHOWN_ROWS = 5
_SHOWN_CHARS = 200


class Predictor:
    """A loaded model that answers rows.

    Args:
        spec: The model's spec.
        runtime: The model in its framework.
        transform: The feature code, or None.
        threshold: Decision threshold of a binary classifier; None means 0.5.
        input_names: Column → input of the graph, where names differ.
        output_names: Output of the spec → output of the graph, where the names do not say it.

    Raises:
        ArtifactError: The graph's inputs or outputs do not fit the spec.
    """

    def __init__(
        self,
        spec: ModelSpec,
        runtime: Runtime,
        *,
        transform: Transform | None = None,
        threshold: float | None = None,
        input_names: dict[str, str] | None = None,
        output_names: dict[str, str] | None = None,
    ) -> None:
        self.spec = spec
        self.signature = Signature(spec.inputs)
        self.runtime = runtime
        self._transform = transform
        self._head = Head(spec, runtime.outputs, output_names or {}, threshold)
        self._feed = _feeder(spec, runtime, self.signature, input_names or {}, has_features=transform is not None)
        self._max_rows = spec.batching.max_batch_size
        self._fixed_rows = _fixed_rows(spec, runtime)
        # A runtime without named inputs (scikit-learn) takes tables only: a row alone is a table of one row.
        self._one_by_one = not spec.batching.enabled and bool(runtime.inputs)

    @classmethod
    def open(cls, path: Path, *, providers: tuple[str, ...] = (), check: bool = True, trusted: bool = False) -> Predictor:
        """Loads an artifact and, unless told otherwise, checks it: checksums first, then golden rows.

        Signatures are not looked at; `ekiben.registry.LoadPolicy` does that before it opens a version.

        Args:
            path: The artifact's folder.
            providers: ONNX Runtime's execution providers to prefer.
            check: False only for an artifact that was checked a moment ago.
            trusted: True where you know who made it: a model that runs code when it is loaded may do so.

        Raises:
            UntrustedVersion: Its model runs code when it is loaded, and nobody said to trust it. Nothing of it was run.
            ChecksumMismatch: A file is not the one the artifact was made with. Nothing of it was run.
            GoldenRowsMismatch: It does not reproduce its recorded outputs.
            ArtifactError: It cannot be read, or its parts do not fit together.
        """
        return cls.checked(read_artifact(path), providers=providers, check=check, trusted=trusted)

    @classmethod
    def checked(cls, artifact: Artifact, *, providers: tuple[str, ...] = (), check: bool = True, trusted: bool = False) -> Predictor:
        """As `open`, of an artifact whose manifest was read.

        Raises:
            ArtifactError: As `open` says.
        """
        if not trusted:
            refuse_code(artifact.manifest, artifact.spec.name)
        if check:
            artifact.verify()
        predictor = cls.of(artifact, providers=providers)
        if check:
            predictor.replay(artifact)
        return predictor

    @classmethod
    def of(cls, artifact: Artifact, *, providers: tuple[str, ...] = ()) -> Predictor:
        """Loads an artifact without checking it, whatever code it runs. Only its features.py must be the one of its manifest."""
        manifest = artifact.manifest
        expected = manifest.features_fingerprint
        return cls(
            manifest.spec,
            open_runtime(manifest.model.framework, artifact.path / manifest.model.file, providers=providers),
            transform=load_transform(artifact.path / FEATURES, sha256=expected) if expected else None,
            threshold=manifest.threshold,
            input_names=manifest.model.inputs,
            output_names=manifest.model.outputs,
        )

    @property
    def prediction(self) -> TensorInfo:
        """The runtime's output that the prediction, or the probabilities, are made of."""
        return next(info for info in self.runtime.outputs if info.name == self._head.wanted[0])

    def predict(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """Predicts rows.

        Args:
            rows: Dicts with the inputs' names, or lists in the inputs' order.

        Returns:
            One element a row, as `Outputs.rows` makes them.

        Raises:
            InvalidRows: A row breaks the signature; no row was computed.
            PredictionFailed: The model failed.
        """
        batch = self.signature.batch(self.signature.parse_rows(rows))
        faults = self.signature.check(batch)
        if faults:
            raise InvalidRows(faults)
        return self.run(batch).rows() if batch.n else []

    def run(self, batch: Batch) -> Outputs:
        """Predicts a batch of one row or more whose values were checked; splits it where it is larger than the model's batches.

        Raises:
            PredictionFailed: The model or its features.py failed, or gave outputs that do not fit its spec.
        """
        step = self._max_rows
        if batch.n <= step:
            return self._run(batch)
        return Outputs.join([self._run(batch.take(slice(start, start + step))) for start in range(0, batch.n, step)])

    def _run(self, batch: Batch) -> Outputs:
        feeds = self._feed(batch if self._transform is None else self._transformed(batch, self._transform))
        if self._one_by_one:
            return self._run_rows(batch.n, feeds)
        if self._fixed_rows is not None:
            return self._run_padded(batch.n, feeds, self._fixed_rows)
        return self._head.shape(batch.n, self.runtime.run(feeds, self._head.wanted))

    @staticmethod
    def _transformed(batch: Batch, transform: Transform) -> Batch:
        try:
            return Batch(batch.n, transform(batch.columns))
        except FeatureError as e:
            raise PredictionFailed(str(e)) from e

    def _run_rows(self, n: int, feeds: Feeds) -> Outputs:
        """Runs a model without a batch dimension once a row."""
        parts = []
        for row in range(n):
            # NOTE: with the dots a row's one value stays an array of its dtype; a string alone would be cut at a null character.
            raw = self.runtime.run({name: array[row, ...] for name, array in feeds.items()}, self._head.wanted)
            parts.append(self._head.shape(1, {name: array[None] for name, array in raw.items()}))
        return Outputs.join(parts)

    def _run_padded(self, n: int, feeds: Feeds, rows: int) -> Outputs:
        """Runs a model whose batch dimension is fixed, the last run padded with copies of the last row."""
        parts = []
        for start in range(0, n, rows):
            used = min(rows, n - start)
            chunk = {name: array[start : start + used] for name, array in feeds.items()}
            if used < rows:
                chunk = {name: np.concatenate([a, np.repeat(a[-1:], rows - used, axis=0)]) for name, a in chunk.items()}
            parts.append(self._head.shape(rows, self.runtime.run(chunk, self._head.wanted)).take(0, used))
        return Outputs.join(parts)

    def replay(self, artifact: Artifact) -> None:
        """Predicts the golden rows and compares.

        Raises:
            GoldenRowsMismatch: With the rows that differ.
        """
        golden = artifact.golden_rows()
        # Rows of different shapes cannot share a request; each is one of its own.
        together = self.signature.fixed_shapes
        found = self.predict(golden.rows) if together else [self.predict([row])[0] for row in golden.rows]
        is_half = any(info.dtype == "float16" for info in self.runtime.outputs if info.name in self._head.wanted)
        tolerance = HALF_TOLERANCE if is_half else GOLDEN_TOLERANCE
        differ = differing_rows(found, golden.outputs, threshold=self._head.threshold, tolerance=tolerance)
        if differ:
            first = differ[0]
            recorded = str(golden.outputs[first])[:_SHOWN_CHARS] if first < len(golden.outputs) else "nothing: there are fewer outputs"
            raise GoldenRowsMismatch(
                f"{self.spec.name}: {len(differ)} of {len(golden.rows)} golden rows give other outputs than recorded "
                f"(rows {', '.join(map(str, differ[:_SHOWN_ROWS]))}{' …' if len(differ) > _SHOWN_ROWS else ''}); "
                f"row {first} must give {recorded}",
                differ,
            )


def _fixed_rows(spec: ModelSpec, runtime: Runtime) -> int | None:
    if not spec.batching.enabled:
        return None
    sizes = {info.shape[0] for info in runtime.inputs if info.shape}
    fixed = {s for s in sizes if s is not None}
    if not fixed:
        return None
    if len(sizes) > 1:
        raise ArtifactError(
            f"{spec.name}: the model's inputs have different fixed batch dimensions {sorted(map(str, sizes))}; set batching.enabled: false"
        )
    return fixed.pop()


def _feeder(
    spec: ModelSpec, runtime: Runtime, signature: Signature, names: dict[str, str], *, has_features: bool
) -> Callable[[Batch], Feeds]:
    """Makes the function from a batch's arrays to the graph's, once, so that no request pays for the choice."""
    if not runtime.inputs:
        return _columns_feeder(names) if runtime.wants_frame else _matrix_feeder("matrix", None)
    graph = {info.name: info for info in runtime.inputs}
    # The graph of a model without a batch dimension lacks the rows' dimension, which our arrays have.
    rows_dims = 0 if spec.batching.enabled else 1
    scalars = not signature.has_tensors
    if len(graph) == 1 and scalars and not (len(signature.names) == 1 and not has_features and signature.names[0] in graph):
        (info,) = graph.values()
        if len(info.shape) + rows_dims == 2:  # noqa: PLR2004  [rows, columns]
            return _matrix_feeder(info.name, info.dtype)
    if not has_features:
        targets = [names.get(name, name) for name in signature.names]
        if len(graph) == 1 and len(targets) == 1:
            targets = list(graph)
        lost = [t for t in targets if t not in graph] + [g for g in graph if g not in targets]
        if lost:
            raise ArtifactError(
                f"{spec.name}: the model takes {', '.join(graph)}, the spec gives {', '.join(targets)}; {lost[0]!r} has no partner"
            )
    return _named_feeder(graph, names, rows_dims)


def _columns_feeder(names: dict[str, str]) -> Callable[[Batch], Feeds]:
    return lambda batch: {names.get(name, name): column for name, column in batch.columns.items()}


def _matrix_feeder(name: str, dtype: str | None) -> Callable[[Batch], Feeds]:
    def feed(batch: Batch) -> Feeds:
        matrix = batch.matrix
        if matrix is None:
            arrays = list(batch.columns.values())
            matrix = arrays[0] if len(arrays) == 1 and arrays[0].ndim > 1 else np.column_stack(arrays)
        return {name: matrix if dtype is None else matrix.astype(dtype, copy=False)}

    return feed


def _named_feeder(graph: dict[str, TensorInfo], names: dict[str, str], rows_dims: int) -> Callable[[Batch], Feeds]:
    def feed(batch: Batch) -> Feeds:
        columns = batch.columns
        if len(graph) == 1 and len(columns) == 1:
            ((target, info),) = graph.items()
            (array,) = columns.values()
            return {target: _as_input(array, info)}
        feeds = {}
        for name, array in columns.items():
            target = names.get(name, name)
            if target not in graph:
                raise ArtifactError(f"features.py gives {name!r}; the model takes {', '.join(graph)}")
            feeds[target] = _as_input(array, graph[target])
        return feeds

    def _as_input(array: Array, info: TensorInfo) -> Array:
        if array.ndim == 1 and len(info.shape) + rows_dims == 2:  # noqa: PLR2004  [rows, 1]
            array = array.reshape(-1, 1)
        return array.astype(info.dtype, copy=False)

    return feed
