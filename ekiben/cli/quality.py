"""``ekiben quality``: how good a model's answers are, as far as the truth is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from ekiben.cli.moments import moment_of
from ekiben.cli.printing import json_option, print_json, print_note
from ekiben.cli.quality_view import print_quality

if TYPE_CHECKING:
    from ekiben.model.spec import ModelSpec
    from ekiben.monitoring.ground_truth import ReadsLog
    from ekiben.monitoring.quality import QualityReport
    from ekiben.registry import Registry
    from ekiben.state.truth import Truths


@click.command()
@click.argument("name", metavar="MODEL")
@click.option("--version", metavar="V", help="A version, `latest` or an alias; left out, all versions that answered.")
@click.option("--since", default="30d", show_default=True, help="A duration before --until, or a time: 2026-03-01, 2026-03-01T12:00Z.")
@click.option("--until", help="A time, or a duration ago; left out, now.")
@click.option("--by", type=click.Choice(["day", "week", "month"]), help="Show each day, week or month (UTC) apart.")
@click.option(
    "--segment", "segments", multiple=True, metavar="INPUT", help="Show values of an input apart; left out, what model.yaml says."
)
@json_option
def quality(name: str, *, version: str | None, since: str, until: str | None, by: Any, segments: tuple[str, ...], as_json: bool) -> None:
    """Show how good the answers of MODEL are.

    Rows of the inference log are joined with ground truth. Each metric has an interval of 95 %, and stands beside its value on
    held-out rows; the coverage says of how many rows the truth is known. A quality is bad when chance does not explain it.
    """
    import time  # noqa: PLC0415  commands import what they need when they run

    from ekiben.monitoring.log_reader import open_log  # noqa: PLC0415
    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415
    from ekiben.state.opening import open_control  # noqa: PLC0415

    now = time.time()
    end = now if until is None else moment_of(until, now, "--until")
    begin = moment_of(since, end, "--since")
    if begin >= end:
        raise click.UsageError("--since must be before --until")
    settings = load_settings()
    log = open_log(settings)
    looked = _Look(log, open_control(settings).truths, open_registry(settings), now, begin, end)
    found = [report for v in looked.versions(name, version) for report in looked.reports(name, v, by, segments)]
    if log.problem:
        print_note(log.problem)
    if as_json:
        print_json(found)
    elif found:
        print_quality(found)
    else:
        click.echo(f"{name} answered no row in that time")


class _Look:
    """What is looked at: rows of a time."""

    def __init__(self, log: ReadsLog, truths: Truths, registry: Registry, *times: float) -> None:
        self._log = log
        self._truths = truths
        self._registry = registry
        self._now, self._since, self._until = times

    def versions(self, name: str, version: str | None) -> Sequence[str]:
        """The version that is meant, or all that answered."""
        if version is not None:
            return [self._registry.resolve(f"{name}:{version}").version]
        import pyarrow.compute as pc  # noqa: PLC0415  commands import what they need when they run

        self._registry.resolve(name)
        table = self._log.read(name, since=self._since, until=self._until, columns=["version"], shadows=True)
        return sorted(pc.unique(table["version"]).to_pylist())

    def reports(self, name: str, version: str, by: Any, segments: tuple[str, ...]) -> Iterator[QualityReport]:
        """The quality of a version, whole and apart."""
        from ekiben.model.rollout_spec import seconds  # noqa: PLC0415  as above
        from ekiben.monitoring.ground_truth import joined  # noqa: PLC0415
        from ekiben.monitoring.quality_slices import quality_slices  # noqa: PLC0415

        spec, holdout = self._of_version(name, version)
        fields = segments or spec.monitor.segments
        unknown = next((field for field in fields if field not in {i.name for i in spec.inputs}), None)
        if unknown is not None:
            listed = ", ".join(i.name for i in spec.inputs)
            raise click.BadParameter(f"{name}:{version} has no input {unknown!r}; the inputs are {listed}", param_hint="--segment")
        found = joined(
            self._log,
            self._truths,
            name,
            since=self._since,
            until=self._until,
            version=version,
            columns=["version", "arm", "outputs", *(f"features.{field}" for field in fields)],
            shadows=True,
            truth_within_s=seconds(spec.monitor.truth_within),
            now=self._now,
        )
        yield from quality_slices(
            found, spec, since=self._since, until=self._until, version=version, by=by, segments=fields, holdout=holdout
        )

    def _of_version(self, name: str, version: str) -> tuple[ModelSpec, dict[str, float]]:
        """A version's spec and its metrics on held-out rows; of one that is no longer in the store the model's spec alone."""
        from ekiben.errors import VersionNotFound  # noqa: PLC0415  as above

        try:
            manifest = self._registry.resolve(f"{name}:{version}").artifact().manifest
        except VersionNotFound:
            return self._registry.resolve(name).artifact().spec, {}
        return manifest.spec, dict(manifest.metrics)
