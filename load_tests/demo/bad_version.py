"""``python -m load_tests.demo.bad_version``: registers a version that answers the opposite of what the champion answers.

It is as fast, breaks no rule of its signature, keeps its checksums and golden rows, and fails on no request. That it is wrong shows
only when what it said is compared with what happened.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import click
import onnx
from onnx import TensorProto, helper

from ekiben.model import Provenance
from ekiben.model.artifact import CARD, FEATURES
from ekiben.model.build import build_artifact
from ekiben.registry import open_registry
from ekiben.registry.provenance import now
from ekiben.settings import load_settings
from load_tests.demo.scenario import MODEL
from training.datasets import load_flights

VERSION: Final = "opposite"
_OUTPUT: Final = "probabilities"
_MONTH: Final = 4
_ROWS: Final = 2000


@click.command()
def main() -> None:
    """Register flight_delay:opposite, made of the champion; print its tag."""
    settings = load_settings()
    registry = open_registry(settings)
    champion = registry.resolve(MODEL).artifact()
    manifest = champion.manifest
    with tempfile.TemporaryDirectory(prefix="ekiben-demo-") as work:
        graph = Path(work) / manifest.model.file
        onnx.save(opposite(onnx.load(champion.path / manifest.model.file)), graph)
        made = build_artifact(
            Path(work) / "artifact",
            spec=champion.spec,
            model=manifest.model,
            files={manifest.model.file: graph},
            provenance=Provenance(created=now(), parameters={"made_of": VERSION}),
            golden_rows=champion.golden_rows().rows,
            reference=load_flights(settings.home, first_month=_MONTH, last_month=_MONTH).thin(_ROWS).columns,
            features=champion.path / FEATURES,
            card=champion.path / CARD,
            threshold=manifest.threshold,
        )
        click.echo(registry.register(made.path, tag=f"{MODEL}:{VERSION}").tag)


def opposite(model: Any) -> Any:
    """A classifier's graph of two classes with their probabilities exchanged."""
    graph = model.graph
    for node in graph.node:
        for position, name in enumerate(node.output):
            if name == _OUTPUT:
                node.output[position] = "right_way_round"
    graph.initializer.append(helper.make_tensor("other_way_round", TensorProto.INT64, [2], [1, 0]))
    graph.node.append(helper.make_node("Gather", ["right_way_round", "other_way_round"], [_OUTPUT], axis=1))
    return model


if __name__ == "__main__":
    main()
