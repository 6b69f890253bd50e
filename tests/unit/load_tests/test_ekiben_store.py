from pathlib import Path

import msgspec
import pytest

from ekiben.model import Predictor, load_spec
from ekiben.registry import FolderRegistry
from ekiben.state.aliases import MemoryAliases
from load_tests.bench.contestants import contestants
from load_tests.bench.ekiben_store import add_model, models_folder
from load_tests.bench.models import make_models
from load_tests.bench.sides import CACHED_VERSION, CHAMPION_VERSION, SECOND_VERSION


@pytest.mark.parametrize("name", ["tabular", "heavy", "mlp", "wide"])
def test_a_model_is_registered_and_answers_what_the_benchmark_expects(tmp_path, name):
    model = make_models(tmp_path / "onnx", [name])[name]
    registry = FolderRegistry(tmp_path / "store", MemoryAliases())

    add_model(model, tmp_path / "work", registry)

    assert load_spec(models_folder(tmp_path / "work", name) / name / "model.yaml").name == name
    assert registry.resolve(name).tag == f"{name}:{CHAMPION_VERSION}", "what is registered second takes nothing over"
    assert registry.resolve(f"{name}:{SECOND_VERSION}").artifact().spec.name == name
    versions = {v.version: v.artifact().spec.cache.enabled for v in registry.versions(name)}
    assert versions == {CHAMPION_VERSION: False, SECOND_VERSION: False, **({CACHED_VERSION: True} if name == "heavy" else {})}
    predictor = Predictor.open(Path(registry.resolve(name).path))
    elements = predictor.predict(model.rows[:2])
    own = contestants()["ekiben"].protocols[0]
    for element, expected in zip(elements, model.answers[:2], strict=True):
        assert own.is_right(model, msgspec.json.encode({"predictions": [element]}), {}, expected)
