"""Ground truth over HTTP: ``POST /v1/models/{model}/ground_truth`` says what really happened to rows that were predicted.

What users think of an answer, a thumb and a comment, takes the same way.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any, Final

from ekiben.errors import InvalidRequest, NotReady, PayloadTooLarge, StateError
from ekiben.guards.principal import TRUTH
from ekiben.model.spec import ModelSpec
from ekiben.serving.rest.codec import untyped
from ekiben.serving.rest.http import Receive, Response, Scope, check_json, decoded_body, json_response, only_post, read_body
from ekiben.serving.truth_items import TruthItems
from ekiben.state.truth import Truths

MAX_ITEMS: Final = 10_000
"""Items of one request, at most."""

_ROUTE: Final = re.compile(r"^/v1/models/(?P<model>[^/:]+)/ground_truth\Z")
_RETRY_AFTER_S: Final = 2.0
_SHAPE: Final = 'an object with request_id and actual, outcome, feedback or comment, a list of such, or {"ground_truth": [such, …]}'


class GroundTruth:
    """Takes ground truth.

    It may come before its prediction is known here, or days after it: both are kept and meet. The same report twice is one.

    Args:
        truths: Where it is kept.
        spec_of: The spec of a model that is served, by the model's name; raises `UnknownModel` where there is none.
        max_body_bytes: Largest body.
        wall: Seconds since the epoch.
        kept: Hears of which model how many reports were kept.
    """

    def __init__(
        self,
        truths: Truths,
        spec_of: Callable[[str], ModelSpec],
        *,
        max_body_bytes: int = 16 * 1024 * 1024,
        wall: Callable[[], float] = time.time,
        kept: Callable[[str, int], None] = lambda _model, _reports: None,
    ) -> None:
        self._truths = truths
        self._kept = kept
        self._spec_of = spec_of
        self._max_body_bytes = max_body_bytes
        self._wall = wall

    @staticmethod
    def owns(path: str) -> bool:
        """Whether a path is answered here."""
        return _ROUTE.match(path) is not None

    @staticmethod
    def needs(path: str) -> tuple[str, str] | None:
        """The scope for it, and its model."""
        match = _ROUTE.match(path)
        return (TRUTH, match["model"]) if match is not None else None

    async def answer(self, scope: Scope, receive: Receive) -> Response:
        """Answers a request: ``{"accepted": n}`` once all of it is kept durably; of a request that is refused nothing is kept.

        Raises:
            UnknownModel: There is no such model.
            MethodNotAllowed: It is not POST.
            UnsupportedMediaType: The body is not JSON, or in an encoding that is not read.
            InvalidRequest: The body is not ground truth.
            InvalidRows: Items are wrong; ``row`` of its details is the item's index.
            PayloadTooLarge: There are too many items or bytes.
            NotReady: The control database cannot be written; nothing was kept.
            Disconnected: The client went away.
        """
        match = _ROUTE.match(scope["path"])
        assert match is not None  # it is owned
        model = match["model"]
        only_post(scope)
        spec = self._spec_of(model)
        headers = dict(scope["headers"])
        check_json(headers)
        limit = self._max_body_bytes
        body = await decoded_body(await read_body(receive, headers, limit), headers, limit)
        # Ten thousand items take as long as many predictions, which must not wait for them.
        accepted = await asyncio.to_thread(self._keep, TruthItems(model, spec), body)
        self._kept(model, accepted)
        return json_response({"accepted": accepted})

    def _keep(self, items: TruthItems, body: bytes) -> int:
        truths = items.read(_items_of(untyped(body)), now=self._wall())
        try:
            self._truths.report(truths)
        except StateError as e:
            raise NotReady(f"ground truth cannot be kept now: {e}", retry_after_s=_RETRY_AFTER_S) from e
        return len(truths)


def _items_of(body: Any) -> list[Any]:
    items = body
    if isinstance(body, dict):
        items = body.get("ground_truth", [body])
        if "ground_truth" in body and len(body) > 1:
            other = next(name for name in body if name != "ground_truth")
            raise InvalidRequest(f'beside "ground_truth" stands {other!r}; send {_SHAPE}')
    if not isinstance(items, list):
        raise InvalidRequest(f"the body is no ground truth; send {_SHAPE}")
    if len(items) > MAX_ITEMS:
        raise PayloadTooLarge(f"the request has {len(items)} items; send {MAX_ITEMS} at most in one")
    return items
