"""What the OpenAPI documents say is how the server answers: requests are made of them, valid ones and others, and no answer may surprise.

The documents are BentoML's, with the typed endpoints, and the admin API's, with its key. ``SCHEMATHESIS_EXAMPLES=1000 pytest
tests/integration/test_schemathesis.py`` makes more requests of each operation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from integration.clients.pantry import fill, wait_for_workers
from integration.running import Project, Running
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

pytestmark = pytest.mark.processes

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "30"))
PLAY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES == 30,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
OF_ADMIN = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OF_BENTOML = [not_a_server_error]
"""BentoML's document names the errors of its own, and not all that a typed endpoint may answer."""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("schemathesis")
    project = Project(root / "project")
    fill(project, root / "files")
    with Running(project, workers=1) as running:
        wait_for_workers(running, 1)
        yield running


@pytest.fixture(scope="module")
def key(server) -> dict[str, str]:
    return {"authorization": f"Bearer {(server.project.root / 'home' / 'admin.key').read_text().strip()}"}


def play(schema, headers: dict[str, str], checks: list) -> int:
    """Plays every operation; how many there are."""
    mode = st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:
        strategies = {GenerationMode.POSITIVE: operation.as_strategy(generation_mode=GenerationMode.POSITIVE)}
        strategies[GenerationMode.NEGATIVE] = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

        @PLAY
        @given(mode.flatmap(strategies.__getitem__))
        def ask(case):
            case.call_and_validate(headers=headers, checks=checks, timeout=20)

        ask()
    return len(operations)


def test_the_admin_api_answers_as_it_says(server, key):
    schema = schemathesis.openapi.from_url(f"{server.url}/admin/v1/openapi.json", headers=key)

    assert play(schema, key, OF_ADMIN) > 10


def test_no_typed_endpoint_fails(server):
    schema = schemathesis.openapi.from_url(f"{server.url}/docs.json")
    named = schema.include(path_regex=r"^/(tiny|image|texts|all_types|several|square)$")

    assert play(named, {}, OF_BENTOML) == 6
    assert "Traceback" not in server.log.read_text(errors="replace")
