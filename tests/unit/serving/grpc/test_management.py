import pytest
from google.protobuf import json_format
from tritonclient.grpc import service_pb2 as pb
from unit.serving.grpc.calling import SERVICE, Client, matrix

from ekiben import __version__
from ekiben.serving.grpc.status import Code


@pytest.fixture
def own(serving) -> Client:
    return Client(serving)


@pytest.fixture
def loading(start, registry, tiny_artifact, plane_artifact) -> Client:
    """A server that serves tiny and may be told to load plane."""
    for artifact in (tiny_artifact, plane_artifact):
        registry.register(artifact.path, tag=f"{artifact.spec.name}:1")
    return Client(start("tiny", repository_api=True))


def is_ready(client, name, version=""):
    return client.ask("ModelReady", pb.ModelReadyRequest(name=name, version=version), pb.ModelReadyResponse).ready


def refusal(client, method, message):
    reply = client.unary(SERVICE + method, message)
    return reply.code, reply.message


# health ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_live_and_ready(client):
    assert client.ask("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live
    assert client.ask("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready


def test_a_missing_model_is_not_ready(start, registry, plane_artifact):
    registry.register(plane_artifact.path, tag="plane:1")
    client = Client(start("plane", "ghost"))
    assert client.ask("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live
    assert not client.ask("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
    assert [is_ready(client, m) for m in ("plane", "ghost")] == [True, False]


def test_while_draining_nothing_is_ready(own, serving):
    serving.server.plane.draining = True
    assert client_live(own)
    assert not own.ask("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
    assert not is_ready(own, "tiny")


def client_live(client):
    return client.ask("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live


@pytest.mark.parametrize(("version", "expected"), [("", True), ("1", True), ("9", False)])
def test_models_and_their_versions_are_ready_or_not(client, version, expected):
    assert is_ready(client, "tiny", version) is expected
    assert not is_ready(client, "nobody", version)


# what there is ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_server_metadata(client, steady):
    found = client.ask("ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse)
    assert (found.name, found.version) == ("ekiben", __version__)
    assert list(found.extensions) == steady.get("/v2").json()["extensions"]


@pytest.mark.parametrize("model", ["tiny", "plane", "grid"])
@pytest.mark.parametrize("version", ["", "1"])
def test_model_metadata_is_rests(client, steady, model, version):
    found = client.ask("ModelMetadata", pb.ModelMetadataRequest(name=model, version=version), pb.ModelMetadataResponse)
    expected = steady.get(f"/v2/models/{model}").json()
    assert (found.name, list(found.versions), found.platform) == (expected["name"], expected["versions"], expected["platform"])
    for tensors, described in ((found.inputs, expected["inputs"]), (found.outputs, expected["outputs"])):
        assert [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in tensors] == described


def test_model_config(client):
    config = client.ask("ModelConfig", pb.ModelConfigRequest(name="grid"), pb.ModelConfigResponse).config
    assert (config.name, config.backend) == ("grid", "ekiben")
    assert config.max_batch_size > 0
    assert [(i.name, list(i.dims)) for i in config.input] == [("image", [2, 3])]
    assert [(o.name, list(o.dims)) for o in config.output] == [("doubled", [2, 3]), ("total", [1])]
    assert json_format.MessageToDict(config)["input"][0]["dataType"] == "TYPE_FP32"


@pytest.mark.parametrize(("method", "kind"), [("ModelMetadata", pb.ModelMetadataRequest), ("ModelConfig", pb.ModelConfigRequest)])
def test_what_nobody_knows(client, method, kind):
    code, says = refusal(client, method, kind(name="ghost"))
    assert code is Code.NOT_FOUND
    assert "there is no model 'ghost'" in says
    assert refusal(client, method, kind(name="tiny", version="9"))[0] is Code.NOT_FOUND


def test_statistics_count_what_came_over_grpc(own):
    for _ in range(3):
        own.infer(matrix([1, 2, 3], [4, 5, 6]))
    own.refusal(matrix([1, 2]))
    own.ask("ModelStatistics", pb.ModelStatisticsRequest(), pb.ModelStatisticsResponse)
    (found,) = own.ask("ModelStatistics", pb.ModelStatisticsRequest(name="plane", version="1"), pb.ModelStatisticsResponse).model_stats
    assert (found.name, found.version, found.inference_count, found.execution_count) == ("plane", "1", 6, 3)
    assert (found.inference_stats.success.count, found.inference_stats.fail.count) == (3, 1)
    assert found.inference_stats.success.ns > 0
    every = own.ask("ModelStatistics", pb.ModelStatisticsRequest(), pb.ModelStatisticsResponse).model_stats
    assert [s.name for s in every] == ["grid", "plane", "tiny"]
    assert refusal(own, "ModelStatistics", pb.ModelStatisticsRequest(name="ghost"))[0] is Code.NOT_FOUND


# the repository ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_models_are_loaded_and_unloaded(loading):
    def index(*, ready):
        found = loading.ask("RepositoryIndex", pb.RepositoryIndexRequest(ready=ready), pb.RepositoryIndexResponse)
        return [(m.name, m.version, m.state, m.reason) for m in found.models]

    assert index(ready=False) == [("plane", "", "UNAVAILABLE", "not loaded"), ("tiny", "1", "READY", "")]
    assert index(ready=True) == [("tiny", "1", "READY", "")]
    assert loading.unary(SERVICE + "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="plane")).only == b""
    assert index(ready=True) == [("plane", "1", "READY", ""), ("tiny", "1", "READY", "")]
    assert loading.infer(matrix([1, 2, 3])).model_name == "plane"

    message = pb.RepositoryModelUnloadRequest(model_name="plane")
    message.parameters["unload_dependents"].bool_param = True
    assert loading.unary(SERVICE + "RepositoryModelUnload", message).only == b""
    assert "plane was unloaded" in loading.refusal(matrix([1, 2, 3]), Code.NOT_FOUND)


def test_parameters_that_are_not_supported(loading):
    load = pb.RepositoryModelLoadRequest(model_name="plane")
    load.parameters["config"].string_param = "{}"
    code, says = refusal(loading, "RepositoryModelLoad", load)
    assert (code, "parameter 'config' is not supported" in says) == (Code.INVALID_ARGUMENT, True)
    unload = pb.RepositoryModelUnloadRequest(model_name="plane")
    unload.parameters["force"].SetInParent()
    code, says = refusal(loading, "RepositoryModelUnload", unload)
    assert (code, "parameter 'force' is not supported" in says) == (Code.INVALID_ARGUMENT, True)


def test_what_cannot_be_loaded(loading):
    assert refusal(loading, "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="ghost"))[0] is Code.NOT_FOUND
    assert refusal(loading, "RepositoryModelUnload", pb.RepositoryModelUnloadRequest())[0] is Code.NOT_FOUND


def test_what_this_servers_settings_do_not_allow(client):
    for method, kind in (
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest),
        ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest),
    ):
        code, says = refusal(client, method, kind(model_name="plane"))
        assert (code, "EKIBEN_REPOSITORY_API=on allows it" in says) == (Code.PERMISSION_DENIED, True)
    assert client.ask("RepositoryIndex", pb.RepositoryIndexRequest(), pb.RepositoryIndexResponse).models
