"""In which form a trained model will serve: exported where the export agrees with the original, else as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ekiben.errors import EkibenError
from ekiben.model import Batch, ModelFile, ModelSpec, Predictor, Signature
from ekiben.model.features import load_transform
from ekiben.model.parity import ParityReport, compare
from ekiben.model.runtimes import open_runtime
from training.datasets import DataError, Dataset
from training.job import Job, Trained
from training.metrics import threshold_of_best_f1
from training.progress import Steps

PARITY_ROWS = 10_000
_SHOWN_CHARS = 200

Opener = Callable[[ModelFile, float | None], Predictor]


@dataclass(frozen=True)
class Choice:
    """The form that will serve, and why.

    Attributes:
        model: The model file of the artifact.
        files: Name in the artifact → file.
        predictor: The model opened, as it will serve.
        threshold: A binary classifier's; None for other tasks.
        parity: How the export compares with the original; None when nothing was exported.
    """

    model: ModelFile
    files: dict[str, Path]
    predictor: Predictor
    threshold: float | None
    parity: ParityReport | None


def choose(job: Job, spec: ModelSpec, trained: Trained, work: Path, steps: Steps) -> Choice:
    """Tunes the threshold, exports, compares, and chooses.

    Args:
        job: What was trained.
        spec: Its spec.
        trained: The fitted model.
        work: A folder for its files.
        steps: Where progress is shown.

    Raises:
        DataError: There are no validation rows to tune a threshold on, or data break the signature.
        ArtifactError: The model does not fit its spec.
    """
    transform = load_transform(job.features) if job.features else None

    def opened(model: ModelFile, threshold: float | None) -> Predictor:
        runtime = open_runtime(model.framework, work / model.file)
        return Predictor(spec, runtime, transform=transform, threshold=threshold, input_names=model.inputs, output_names=model.outputs)

    native = trained.save(work)
    threshold = None
    if spec.task == "binary_classification":
        with steps.step("Tune the threshold for the highest F1") as step:
            threshold = _tuned(spec, opened(native, None), job.split.validation)
            step.tell(f"{threshold:.3f}")
    as_it_is = Choice(native, {native.file: work / native.file}, opened(native, threshold), threshold, None)
    if trained.export is None:
        return as_it_is
    with steps.step("Export to ONNX and compare with the original") as step:
        rows = checked_batch(spec, job.data.thin(max(PARITY_ROWS, job.min_parity_rows)))
        compared = _compare_export(partial(trained.export, work), as_it_is, opened, rows, job.min_parity_rows)
        step.tell(compared.reason if isinstance(compared, ParityReport) else compared.parity.reason if compared.parity else "")
    if isinstance(compared, ParityReport):
        steps.note(f"the ONNX export is refused: {compared.reason}; {native.framework} serves the model")
        return replace(as_it_is, parity=compared)
    kept = {native.file: work / native.file} if trained.keep_native else {}
    return replace(compared, files={compared.model.file: work / compared.model.file, **kept})


def checked_batch(spec: ModelSpec, data: Dataset) -> Batch:
    """The data as a batch that satisfies the signature, as every request must.

    Raises:
        DataError: They do not.
    """
    signature = Signature(spec.inputs)
    batch = signature.from_columns(data.columns)
    faults = signature.check(batch)
    if faults:
        raise DataError(f"{data.name} breaks the signature of {spec.name} in {len(faults)} places; the first is {faults[0]}")
    return batch


def _tuned(spec: ModelSpec, predictor: Predictor, validation: Dataset | None) -> float:
    if validation is None:
        raise DataError(f"{spec.name} decides by a threshold, and there are no validation rows to tune it on")
    outputs = predictor.run(checked_batch(spec, validation))
    return threshold_of_best_f1(validation.target, outputs.arrays["probabilities"][:, 1])


def _compare_export(export: Callable[[], ModelFile], original: Choice, opened: Opener, rows: Batch, min_rows: int) -> Choice | ParityReport:
    """The export as a choice, or why it cannot be one."""
    try:
        model = export()
    except Exception as e:  # noqa: BLE001  a converter may fail in any way; the model is still good in its own framework
        return _failed(f"the conversion failed: {type(e).__name__}: {e}")
    try:
        predictor = opened(model, original.threshold)
        exported = predictor.run(rows)
    except EkibenError as e:
        return _failed(f"the export does not run: {e}")
    parity = compare(original.predictor.run(rows), exported, min_rows=min_rows)
    return replace(original, model=model, predictor=predictor, parity=parity) if parity.agrees else parity


def _failed(problem: str) -> ParityReport:
    # The first line, shortened: converters print whole graphs behind it.
    reason = problem.partition("\n")[0][:_SHOWN_CHARS]
    return ParityReport(rows=0, max_difference=0.0, mean_difference=0.0, label_differences=0, agrees=False, reason=reason)
