"""An answer that no model computed: the default of the spec, while the version is broken."""

from __future__ import annotations

from typing import Any

from ekiben.errors import InvalidRows
from ekiben.model.signature import Payload
from ekiben.serving.batch_run import Answer
from ekiben.serving.loaded_version import LoadedVersion


def default_answer(served: LoadedVersion, call: Any, payload: Payload, n: int, now: float) -> Answer:
    """Answers a request of n rows with the default of its version's spec, and records that.

    Its rows are checked all the same: what is no valid request does not become one because the model is broken. It is counted and
    logged as its arm's, and is nothing that the model did: it says nothing to the breaker, and counts as no row computed.

    Args:
        served: The version that is broken; one whose spec has a default.
        call: The request.
        payload: Its rows.
        n: How many.
        now: The clock.

    Raises:
        InvalidRows: Rows break the signature.
    """
    assert served.default is not None  # its spec has one
    signature = served.predictor.signature
    batch = signature.merge([payload])
    if faults := signature.check(batch):
        raise InvalidRows(faults)
    answer = Answer(served.default.outputs(n), 0, n, batch)
    served.record.defaulted(call, answer, now - call.received)
    return answer
