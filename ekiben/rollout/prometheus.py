"""Asks a Prometheus server for one number, by its HTTP API."""

from __future__ import annotations

from typing import Any

import msgspec

from ekiben.errors import MeasurementFailed
from ekiben.model.rollout_spec import PrometheusSpec
from ekiben.shown_url import shown_url


class PrometheusQuery:
    """Evaluates queries at the moment they are asked: ``GET /api/v1/query``.

    Args:
        address: The server that queries without an address of their own go to, ``EKIBEN_PROMETHEUS_URL``; empty for none.
        timeout_s: Seconds to wait for an answer, at most.
        transport: What carries the request, an ``httpx.BaseTransport``; None takes the network.
    """

    def __init__(self, address: str = "", *, timeout_s: float = 2.0, transport: Any = None) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._transport = transport

    def __call__(self, spec: PrometheusSpec) -> float | None:
        """The number; None where no series answers the query.

        Raises:
            MeasurementFailed: No server is known, it does not answer in time, refuses the query, or gives several series.
        """
        address = (spec.address or self._address).rstrip("/")
        if not address:
            raise MeasurementFailed("no Prometheus server is known; set EKIBEN_PROMETHEUS_URL, or address: beside the query")
        answer = self._asked(address, spec.query)
        address = shown_url(address)
        data = answer.get("data")
        if not isinstance(data, dict):
            raise MeasurementFailed(f"{address} is no Prometheus server: its answer has no data")
        kind, result = data.get("resultType"), data.get("result")
        if kind == "scalar":
            return _number(result, address)
        if kind != "vector" or not isinstance(result, list):
            raise MeasurementFailed(f"{spec.query} gives a {kind}; write a query that gives one number, like sum(rate(...[1m]))")
        if len(result) > 1:
            raise MeasurementFailed(f"{spec.query} gives {len(result)} series; aggregate them to one, for example with sum(...)")
        return _number(result[0].get("value"), address) if result else None

    def _asked(self, address: str, query: str) -> dict[str, Any]:
        import httpx  # noqa: PLC0415  only analyses that query need it

        shown = shown_url(address)
        try:
            with httpx.Client(timeout=self._timeout_s, transport=self._transport, trust_env=False) as client:
                response = client.get(f"{address}/api/v1/query", params={"query": query, "timeout": f"{self._timeout_s:g}s"})
        except httpx.InvalidURL:
            # NOTE: the message may quote the part of the URL that is wrong, which may be of the password.
            raise MeasurementFailed(
                "Prometheus cannot be asked: its address is no URL; it must be one like http://prometheus:9090"
            ) from None
        except httpx.HTTPError as e:
            reason = f"does not answer within {self._timeout_s:g} s" if isinstance(e, httpx.TimeoutException) else f"cannot be asked: {e}"
            raise MeasurementFailed(f"Prometheus at {shown} {reason}") from None
        try:
            answer = msgspec.json.decode(response.content)
        except msgspec.DecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise MeasurementFailed(f"{shown} is no Prometheus server: it answered {response.status_code} with no JSON object")
        if response.is_error or answer.get("status") != "success":
            raise MeasurementFailed(f"Prometheus at {shown} refuses {query}: {answer.get('error') or response.status_code}")
        return answer


def _number(value: Any, address: str) -> float:
    """The number of a sample ``[time, text]``."""
    try:
        return float(value[1])
    except (TypeError, LookupError, ValueError):
        raise MeasurementFailed(f"{address} is no Prometheus server: {value!r} is no sample") from None
