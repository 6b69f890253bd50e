"""Training a model anew on what was logged, and whether the new version may stand for trial.

The newest fifth of the window is held back: the new version does not see it, and is compared with the champion on it. A version
that is not surely better stays registered, and no rollout of it is to start.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from ekiben.errors import EkibenError, InvalidRequest, RetrainingError
from ekiben.model.metric_checks import default_quality
from ekiben.model.predictor import Predictor
from ekiben.model.rollout_spec import seconds
from ekiben.model.signature import Signature
from ekiben.model.spec import ModelSpec
from ekiben.monitoring.challenge import Comparison, compare
from ekiben.monitoring.held_lease import held_lease
from ekiben.monitoring.training_rows import rows_of, write_rows
from ekiben.monitoring.training_window import LabelledRows, Window, window_of
from ekiben.monitoring.watched import Watched, WatchedVersions
from ekiben.registry.store import Registry, Version
from ekiben.registry.trust import LoadPolicy
from ekiben.state.control import Control
from ekiben.state.events import Event

if TYPE_CHECKING:
    import pyarrow as pa

STARTED: Final = "retrain_started"
FINISHED: Final = "retrain_finished"
REJECTED: Final = "retrain_rejected"
FAILED: Final = "retrain_failed"

Train = Callable[[str, Path], str]
"""Module and file of rows → the tag of the version that was trained on them."""


class Retrained(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        model: The model.
        outcome: ``better`` than the champion, ``rejected`` because it is not, or ``dry_run``: nothing was trained.
        message: A sentence for people.
        champion: The version that serves.
        challenger: The version that was trained; None after a dry run.
        since, until: The window, seconds since the epoch.
        answered: Rows that were answered in it.
        labelled_share: Which share of them has a truth.
        rows: Rows that it was trained on.
        held_back: Rows that it was compared on.
        comparison: With the champion.
        trigger: What started it; empty where a person did.
        rollout: Id of the rollout that started, if one did.
    """

    model: str
    outcome: Literal["better", "rejected", "dry_run"]
    message: str
    champion: str
    challenger: str | None
    since: float
    until: float
    answered: int
    labelled_share: float
    rows: int
    held_back: int
    comparison: Comparison | None = None
    trigger: str = ""
    rollout: str | None = None


class Retraining:
    """Trains models anew.

    Args:
        control: The control database: events, and the lease that lets one train a model at a time.
        registry: The versions.
        rows: The log joined with ground truth.
        train: Runs a training script, see `ekiben.monitoring.training_script`.
        who: Who asks, for the events.
        holder: Who holds the lease: ``host:pid``.
        wall: Seconds since the epoch.
        folder: The models folder, see `WatchedVersions`; what it says of ``monitor.retrain`` is in force.
    """

    def __init__(
        self,
        control: Control,
        registry: Registry,
        *,
        rows: LabelledRows,
        train: Train,
        who: str,
        holder: str,
        wall: Callable[[], float],
        folder: Path | None = None,
    ) -> None:
        self._control = control
        self._registry = registry
        self._rows = rows
        self._train = train
        self._who = who
        self._holder = holder
        self._wall = wall
        self._watched = WatchedVersions(control, registry, folder)

    def look(self, model: str, *, window_s: float | None = None, until: float | None = None) -> Retrained:
        """What would be trained on, and nothing else.

        Raises:
            RetrainingError, RegistryError, StateError: As of `run`.
        """
        champion = self._champion(model)
        window = self._window(champion.spec, window_s, until)
        learnt, held = window.split()
        found = _retrained(champion, window, learnt, held, "")
        text = (
            f"{window.answered:,} rows of {model} were answered from {_moment(window.since)} to {_moment(window.until)}, "
            f"{window.labelled_share:.1%} have a truth; {found.rows:,} would teach, the newest {found.held_back:,} would judge"
        )
        return msgspec.structs.replace(found, message=text)

    def run(self, model: str, *, window_s: float | None = None, until: float | None = None, trigger: str = "") -> Retrained:
        """Trains a version, registers it and compares it with the champion.

        Args:
            model: The model.
            window_s: How far back the rows reach; None takes ``monitor.retrain.window``.
            until: Seconds since the epoch up to which; None takes now.
            trigger: What started it; empty where a person did.

        Raises:
            RetrainingError: It is being trained already, there are too few rows, or the training failed.
            RegistryError: There is no such model.
            StateError: The control database does not answer.
        """
        champion = self._champion(model)
        with held_lease(self._control.leases, lease_of(model), self._holder) as is_mine:
            if not is_mine:
                holder = self._control.leases.holder(lease_of(model)) or "somebody"
                raise RetrainingError(
                    f"{model} is being trained anew by {holder}; wait for its end, `ekiben rollout history {model}` shows it"
                )
            why = f"because {trigger}" if trigger else f"by {self._who}"
            self._tell(model, STARTED, f"training anew was started {why}", {"trigger": trigger, "champion": champion.version})
            try:
                done = self._trained(champion, window_s, until, trigger)
            except BaseException as e:
                stopped = isinstance(e, KeyboardInterrupt | SystemExit)
                text = "it was stopped" if stopped else str(e) if isinstance(e, EkibenError) else f"{type(e).__name__}: {e}"
                self._tell(model, FAILED, f"training anew failed: {text}", {"trigger": trigger})
                raise
            self._tell(model, FINISHED if done.outcome == "better" else REJECTED, done.message, msgspec.to_builtins(done))
        return done

    def _trained(self, champion: Watched, window_s: float | None, until: float | None, trigger: str) -> Retrained:
        spec = champion.spec
        window = self._window(spec, window_s, until)
        learnt, held = window.split()
        found = _retrained(champion, window, learnt, held, trigger)
        with tempfile.TemporaryDirectory(prefix="ekiben-retraining-") as work:
            file = Path(work) / "rows.parquet"
            write_rows(file, learnt, _lineage(found, rows_of(learnt, spec).fingerprint()))
            tag = self._train(spec.monitor.retrain.module or f"training.{spec.name}", file)
        challenger = self._registry.resolve(tag)
        if challenger.model != spec.name or challenger.version == champion.version:
            raise RetrainingError(f"the training script says that it made {tag}; it must make a new version of {spec.name}")
        comparison = compared(champion, challenger, held, self._registry.policy)
        better = comparison.is_better
        text = f"{challenger.tag} was trained anew and is {comparison}"
        return msgspec.structs.replace(
            found,
            outcome="better" if better else "rejected",
            message=text if better else f"{text}; it stays registered, and no rollout starts",
            challenger=challenger.version,
            comparison=comparison,
        )

    def _champion(self, model: str) -> Watched:
        """The champion, by the rules that are in force now."""
        self._registry.resolve(model)  # says which models there are where this is none of them
        return self._watched.of(model)[0]

    def _window(self, spec: ModelSpec, window_s: float | None, until: float | None) -> Window:
        end = self._wall() if until is None else until
        length_s = seconds(spec.monitor.retrain.window) if window_s is None else window_s
        window = window_of(self._rows, spec, since=end - length_s, until=end)
        window.check_enough()
        return window

    def _tell(self, model: str, kind: str, message: str, details: Mapping[str, Any]) -> None:
        self._control.events.append(
            [Event(time=self._wall(), who=self._who, model=model, kind=kind, message=message, details=dict(details))]
        )


def lease_of(model: str) -> str:
    """The name of the lease that whoever trains a model anew holds."""
    return f"retrain:{model}"


def refuse_active(control: Control, model: str) -> None:
    """Refuses to train for a rollout while one is active.

    Raises:
        RetrainingError: With what to do.
        StateError: The control database does not answer.
    """
    for active in control.rollouts.find(model=model, active=True, limit=1):
        ending = f"ekiben rollout abort {model}" if active.kind == "rollout" else f"ekiben experiment stop {model}"
        raise RetrainingError(
            f"{active.id} is active, and a model has one trial at a time; wait for its end (`ekiben {active.kind} status {model}`), "
            f"end it (`{ending}`), or train and compare only, with --no-rollout"
        )


def compared(champion: Watched, challenger: Version, held: pa.Table, policy: LoadPolicy) -> Comparison:
    """Both versions on the rows that were held back.

    Args:
        champion: The version that serves.
        challenger: The version that was trained here just now, by code that ran here: it may be loaded whatever it is.
        held: The rows.
        policy: Says whether the champion may be loaded.

    Raises:
        RetrainingError: They do not take the same inputs.
        ArtifactError: A version cannot be opened.
        PredictionFailed: A version cannot answer the rows.
    """
    spec = champion.spec
    metric = spec.quality.metric if spec.quality is not None else default_quality(spec.task)
    assert metric is not None  # a window of a model without a quality was refused
    rows = rows_of(held, spec)
    answers = []
    admitted = policy.admit_folder(champion.artifact.path, f"{champion.model}:{champion.version}")
    for artifact in (admitted, challenger.artifact()):
        predictor = Predictor.checked(artifact, trusted=True)
        try:
            batch = Signature(predictor.spec.inputs).from_columns(rows.columns)
        except InvalidRequest as e:
            raise RetrainingError(
                f"{challenger.tag} does not take the inputs that the champion takes: {e}; compare them in a rollout"
            ) from e
        answers.append(predictor.run(batch))
    return compare(metric, answers[0], answers[1], rows.target, rows.times, margin=spec.monitor.retrain.margin)


def _retrained(champion: Watched, window: Window, learnt: pa.Table, held: pa.Table, trigger: str) -> Retrained:
    return Retrained(
        model=champion.model,
        outcome="dry_run",
        message="",
        champion=champion.version,
        challenger=None,
        since=window.since,
        until=window.until,
        answered=window.answered,
        labelled_share=round(window.labelled_share, 4),
        rows=learnt.num_rows,
        held_back=held.num_rows,
        trigger=trigger,
    )


def _lineage(found: Retrained, fingerprint: str) -> dict[str, Any]:
    """What the new version's provenance says of its data."""
    return {
        "retrained_from": f"{found.model}:{found.champion}",
        "since": _moment(found.since),
        "until": _moment(found.until),
        "answered": found.answered,
        "labelled_share": found.labelled_share,
        "held_back": found.held_back,
        "data_sha256": fingerprint,
        "trigger": found.trigger or "by hand",
    }


def _moment(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")
