"""The manifests, rendered by kubectl and validated offline. A warning is a failure."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ekiben.cli.app import main
from ekiben.guards.admin_key import AdminKey
from ekiben.registry.image import USER_ID
from ekiben.settings import load_settings
from ekiben.state.webhooks import secret_of

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
OLDEST, NEWEST = "1.30", "1.37"
LABEL = {"app.kubernetes.io/name": "ekiben"}
KEYS = "/etc/ekiben"
REPLICAS = 3

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, which renders the overlays")

# KServe's kinds, as its documentation describes them, as far as these manifests use them; what is inside `containers` and
# `volumes` is Kubernetes' own and validated as such.
KSERVE = {
    "ServingRuntime": {
        "required": {"supportedModelFormats", "containers"},
        "allowed": {"supportedModelFormats", "protocolVersions", "annotations", "labels", "containers", "volumes"},
    },
    "InferenceService": {"required": {"predictor"}, "allowed": {"predictor", "transformer", "explainer"}},
}
PROTOCOLS = {"v1", "v2", "grpc-v1", "grpc-v2"}
PREDICTOR = {"minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "timeout", "model", "serviceAccountName"}
MODEL = {"modelFormat", "runtime", "protocolVersion", "storageUri", "resources", "env", "args"}


def render(overlay):
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER / overlay)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def validate(documents, tool, tmp_path):
    file = tmp_path / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    for version in (OLDEST, NEWEST):
        done = subprocess.run(
            [tool("kubernetes-validate"), "--strict", "-k", version, file], capture_output=True, text=True, timeout=120, check=False
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, printed
        lines = printed.splitlines()
        assert len(lines) == len(documents), printed
        assert all(line.startswith("INFO ") and " passed for resource " in line for line in lines), printed


def by_kind(documents):
    """Kind → its only document; the Secrets, of which there are two, are left out."""
    documents = [document for document in documents if document["kind"] != "Secret"]
    found = {document["kind"]: document for document in documents}
    assert len(found) == len(documents)
    return found


def named(documents, kind, name):
    (found,) = [d for d in documents if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    return found


def settings_of(container):
    """The settings in a container's environment, its key files being those that the Secret is made of."""
    values = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    return load_settings({n: v.replace(KEYS, str(FOLDER / "base")) for n, v in {"EKIBEN_WORKERS": "2", **values}.items()})


@pytest.mark.parametrize("overlay", ["base", "overlays/gpu", "overlays/controller", "overlays/monitor"])
def test_manifests_are_valid(overlay, tool, tmp_path):
    validate(render(overlay), tool, tmp_path)


def test_a_kind_without_a_schema_would_be_a_failure(tool, tmp_path):
    with pytest.raises(AssertionError, match="Couldn't find schema"):
        validate(render("overlays/kserve"), tool, tmp_path)


def test_a_misspelt_field_would_be_a_failure(tool, tmp_path):
    documents = render("base")
    by_kind(documents)["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 1
    with pytest.raises(AssertionError, match="terminationGracePeriodSecond"):
        validate(documents, tool, tmp_path)


def test_kserve_manifests_are_as_kserve_documents_them(tool, tmp_path):
    found = by_kind(render("overlays/kserve"))
    assert set(found) == set(KSERVE)
    for kind, fields in KSERVE.items():
        spec = found[kind]["spec"]
        assert fields["required"] <= set(spec) <= fields["allowed"]
    runtime, service = found["ServingRuntime"], found["InferenceService"]
    assert (runtime["apiVersion"], service["apiVersion"]) == ("serving.kserve.io/v1alpha1", "serving.kserve.io/v1beta1")
    assert set(runtime["spec"]["protocolVersions"]) <= PROTOCOLS
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container"
    assert container["image"] != "ekiben", "the image's name was not replaced"
    pod = {name: runtime["spec"][name] for name in ("containers", "volumes")}
    validate([{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "as-kserve-runs-it"}, "spec": pod}], tool, tmp_path)
    predictor = service["spec"]["predictor"]
    assert set(predictor) <= PREDICTOR
    assert {"modelFormat"} <= set(predictor["model"]) <= MODEL
    assert predictor["model"]["runtime"] == runtime["metadata"]["name"]
    assert predictor["model"]["modelFormat"]["name"] in [item["name"] for item in runtime["spec"]["supportedModelFormats"]]
    assert predictor["model"]["protocolVersion"] in runtime["spec"]["protocolVersions"]


def containers():
    for overlay, kind in (("base", "Deployment"), ("overlays/gpu", "Deployment"), ("overlays/kserve", "ServingRuntime")):
        spec = by_kind(render(overlay))[kind]["spec"]
        pod = spec["template"]["spec"] if kind == "Deployment" else spec
        yield pod, pod["containers"][0]
    controller = named(render("overlays/controller"), "Deployment", "ekiben-controller")["spec"]["template"]["spec"]
    yield controller, controller["containers"][0]
    monitor = named(render("overlays/monitor"), "Deployment", "ekiben-monitor")["spec"]["template"]["spec"]
    yield monitor, monitor["containers"][0]


def test_containers_have_no_rights():
    for pod, container in containers():
        context = {**pod.get("securityContext", {}), **container["securityContext"]}
        assert context["runAsNonRoot"]
        assert context["readOnlyRootFilesystem"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["runAsUser"] == USER_ID
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts) - {KEYS} == {"/tmp", "/var/lib/ekiben"}
        assert set(mounts.values()) == {volume["name"] for volume in pod["volumes"]}


def test_the_environment_holds_settings_that_there_are():
    for _, container in containers():
        settings_of(container)
        if container["name"] not in ("controller", "monitor"):
            assert {item["name"] for item in container["env"]} >= {"EKIBEN_WORKERS", "EKIBEN_DRAIN_S"}
    secret = dict(line.split("=", 1) for line in (FOLDER / "base" / "postgresql.env").read_text().split())
    assert load_settings(secret).database_url.startswith("postgresql://")


def test_a_pod_has_longer_to_leave_than_it_drains():
    deployment = by_kind(render("base"))["Deployment"]["spec"]["template"]["spec"]
    drain_s = next(float(item["value"]) for item in deployment["containers"][0]["env"] if item["name"] == "EKIBEN_DRAIN_S")
    readiness = deployment["containers"][0]["readinessProbe"]
    assert drain_s >= readiness["periodSeconds"] * readiness["failureThreshold"], "it would stop before anyone saw it unready"
    assert deployment["terminationGracePeriodSeconds"] >= drain_s + 15


def test_everything_selects_the_pods():
    found = by_kind(render("base"))
    pod = found["Deployment"]["spec"]["template"]
    assert pod["metadata"]["labels"].items() >= LABEL.items()
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == LABEL
    assert found["Service"]["spec"]["selector"] == LABEL
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == LABEL
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == LABEL
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert found["HorizontalPodAutoscaler"]["spec"]["minReplicas"] == REPLICAS
    assert found["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    for constraint in pod["spec"]["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"] == LABEL
    names = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    ports = {port["name"]: port for port in found["Service"]["spec"]["ports"]}
    assert {port["targetPort"] for port in ports.values()} == names == {"http", "data"}
    assert ports["data"]["appProtocol"] == "kubernetes.io/h2c"
    assert {port["port"] for rule in found["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]} == names
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(pod["spec"]["containers"][0]["ports"][0]["containerPort"])


def secrets(documents):
    """What a Secret was made for → its name with the hash of its content, and its keys."""
    found = [d for d in documents if d["kind"] == "Secret"]
    return {d["metadata"]["name"].rpartition("-")[0]: (d["metadata"]["name"], set(d["data"])) for d in found}


@pytest.mark.parametrize("overlay", ["base", "overlays/gpu", "overlays/controller"])
def test_every_replica_has_the_database_and_the_admin_key_of_all(overlay):
    documents = render(overlay)
    database, keys = (secrets(documents)[name] for name in ("ekiben-database", "ekiben-keys"))
    assert (database[1], keys[1]) == ({"EKIBEN_DATABASE_URL"}, {"admin.key", "webhook.secret"})
    pod = named(documents, "Deployment", "ekiben")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["envFrom"] == [{"secretRef": {"name": database[0]}}]
    (volume,) = [v for v in pod["volumes"] if v["name"] == "keys"]
    assert volume["secret"]["secretName"] == keys[0]
    assert "items" not in volume["secret"]
    assert volume["secret"]["defaultMode"] == 0o440, "others than the server's group may read the key"
    assert pod["securityContext"]["fsGroup"] == USER_ID, "the server may not read the key"
    assert {"mountPath": KEYS, "name": "keys", "readOnly": True} in container["volumeMounts"]
    settings = settings_of(container)
    assert settings.admin_key_file == FOLDER / "base" / "admin.key"
    assert settings.webhook_secret_file == FOLDER / "base" / "webhook.secret"


def test_keys_that_everybody_can_read_here_open_nothing():
    base = FOLDER / "base"
    assert AdminKey(base / "admin.key").check(b"Bearer " + (base / "admin.key").read_bytes().strip()) == "off"
    with pytest.raises(ValueError, match="empty"):
        secret_of((base / "webhook.secret").read_bytes())


def test_a_pod_is_asked_whether_it_lives_and_whether_it_answers():
    container = by_kind(render("base"))["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    paths = {probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    # /livez knows nothing of models and database: neither may have all pods restarted at once.
    assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}


def test_servers_carry_out_rollouts_unless_there_is_a_controller():
    for overlay, expected in (("base", True), ("overlays/controller", False)):
        deployment = named(render(overlay), "Deployment", "ekiben")
        assert settings_of(deployment["spec"]["template"]["spec"]["containers"][0]).controller is expected


def test_the_controller_is_of_the_servers_image_and_database_and_gets_no_requests():
    documents = render("overlays/controller")
    server, controller = (named(documents, "Deployment", name)["spec"] for name in ("ekiben", "ekiben-controller"))
    pod = controller["template"]["spec"]
    (container,), (of_server,) = pod["containers"], server["template"]["spec"]["containers"]
    assert container["image"] == of_server["image"] != "ekiben"
    assert container["envFrom"] == of_server["envFrom"]
    assert container["command"][:4] == ["python", "-m", "ekiben", "controller"]
    assert controller["replicas"] == 2, "the second takes over when the first ends"
    labels = controller["template"]["metadata"]["labels"]
    assert controller["selector"]["matchLabels"] == labels
    for kind in ("Service", "PodDisruptionBudget"):
        selector = named(documents, kind, "ekiben")["spec"]["selector"]
        assert not selector.get("matchLabels", selector).items() <= labels.items()
    policy = named(documents, "NetworkPolicy", "ekiben-controller")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert not policy.get("ingress")
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 5432, 9090}
    (volume,) = [v for v in pod["volumes"] if v["name"] == "keys"]
    assert volume["secret"]["secretName"] == secrets(documents)["ekiben-keys"][0]
    assert [item["key"] for item in volume["secret"]["items"]] == ["webhook.secret"], "nobody needs the admin API's key there"


def test_the_command_that_the_controller_runs_is_one():
    controller = named(render("overlays/controller"), "Deployment", "ekiben-controller")
    command = controller["spec"]["template"]["spec"]["containers"][0]["command"]
    name, *options = command[command.index("ekiben") + 1 :]
    assert set(options) <= {option for parameter in main.commands[name].params for option in parameter.opts}


def test_the_monitor_reads_what_all_servers_ship_and_gets_no_requests():
    documents = render("overlays/monitor")
    server, monitor = (named(documents, "Deployment", name)["spec"] for name in ("ekiben", "ekiben-monitor"))
    pod = monitor["template"]["spec"]
    (container,), (of_server,) = pod["containers"], server["template"]["spec"]["containers"]
    (log,) = [d for d in documents if d["kind"] == "ConfigMap"]
    assert load_settings(log["data"]).log_uri == log["data"]["EKIBEN_LOG_URI"]
    database = secrets(documents)["ekiben-database"][0]
    assert container["envFrom"] == of_server["envFrom"]
    assert container["envFrom"] == [{"secretRef": {"name": database}}, {"configMapRef": {"name": log["metadata"]["name"]}}]
    assert container["image"] not in ("ekiben-monitor", of_server["image"]), "the servers' image cannot check"
    assert pod["serviceAccountName"] == server["template"]["spec"]["serviceAccountName"], "it may do on object storage what they may"
    assert settings_of(of_server).monitor, "each server's own monitor ships its log"
    name, sub, *options = container["command"][3:]
    command = main.commands[name].commands[sub]
    assert set(options) <= {option for parameter in command.params for option in parameter.opts}
    labels = monitor["template"]["metadata"]["labels"]
    assert (monitor["replicas"], monitor["selector"]["matchLabels"]) == (1, labels)
    for kind in ("Service", "PodDisruptionBudget"):
        selector = named(documents, kind, "ekiben")["spec"]["selector"]
        assert not selector.get("matchLabels", selector).items() <= labels.items()
    policy = named(documents, "NetworkPolicy", "ekiben-monitor")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert not policy.get("ingress")
    outside = named(documents, "NetworkPolicy", "ekiben-log")["spec"]
    (expression,) = outside["podSelector"]["matchExpressions"]
    assert set(expression["values"]) == {labels["app.kubernetes.io/name"], LABEL["app.kubernetes.io/name"]}
    assert outside["policyTypes"] == ["Egress"], "nobody else is let in by it"
    (volume,) = [v for v in pod["volumes"] if v["name"] == "keys"]
    assert [item["key"] for item in volume["secret"]["items"]] == ["webhook.secret"]


def test_the_gpu_overlay_asks_for_a_gpu_and_scales_by_the_queue_alone():
    found = by_kind(render("overlays/gpu"))
    container = found["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["resources"]["limits"]["cpu"] == "2", "the patch replaced what it should only add to"
    env = {item["name"]: item["value"] for item in container["env"]}
    assert env["EKIBEN_ONNX_PROVIDERS"].split(",")[0] == "CUDAExecutionProvider"
    assert [metric["type"] for metric in found["HorizontalPodAutoscaler"]["spec"]["metrics"]] == ["Pods"]


def test_the_autoscalers_metric_is_one_that_the_documented_rule_makes_of_ours():
    found = by_kind(render("base"))
    (metric,) = [item["pods"]["metric"]["name"] for item in found["HorizontalPodAutoscaler"]["spec"]["metrics"] if item["type"] == "Pods"]
    readme = (FOLDER / "README.md").read_text()
    (block,) = re.findall(r"```yaml\n(rules:.*?)```", readme, re.DOTALL)
    (rule,) = yaml.safe_load(block)["rules"]
    assert rule["name"]["as"] == metric
    assert set(re.findall(r"ekiben_\w+?(?=_count|_sum)", rule["seriesQuery"] + rule["metricsQuery"])) == {"ekiben_queue_seconds"}
    assert '"ekiben_queue_seconds"' in (ROOT / "ekiben/monitoring/metrics.py").read_text()
