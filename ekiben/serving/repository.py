"""The model repository extension: what could be loaded, and having it loaded or unloaded.

Loading and unloading are asked for in the control database, so that every worker and replica follows within a second; the
worker that gets the call has done it when it answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ekiben.errors import Forbidden, InvalidRequest, LoadFailed, NotReady, StateError, UnknownModel
from ekiben.registry import Registry
from ekiben.serving.host import Host

READY, UNAVAILABLE, LOADING, UNLOADING = "READY", "UNAVAILABLE", "LOADING", "UNLOADING"


class Repository:
    """Answers the extension's calls.

    Args:
        host: The loaded versions.
        registry: Where versions are, and what was asked to be loaded or unloaded.
        allowed: Whether clients may load and unload (``EKIBEN_REPOSITORY_API``).
    """

    def __init__(self, host: Host, registry: Registry, *, allowed: bool) -> None:
        self._host = host
        self._registry = registry
        self._allowed = allowed

    async def index(self, *, ready_only: bool = False) -> list[dict[str, str]]:
        """Every model of the store and of the models folder.

        Args:
            ready_only: Leaves out what cannot answer.

        Returns:
            Dicts of ``name``, ``version``, ``state`` and ``reason``, by name and version: one for each version that is, will
            be or should be in memory, and one without a version for a model that has none of these.
        """
        stored = await asyncio.to_thread(self._registry.models)
        host, snapshot = self._host, self._host.snapshot
        states: dict[tuple[str, str], tuple[str, str]] = {}
        for name, why in snapshot.problems.items():
            model, _, version = name.partition(":")
            states[model, version] = (UNAVAILABLE, why)
        states |= dict.fromkeys(host.loading, (LOADING, ""))
        states |= dict.fromkeys(host.unloading, (UNLOADING, ""))
        states |= dict.fromkeys(snapshot.loaded, (READY, ""))
        with_version = {model for model, version in states if version}
        for model in {*stored, *host.folder, *snapshot.models}:
            if model in with_version:
                states.pop((model, ""), None)
            elif (model, "") not in states:
                states[model, ""] = (UNAVAILABLE, "unloaded" if model in snapshot.unloaded else "not loaded")
        return [
            {"name": model, "version": version, "state": state, "reason": reason}
            for (model, version), (state, reason) in sorted(states.items())
            if state == READY or not ready_only
        ]

    async def load(self, model: str, parameters: Mapping[str, Any]) -> None:
        """Has a model of the store served, with its champion and challenger; tries again where that failed before.

        Args:
            model: Its name, whether it is in the models folder or not.
            parameters: None is supported: a version is served as it was registered.

        Raises:
            Forbidden: Clients may not.
            InvalidRequest: There are parameters.
            UnknownModel: There is no such model.
            LoadFailed: Its champion is refused; the request to have it loaded stays until `unload`.
            NotReady: The control database cannot be read or written.
        """
        self._check_allowed("loads", model)
        if parameters:
            raise InvalidRequest(
                f"the parameter {next(iter(parameters))!r} is not supported: a version is served as it was registered; "
                "register another version and give it the alias"
            )
        await self._ask(model, loaded=True)
        snapshot = self._host.snapshot
        why, champion = snapshot.problems.get(model), snapshot.default.get(model)
        if champion is None or why is not None:
            goes_on = "" if champion is None else f"; {champion.version} goes on answering"
            raise LoadFailed(f"{model} cannot be loaded: {why or 'it was unloaded meanwhile'}{goes_on}")

    async def unload(self, model: str, parameters: Mapping[str, Any]) -> None:
        """Has a model served no more; requests it has taken are answered. It stays so over restarts, until `load`.

        Args:
            model: Its name.
            parameters: ``unload_dependents``, which changes nothing, as no model here depends on another.

        Raises:
            Forbidden: Clients may not.
            InvalidRequest: There are other parameters.
            UnknownModel: There is no such model.
            NotReady: The control database cannot be read or written.
        """
        self._check_allowed("unloads", model)
        unknown = [name for name in parameters if name != "unload_dependents"]
        if unknown:
            raise InvalidRequest(f"the parameter {unknown[0]!r} is not supported; there is unload_dependents")
        await self._ask(model, loaded=False)

    def _check_allowed(self, what: str, model: str) -> None:
        if not self._allowed:
            raise Forbidden(f"nobody {what} {model} over the network here; EKIBEN_REPOSITORY_API=on allows it")

    async def _ask(self, model: str, *, loaded: bool) -> None:
        """Writes down what is asked and has this worker follow."""
        known = {*await asyncio.to_thread(self._registry.models), *self._host.folder, *self._host.models}
        if model not in known:
            raise UnknownModel(f"there is no model {model!r} to load or unload; there are {', '.join(sorted(known)) or 'none'}")
        try:
            await asyncio.to_thread(self._registry.loads.set, model, loaded=loaded)
            await self._host.refresh()
        except StateError as e:
            raise NotReady(str(e), retry_after_s=2.0) from e
