from __future__ import annotations

import pytest
from unit.serving.grpc.calling import Client


@pytest.fixture
def client(steady) -> Client:
    """Calls a server that all tests share."""
    return Client(steady)
