"""``ekiben models add``: bring your own model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ekiben.cli.printing import json_option, print_fields, print_json

_TASKS = ("binary_classification", "multiclass_classification", "regression", "tensor")
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("name")
@click.option("--onnx", type=_FILE, help="An ONNX file.")
@click.option("--sklearn", type=_FILE, help="A fitted estimator or Pipeline: .skops; .joblib and .pkl want EKIBEN_TRUST_PICKLE.")
@click.option("--torch", type=_FILE, help="A program saved with torch.export.save: .pt2 (wants EKIBEN_TRUST_PICKLE).")
@click.option("--bentoml", metavar="TAG", help="A model in the BentoML store, saved by bentoml.sklearn, bentoml.onnx or you.")
@click.option("--sample", type=_FILE, help="Rows as clients will send them: JSON (a list of rows) or Parquet. Makes names and types known.")
@click.option("--task", type=click.Choice(_TASKS), help="What the model does, where it cannot be told from its outputs.")
@click.option("--labels", metavar="A,B", help="A classifier's classes, in the order of its probabilities.")
@click.option("--tag", metavar="NAME:VERSION", help="The version's tag; made from the time when left out.")
@click.option("--owner", default="", help="Who answers for the model; goes into its card.")
@click.option("--models-dir", type=click.Path(path_type=Path, file_okay=False), default=Path("models"), show_default=True)
@json_option
def add(  # noqa: PLR0913  the options of the command
    name: str,
    *,
    onnx: Path | None,
    sklearn: Path | None,
    torch: Path | None,
    bentoml: str | None,
    sample: Path | None,
    task: Any,
    labels: str | None,
    tag: str | None,
    owner: str,
    models_dir: Path,
    as_json: bool,
) -> None:
    """Add a model NAME, or one more version of it.

    What it takes and gives is found out from the model and the sample and written to models/NAME/model.yaml, for you to
    refine; a model.yaml that is there is used as it is. The server serves the model from its next start.
    """
    files = {framework: file for framework, file in (("onnx", onnx), ("sklearn", sklearn), ("torch", torch)) if file is not None}
    if len(files) + (bentoml is not None) != 1:
        raise click.UsageError("give the model with one of --onnx FILE, --sklearn FILE, --torch FILE or --bentoml TAG")
    from ekiben.cli.describe import details, type_of  # noqa: PLC0415  commands import what they need when they run
    from ekiben.model.artifact import ModelFile  # noqa: PLC0415
    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.registry.adding import Hints, add_model  # noqa: PLC0415
    from ekiben.registry.model_source import source_in, source_of  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415

    registry = open_registry(load_settings())
    source = source_in(registry.folder_of(bentoml), bentoml) if bentoml is not None else source_of(*next(iter(files.items())))
    registry.policy.admit_file(ModelFile(framework=source.framework, file=source.file.name), tag)
    words = tuple(word.strip() for word in (labels or "").split(",") if word.strip())
    added = add_model(registry, models_dir, name, source, sample=sample, hints=Hints(task=task, labels=words, owner=owner), tag=tag)
    found = details(added.version)
    if as_json:
        print_json({**found, "spec_file": str(added.spec_file), "is_new_spec": added.is_new_spec, "notes": list(added.notes)})
        return
    spec = f"{added.spec_file} ({'written now: refine it' if added.is_new_spec else 'as it was'})"
    print_fields(
        [
            ("added", found["tag"] + (f" ({', '.join(found['aliases'])})" if found["aliases"] else "")),
            ("spec", spec),
            ("task", found["task"]),
            ("inputs", ", ".join(f"{item['name']} {type_of(item)}" for item in found["inputs"])),
            ("outputs", ", ".join(f"{item['name']} {type_of(item)}" for item in found["outputs"])),
            ("labels", ", ".join(found["labels"])),
            *(("note", note) for note in added.notes),
            ("next", f"ekiben predict {name} rows.json; or start the server, it will answer for {name}"),
        ]
    )
