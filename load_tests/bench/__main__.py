"""``python -m load_tests.bench``: one run, its tables, and a JSON file in ``bench-results/``."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import click
import msgspec
from rich.console import Console

from ekiben.settings import load_settings
from ekiben.state.opening import open_control
from load_tests.bench import ekiben_store, machine, promises
from load_tests.bench.contestants import (
    DEFAULT_PEERS,
    PEERS,
    PROJECT,
    Contestant,
    Workplace,
    contestants,
    ekiben_environ,
    ekiben_on_trial,
)
from load_tests.bench.environments import ENVIRONMENTS, InstallFailed, cache_folder, ensure_environment
from load_tests.bench.models import BenchModel, make_models
from load_tests.bench.programs import LoadGeneratorMissing, ensure_program
from load_tests.bench.protocols import GRPC, PROTOCOLS
from load_tests.bench.race import Course, Race
from load_tests.bench.remembering import RememberingTrial
from load_tests.bench.report import tables
from load_tests.bench.results import Failure, Results
from load_tests.bench.routing import RoutingTrial
from load_tests.bench.servers import server_environ
from load_tests.bench.sides import CACHED, CACHED_MODEL, SHADOWED_MODELS, SIDES, TWIN_MODELS
from load_tests.bench.twins import TwinsTrial

MODELS: Final = ("tabular", "mlp", "wide")
_FILE_WIDTH: Final = 160
_STORE_S: Final = 180
_OPEN_FILES: Final = 8192


def _names(allowed: tuple[str, ...]) -> Callable[[click.Context, click.Parameter, str], tuple[str, ...]]:
    def read(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        unknown = [name for name in found if name not in allowed]
        if unknown or not found:
            raise click.BadParameter(f"{', '.join(unknown) or 'nothing'} is not among {', '.join(allowed)}")
        return found

    return read


def _numbers(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{text!r} is not a list of whole numbers above 0, such as 1,32,64")
    return tuple(dict.fromkeys(int(part) for part in parts))


@click.command(help="Measures Ekiben, its peers and the ceilings side by side, and holds the figures against what is promised.")
@click.option("--duration", default=5.0, show_default=True, type=click.FloatRange(min=1), help="Seconds of each load.")
@click.option("--rounds", default=1, show_default=True, type=click.IntRange(min=1), help="How often all is measured; medians are shown.")
@click.option(
    "--peers",
    default=",".join(DEFAULT_PEERS),
    show_default=True,
    callback=_names(PEERS),
    help=f"Who takes part: any of {', '.join(PEERS)}. A peer's environment is built the first time. "
    f"{', '.join(SIDES)} are measured against Ekiben without a route, in turns on one server.",
)
@click.option(
    "--protocols", default=",".join(PROTOCOLS), show_default=True, callback=_names(PROTOCOLS), help="How each is asked, if it speaks it."
)
@click.option("--models", default=",".join(MODELS), show_default=True, callback=_names(MODELS), help="Which models.")
@click.option("--workers", default="1,2", show_default=True, callback=_numbers, help="Numbers of workers.")
@click.option("--connections", default="1,32,64", show_default=True, callback=_numbers, help="Connections for the tabular model.")
@click.option("--mlp-connections", default="32,64,128", show_default=True, callback=_numbers, help="Connections for the MLP.")
@click.option("--wide-connections", default="32", show_default=True, callback=_numbers, help="Connections for rows of 784 floats.")
@click.option("--skip-overload", is_flag=True, help="Leave out the open-loop loads of 4 times the capacity.")
@click.option("--quick", is_flag=True, help="A look in about three minutes: loads of 1 s, 1 worker, few connections. No basis for claims.")
@click.option(
    "--cache", default=cache_folder, show_default="~/.cache/ekiben-bench", type=click.Path(path_type=Path), help="For peers' environments."
)
@click.option(
    "--output", default="bench-results", show_default=True, type=click.Path(file_okay=False, path_type=Path), help="For the JSON."
)
def main(output: Path, cache: Path, **options: Any) -> None:
    """The command."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    signal.signal(signal.SIGTERM, _end)
    _raise_open_files()
    if options.pop("quick"):
        options |= {"duration": 1.0, "workers": (1,), "connections": (1, 32), "mlp_connections": (64,)}
    course = _course(options)
    try:
        wrk = ensure_program("wrk")
        h2load = ensure_program("h2load") if course.has_race and GRPC in course.protocols else ""
    except LoadGeneratorMissing as e:
        raise click.ClickException(str(e)) from e
    results = Results(started=datetime.now(UTC).isoformat(timespec="seconds"), machine=machine.describe(), options=options)
    with tempfile.TemporaryDirectory(prefix="ekiben-bench-") as folder:
        work = _prepare(course, results, folder=Path(folder), cache=cache, console=console)
        _race(course, results, work, (wrk, h2load), console)
    judged = promises.judge(results)
    for table in tables(results, judged):
        console.print(table, "")
    file = output / f"{results.started.replace(':', '').removesuffix('+0000')}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    verdicts = [{**msgspec.to_builtins(p), "reached": p.is_reached} for p in judged]
    file.write_bytes(msgspec.json.format(msgspec.json.encode({**msgspec.to_builtins(results), "promises": verdicts}), indent=1))
    console.print(f"written to {file}")
    sys.exit(1 if results.failures else 0)


def _course(options: dict[str, Any]) -> Course:
    connections = {"tabular": options["connections"], "mlp": options["mlp_connections"], "wide": options["wide_connections"]}
    return Course(
        models={name: connections[name] for name in options["models"]},
        workers=options["workers"],
        peers=options["peers"],
        protocols=options["protocols"],
        seconds=options["duration"],
        rounds=options["rounds"],
        with_overload=not options["skip_overload"],
    )


class _Work(msgspec.Struct, frozen=True):
    """What is there when the race begins.

    Attributes:
        field: The servers, by name.
        models: The models, by name.
        place: Where the servers find what they need.
        has_store: Whether Ekiben has its models.
    """

    field: dict[str, Contestant]
    models: dict[str, BenchModel]
    place: Workplace
    has_store: bool


def _prepare(course: Course, results: Results, *, folder: Path, cache: Path, console: Console) -> _Work:
    field = {name: contestant for name, contestant in contestants().items() if name in course.peers}
    wanted = [name for name in course.models if course.has_race or name in SHADOWED_MODELS]
    wanted += [CACHED_MODEL] if CACHED in course.sides else []
    wanted += ["heavy"] if course.has_race and course.with_overload else []
    has_store = False
    with console.status("making the models"):
        models = make_models(folder / "onnx", list(dict.fromkeys(wanted)))
        if "ekiben" in field or course.sides:
            has_store = _fill_store(models, folder, results)
    if not has_store:
        field = {name: contestant for name, contestant in field.items() if name != "ekiben"}
    pythons = {}
    for name in [name for name, contestant in field.items() if contestant.environment]:
        with console.status(f"building the environment of {name}, the first time only"):
            try:
                pythons[field[name].environment] = ensure_environment(
                    ENVIRONMENTS[field[name].environment], cache, PROJECT / "constraints.txt"
                )
            except InstallFailed as e:
                del field[name]
                results.failures.append(Failure(peer=name, model="", workers=0, round=0, problem=str(e)))
    ekiben_models = {name: ekiben_store.models_folder(folder, name) for name in models}
    twins = {name: ekiben_store.twins_folder(folder, name) for name in TWIN_MODELS}
    place = Workplace(folder=folder, pythons=pythons, ekiben_models=ekiben_models, ekiben_twins=twins)
    return _Work(field, models, place, has_store)


def _race(course: Course, results: Results, work: _Work, programs: tuple[str, str], console: Console) -> None:
    wrk, h2load = programs
    race = Race(course, field=work.field, models=work.models, place=work.place, wrk=wrk, h2load=h2load, say=console.print)
    race.run(results)
    if course.sides and work.has_store:
        control = open_control(load_settings(ekiben_environ(work.place.folder)))
        server, models, place, say = ekiben_on_trial(), work.models, work.place, console.print
        for trial in (TwinsTrial, RoutingTrial, RememberingTrial):
            trial(course, server=server, models=models, place=place, control=control, wrk=wrk, say=say).run(results)


def _fill_store(models: dict[str, BenchModel], folder: Path, results: Results) -> bool:
    """Puts the models where Ekiben serves from; returns whether that went well, and takes it down where it did not."""
    command = [sys.executable, "-m", "load_tests.bench.ekiben_store", str(folder)]
    environ = server_environ(ekiben_environ(folder))
    listed = msgspec.json.encode(list(models.values()))
    done = subprocess.run(command, input=listed, env=environ, cwd=PROJECT, capture_output=True, timeout=_STORE_S, check=False)
    if done.returncode:
        problem = done.stderr.decode(errors="replace")[-600:]
        results.failures.append(Failure(peer="ekiben", model="", workers=0, round=0, problem=problem))
    return done.returncode == 0


def _raise_open_files() -> None:
    """Servers and the open-loop generator hold many connections; they inherit this limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    """Ends by way of an exception, so that the server under test is ended too."""
    sys.exit(143)


if __name__ == "__main__":
    main()
