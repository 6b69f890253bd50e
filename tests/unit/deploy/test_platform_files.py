"""The files in deploy/ for hosting platforms have the fields that the platforms' public references name, and say what Ekiben answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ekiben.serving.rest.platforms import SCORING, PlatformRoutes
from ekiben.settings import load_settings

DEPLOY = Path(__file__).parents[3] / "deploy"


def read(path: str) -> Any:
    text = (DEPLOY / path).read_text()
    return json.loads(text) if path.endswith(".json") else yaml.safe_load(text)


# Required and other members, from the references of the APIs that take these files.
SHAPES: dict[str, tuple[set[str], set[str]]] = {
    "CreateModel": ({"ModelName"}, {"ExecutionRoleArn", "PrimaryContainer", "EnableNetworkIsolation", "Tags", "VpcConfig"}),
    "CreateModel.PrimaryContainer": (set(), {"Image", "Environment", "ModelDataUrl", "ContainerHostname"}),
    "CreateEndpointConfig": ({"EndpointConfigName", "ProductionVariants"}, {"DataCaptureConfig", "Tags"}),
    "CreateEndpointConfig.ProductionVariants": (
        {"VariantName"},
        {"ModelName", "InstanceType", "InitialInstanceCount", "InitialVariantWeight", "ContainerStartupHealthCheckTimeoutInSeconds"},
    ),
    "CreateEndpoint": ({"EndpointName", "EndpointConfigName"}, {"DeploymentConfig", "Tags"}),
    "CreateTransformJob": (
        {"TransformJobName", "ModelName", "TransformInput", "TransformOutput", "TransformResources"},
        {"BatchStrategy", "MaxConcurrentTransforms", "MaxPayloadInMB", "Environment", "DataProcessing"},
    ),
    "CreateTransformJob.TransformInput": ({"DataSource"}, {"ContentType", "CompressionType", "SplitType"}),
    "CreateTransformJob.TransformOutput": ({"S3OutputPath"}, {"Accept", "AssembleWith", "KmsKeyId"}),
    "CreateTransformJob.TransformResources": ({"InstanceType", "InstanceCount"}, {"VolumeKmsKeyId"}),
    "ModelContainerSpec": (
        {"imageUri"},
        {"command", "args", "env", "ports", "grpcPorts", "predictRoute", "healthRoute", "startupProbe", "healthProbe", "livenessProbe"},
    ),
    "AzureEnvironment": ({"$schema", "name", "image", "inference_config"}, {"version", "description", "tags"}),
    "AzureRoutes": ({"liveness_route", "readiness_route", "scoring_route"}, set()),
    "AzureEndpoint": ({"$schema", "name"}, {"auth_mode", "description", "tags", "traffic", "identity"}),
    "AzureDeployment": (
        {"$schema", "name", "endpoint_name"},
        {
            "environment", "environment_variables", "instance_type", "instance_count", "request_settings", "liveness_probe",
            "readiness_probe", "scale_settings", "model", "app_insights_enabled",
        },
    ),
    "AzureProbe": (set(), {"initial_delay", "period", "timeout", "success_threshold", "failure_threshold"}),
    "AzureRequests": (set(), {"request_timeout_ms", "max_concurrent_requests_per_instance", "max_queue_wait_ms"}),
    "RunContainer": ({"image"}, {"name", "ports", "env", "resources", "startupProbe", "livenessProbe", "command", "args"}),
    "RunProbe": (set(), {"httpGet", "periodSeconds", "timeoutSeconds", "failureThreshold", "initialDelaySeconds"}),
    "RunSpec": ({"containers"}, {"containerConcurrency", "timeoutSeconds", "serviceAccountName", "volumes"}),
    "DatabricksEntity": (
        {"entity_name", "entity_version"},
        {"name", "workload_type", "workload_size", "scale_to_zero_enabled", "environment_vars"},
    ),
}  # fmt: skip


def check(shape: str, value: dict[str, Any]) -> None:
    required, others = SHAPES[shape]
    assert required <= value.keys() <= required | others, shape


@pytest.fixture
def answered(tmp_path):
    """The health paths and scoring paths of a server whose platform sets these variables."""

    def routes(**environ: str) -> PlatformRoutes:
        return PlatformRoutes(load_settings({"EKIBEN_HOME": str(tmp_path), **environ}))

    return routes


@pytest.mark.parametrize(
    ("file", "operation", "parts"),
    [
        ("model", "CreateModel", ["PrimaryContainer"]),
        ("endpoint-config", "CreateEndpointConfig", ["ProductionVariants"]),
        ("endpoint", "CreateEndpoint", []),
        ("transform-job", "CreateTransformJob", ["TransformInput", "TransformOutput", "TransformResources"]),
    ],
)
def test_sagemaker(file, operation, parts):
    request = read(f"sagemaker/{file}.json")
    check(operation, request)
    for part in parts:
        for value in request[part] if isinstance(request[part], list) else [request[part]]:
            check(f"{operation}.{part}", value)


def test_sagemakers_files_belong_together():
    model, config, endpoint, job = (read(f"sagemaker/{name}.json") for name in ("model", "endpoint-config", "endpoint", "transform-job"))
    assert {v["ModelName"] for v in config["ProductionVariants"]} == {job["ModelName"]} == {model["ModelName"]}
    assert endpoint["EndpointConfigName"] == config["EndpointConfigName"]
    assert re.fullmatch(r"arn:aws:iam::\d{12}:role/.+", model["ExecutionRoleArn"])
    load_settings(model["PrimaryContainer"]["Environment"])


def test_vertex(answered):
    (model,) = read("vertex/upload.json").values()
    spec = model["containerSpec"]
    check("ModelContainerSpec", spec)
    routes = answered(AIP_HEALTH_ROUTE=spec["healthRoute"], AIP_PREDICT_ROUTE=spec["predictRoute"], AIP_HTTP_PORT="8080")
    assert routes.health(spec["healthRoute"]) == "/readyz"
    assert load_settings({e["name"]: e["value"] for e in spec["env"]}).platform_model == "flight_delay"


def test_azure_ml():
    environment, endpoint, deployment = (read(f"azureml/{name}.yaml") for name in ("environment", "endpoint", "deployment"))
    check("AzureEnvironment", environment)
    check("AzureRoutes", environment["inference_config"])
    assert all(route.keys() == {"path", "port"} for route in environment["inference_config"].values())
    assert environment["inference_config"]["scoring_route"]["path"] in SCORING
    check("AzureEndpoint", endpoint)
    check("AzureDeployment", deployment)
    check("AzureRequests", deployment["request_settings"])
    for probe in ("liveness_probe", "readiness_probe"):
        check("AzureProbe", deployment[probe])
    assert deployment["endpoint_name"] == endpoint["name"]
    assert deployment["environment"] == f"azureml:{environment['name']}@latest"
    load_settings(deployment["environment_variables"])


def test_cloud_run():
    service = read("cloudrun/service.yaml")
    assert (service["apiVersion"], service["kind"]) == ("serving.knative.dev/v1", "Service")
    spec = service["spec"]["template"]["spec"]
    check("RunSpec", spec)
    (container,) = spec["containers"]
    check("RunContainer", container)
    (port,) = container["ports"]
    assert port["name"] in ("http1", "h2c")
    for name in ("startupProbe", "livenessProbe"):
        check("RunProbe", container[name])
        assert container[name]["httpGet"]["port"] == port["containerPort"]
    settings = load_settings(
        {e["name"]: e["value"] for e in container["env"]} | {"K_SERVICE": "ekiben", "PORT": str(port["containerPort"])}
    )
    assert settings.platform_port == port["containerPort"]
    assert settings.drain_s < 10


def test_databricks():
    request = read("databricks/endpoint.json")
    (entity,) = request["config"]["served_entities"]
    check("DatabricksEntity", entity)
    (route,) = request["config"]["traffic_config"]["routes"]
    assert route == {"served_model_name": entity["name"], "traffic_percentage": 100}


@pytest.mark.parametrize("platform", ["sagemaker", "vertex", "azureml", "databricks", "cloudrun"])
def test_each_readme_names_only_files_and_settings_that_there_are(platform):
    text = (DEPLOY / platform / "README.md").read_text()
    for name in set(re.findall(r"EKIBEN_[A-Z_]+[A-Z]", text)) - {"EKIBEN_TLS"}:
        assert name in (load_settings.__globals__["__doc__"] or ""), name
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (DEPLOY / platform / link).exists(), link
    for file in re.findall(r"(?<![\w/.-])[\w-]+\.(?:json|yaml|py)(?!\w)", text):
        assert file == "request.json" or (DEPLOY / platform / file).exists(), file
