"""What a server's admin API is asked with: the same operations as on the control database itself, over HTTP."""

from __future__ import annotations

from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from ekiben.errors import EkibenError, RolloutChanged, RolloutRefused, SettingError, StateError, UnknownRollout
from ekiben.model.rollout_spec import PlanSpec
from ekiben.rollout.views import RollbackView, StatusView
from ekiben.shown_url import shown_url
from ekiben.state.events import Event
from ekiben.state.rollouts import Rollout
from ekiben.state.routes import Route

_T = TypeVar("_T")
_TIMEOUT_S: Final = 15.0
_ERRORS: Final[dict[int, type[EkibenError]]] = {
    400: RolloutRefused,
    401: SettingError,
    403: SettingError,
    404: UnknownRollout,
    409: RolloutChanged,
    422: RolloutRefused,
    503: StateError,
}


class AdminClient:
    """Asks one server.

    Args:
        url: The server, as ``https://host:port``; its own path, behind a proxy, may follow.
        key: The key of its admin API.
        transport: What carries the requests; None for the network.

    Raises:
        SettingError: The URL is none, or the key cannot stand in a header.
    """

    def __init__(self, url: str, key: str, *, transport: httpx.BaseTransport | None = None) -> None:
        try:
            is_url = url.startswith(("http://", "https://")) and bool(urlsplit(url).hostname) and urlsplit(url).port != 0
        except ValueError:
            is_url = False
        if not is_url:
            raise SettingError(f"--server is {url!r}; it must be a URL like http://localhost:3000")
        if not key.isascii() or not key.isprintable() or not key:
            raise SettingError("the key of the admin API must be printable ASCII, as in admin.key on the server")
        self.url = shown_url(url.rstrip("/"))
        self._http = httpx.Client(
            base_url=f"{url.rstrip('/')}/admin/v1",
            headers={"authorization": f"Bearer {key}"},
            timeout=_TIMEOUT_S,
            transport=transport,
        )

    def ask(self, method: str, path: str, kind: type[_T], *, query: dict[str, Any] | None = None, body: Any = None) -> _T:
        """Asks for something.

        Args:
            method: The method.
            path: What stands behind ``/admin/v1``.
            kind: What is answered.
            query: What stands behind ``?``; what is None is left out.
            body: What msgspec encodes as the body; None for no body.

        Raises:
            EkibenError: The one that the server met; `StateError` where the server does not answer, or not now.
        """
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"content-type": "application/json"}
        given = {name: _in_query(value) for name, value in (query or {}).items() if value is not None}
        try:
            answer = self._http.request(method, path, params=given, content=content, headers=headers)
        except httpx.HTTPError as e:
            raise StateError(f"the server at {self.url} does not answer: {e or type(e).__name__}") from None
        if not answer.is_success:
            raise _ERRORS.get(answer.status_code, EkibenError)(self._problem(answer))
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise EkibenError(f"the server at {self.url} answered what cannot be read, is it another version of Ekiben? {e}") from None

    def _problem(self, answer: httpx.Response) -> str:
        try:
            return str(msgspec.json.decode(answer.content)["error"])
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
            return f"the server at {self.url} answered {answer.status_code} {answer.reason_phrase}; is there an admin API of Ekiben?"


class RemoteOperations:
    """`ekiben.rollout.interface.RolloutOperations`, answered by a server.

    Args:
        client: Asks it.
    """

    def __init__(self, client: AdminClient) -> None:
        self._client = client

    def start(self, model: str, to: str, *, plan: PlanSpec | None = None) -> StatusView:
        """See `RolloutOperations`."""
        body = {"model": model, "to": to} if plan is None else {"model": model, "to": to, "plan": plan}
        return self._client.ask("POST", "/rollouts", StatusView, body=body)

    def status(self, model_or_id: str) -> StatusView:
        """See `RolloutOperations`."""
        return self._client.ask("GET", f"/rollouts/{_part(model_or_id)}", StatusView)

    def promote(self, model: str, *, full: bool = False) -> StatusView:
        """See `RolloutOperations`."""
        return self._act(model, "promote", {"full": full})

    def pause(self, model: str) -> StatusView:
        """See `RolloutOperations`."""
        return self._act(model, "pause")

    def resume(self, model: str) -> StatusView:
        """See `RolloutOperations`."""
        return self._act(model, "resume")

    def abort(self, model: str, *, reason: str = "") -> StatusView:
        """See `RolloutOperations`."""
        return self._act(model, "abort", {"reason": reason})

    def rollback(self, model: str, *, to: str | None = None) -> StatusView | RollbackView:
        """See `RolloutOperations`."""
        raw = self._client.ask("POST", f"/models/{_part(model)}/rollback", dict[str, Any], body={"to": to})
        return msgspec.convert(raw, StatusView) if "steps" in raw else msgspec.convert(raw, RollbackView)

    def history(self, model: str, *, after: int = 0, limit: int = 100) -> list[Event]:
        """See `RolloutOperations`."""
        return self._client.ask("GET", f"/models/{_part(model)}/events", list[Event], query={"after": after, "limit": limit})

    def rollouts(self, *, model: str | None = None, active: bool | None = None, limit: int = 100) -> list[Rollout]:
        """See `RolloutOperations`."""
        return self._client.ask("GET", "/rollouts", list[Rollout], query={"model": model, "active": active, "limit": limit})

    def plan(self, model: str, *, to: str | None = None) -> PlanSpec:
        """See `RolloutOperations`."""
        return self._client.ask("GET", f"/models/{_part(model)}/plan", PlanSpec, query={"to": to})

    def route(self, model: str) -> Route:
        """See `RolloutOperations`."""
        return self._client.ask("GET", f"/models/{_part(model)}/route", Route)

    def _act(self, model: str, verb: str, body: dict[str, Any] | None = None) -> StatusView:
        return self._client.ask("POST", f"/rollouts/{_part(model)}/{verb}", StatusView, body=body)


def _in_query(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _part(text: str) -> str:
    """A part of a path, whatever is in it."""
    return quote(text, safe="")
