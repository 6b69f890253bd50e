from ekiben import __version__
from ekiben.serving.description import EXTENSIONS, model_metadata, platform_of, server_metadata


def test_the_server():
    assert server_metadata() == {"name": "ekiben", "version": __version__, "extensions": list(EXTENSIONS)}
    assert "statistics" in EXTENSIONS
    assert "sequence" not in EXTENSIONS


def test_a_model(steady):
    host = steady.server.host
    served = host.find("grid", None)
    found = model_metadata(host, served)
    assert (found["name"], found["versions"], found["platform"]) == ("grid", ["1"], "onnx_ekiben")
    assert platform_of(served) == "onnx_ekiben"
    assert found["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 2, 3]}]
    assert [o["shape"] for o in found["outputs"]] == [[-1, 2, 3], [-1, 1]]


def test_a_model_without_a_rows_dimension(start, registry, whole_artifact):
    registry.register(whole_artifact.path, tag="whole:1")
    host = start("whole").server.host
    found = model_metadata(host, host.find("whole", None))
    assert [t["shape"] for t in (*found["inputs"], *found["outputs"])] == [[3], [], [3]]
