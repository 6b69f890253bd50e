"""TLS on the data port, and certificates that clients must show."""

from __future__ import annotations

import subprocess
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from integration.clients.pantry import tiny_probabilities
from integration.clients.tensors import columns, inputs_of, tiny_rows
from integration.running import Running
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.processes

ROWS = tiny_rows(3)


class Certificates:
    """An authority, a server's certificate for 127.0.0.1 and localhost, and a client's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ca, self._ca_key = folder / "ca.pem", folder / "ca.key"
        request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        self._openssl(*request, "-subj", "/CN=test authority", "-addext", "keyUsage=keyCertSign", "-keyout", self._ca_key, "-out", self.ca)
        self.server, self.server_key = self._signed("server", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        self.client, self.client_key = self._signed("client", "extendedKeyUsage=clientAuth")

    def _signed(self, name: str, extension: str) -> tuple[Path, Path]:
        certificate, key, asked, extensions = (self._folder / f"{name}.{end}" for end in ("pem", "key", "csr", "ext"))
        extensions.write_text(f"basicConstraints=CA:FALSE\n{extension}\n")
        ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        self._openssl("req", *ec, "-subj", f"/CN={name}", "-keyout", key, "-out", asked)
        sign = ["x509", "-req", "-days", "2", "-CA", self.ca, "-CAkey", self._ca_key, "-CAcreateserial", "-extfile", extensions]
        self._openssl(*sign, "-in", asked, "-out", certificate)
        return certificate, key

    @staticmethod
    def _openssl(*arguments) -> None:
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module", params=["server shows its own", "both show theirs"])
def secured(request, pantry, certificates):
    """A server with TLS, and whether it wants a client's certificate."""
    is_mutual = request.param == "both show theirs"
    env = {"EKIBEN_TLS_CERTIFICATE": str(certificates.server), "EKIBEN_TLS_KEY": str(certificates.server_key)}
    if is_mutual:
        env["EKIBEN_TLS_CLIENT_CA"] = str(certificates.ca)
    with Running(pantry, workers=1, **env) as running:
        running.wait()
        yield running, is_mutual


def credentials(certificates: Certificates, *, is_mutual: bool) -> dict[str, str]:
    shown = {"private_key": str(certificates.client_key), "certificate_chain": str(certificates.client)} if is_mutual else {}
    return {"root_certificates": str(certificates.ca), **shown}


def test_tritonclient(secured, certificates):
    server, is_mutual = secured
    with triton.InferenceServerClient(
        f"127.0.0.1:{server.data_port}", ssl=True, **credentials(certificates, is_mutual=is_mutual)
    ) as client:
        assert client.is_server_ready()
        result = client.infer("tiny", inputs_of(triton, columns(ROWS)))
        np.testing.assert_allclose(result.as_numpy("probabilities"), tiny_probabilities(ROWS), rtol=1e-5)


def test_grpcio(secured, certificates):
    server, is_mutual = secured
    shown = (certificates.client_key.read_bytes(), certificates.client.read_bytes()) if is_mutual else ()
    channel_credentials = grpc.ssl_channel_credentials(certificates.ca.read_bytes(), *shown)
    with grpc.secure_channel(f"localhost:{server.data_port}", channel_credentials) as channel:
        assert service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerLive(pb.ServerLiveRequest(), timeout=20).live


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl(secured, certificates, version):
    server, is_mutual = secured
    command = ["curl", "-sS", "--fail", version, "--cacert", certificates.ca, "-w", "\n%{http_version}"]
    command += ["--cert", certificates.client, "--key", certificates.client_key] if is_mutual else []
    asked = subprocess.run(
        [*command, f"https://127.0.0.1:{server.data_port}/v2/health/ready"], capture_output=True, text=True, timeout=30, check=False
    )
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.splitlines() == ['{"ready":true}', "2" if version == "--http2" else "1.1"]


def test_who_does_not_trust_or_is_not_trusted_is_not_answered(secured, certificates):
    server, is_mutual = secured
    with triton.InferenceServerClient(f"127.0.0.1:{server.data_port}") as plain, pytest.raises(InferenceServerException):
        plain.is_server_live(client_timeout=5)
    with pytest.raises(httpx.TransportError):
        httpx.get(server.data_url + "/v2/health/ready")
    nobody_shown = ["curl", "-sS", "--cacert", certificates.ca, f"https://127.0.0.1:{server.data_port}/v2/health/ready"]
    asked = subprocess.run(nobody_shown, capture_output=True, timeout=30, check=False)
    assert (asked.returncode == 0) == (not is_mutual)
    # The other port is BentoML's, and has its own settings for TLS.
    assert httpx.get(server.url + "/v2/health/ready").status_code == 200
