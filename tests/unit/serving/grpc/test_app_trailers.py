from __future__ import annotations

import pytest

from ekiben.errors import InvalidRequest
from ekiben.serving.grpc.app import check_trailers


@pytest.mark.parametrize("te", [b"trailers", b"Trailers"])
def test_a_client_that_takes_trailers_is_answered(te):
    check_trailers({b"te": te})


@pytest.mark.parametrize("headers", [{}, {b"te": b""}, {b"te": b"gzip"}])
def test_a_call_whose_status_could_not_be_sent_is_refused(headers):
    with pytest.raises(InvalidRequest, match="no te: trailers"):
        check_trailers(headers)
