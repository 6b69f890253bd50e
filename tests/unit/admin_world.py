"""A model with three versions, a control database in memory and the admin API before both, asked without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner, Result

from ekiben.cli import main
from ekiben.cli.remote import AdminClient
from ekiben.cli.server_options import ServerOption
from ekiben.guards.admin_key import AdminKey
from ekiben.guards.api_keys import KeyRing
from ekiben.guards.audit import AuditTrail
from ekiben.guards.auth import Authenticator
from ekiben.guards.key_operations import ControlKeys
from ekiben.model.artifact import Artifact
from ekiben.registry import FolderRegistry
from ekiben.rollout.operations import Operations
from ekiben.rollout.standing import standing_of
from ekiben.rollout.transitions import loaded
from ekiben.serving.rest.admin import Admin
from ekiben.serving.rest.admin_keys import key_routes
from ekiben.serving.rest.http import Disconnected, respond
from ekiben.state.control import memory_control

KEY = "of-the-tests-0123456789"
SERVER = "http://server.test:3000"


class World:
    """What a test asks and looks into.

    Attributes:
        now: Seconds since the epoch.
        who: Who asked, in order.
    """

    def __init__(self, folder: Path, artifact: Artifact, **options: Any) -> None:
        self.now = 1_000_000.0
        self.who: list[str] = []
        self.control = memory_control(lambda: self.now)
        self.registry = FolderRegistry(folder / "store", self.control.aliases)
        for version in ("1", "2", "3"):
            self.registry.register(artifact.path, tag=f"tiny:{version}")
        self.key_file = folder / "key"
        self.key_file.write_text(KEY)
        self.keys = KeyRing(self.control.keys, wall=lambda: self.now)
        self.authenticator = Authenticator(AdminKey(self.key_file), self.keys)
        audit = AuditTrail(self.control.events, wall=lambda: self.now, clock=lambda: self.now)
        keys = key_routes(lambda who: ControlKeys(self.control, who=who, wall=lambda: self.now), self.control.events)
        options["more"] = [*keys, *options.get("more", ())]
        self.admin = Admin(self.operations_for, self.authenticator, audit, **options)
        self.failure: Exception | None = None

    def operations_for(self, who: str) -> Operations:
        self.who.append(who)
        if self.failure is not None:
            raise self.failure
        return Operations(self.control, self.registry, who=who, wall=lambda: self.now)

    async def app(self, scope, receive, send) -> None:
        """The admin API as an ASGI app."""
        try:
            response = await self.admin.answer(scope, receive)
        except Disconnected:
            return
        await respond(scope, send, response)

    def ask(self, method: str, path: str, *, key: str | None = KEY, **options: Any) -> httpx.Response:
        """Asks the admin API; a path begins behind ``/admin/v1``."""
        headers = {**({"authorization": f"Bearer {key}"} if key is not None else {}), **options.pop("headers", {})}
        with httpx.Client(transport=Transport(self.app), base_url=SERVER) as client:
            return client.request(method, f"/admin/v1{path}", headers=headers, **options)

    def loads(self) -> None:
        """The challenger is loaded everywhere: the first step of the active rollout begins."""
        [rollout] = self.control.rollouts.find(active=True)
        self.control.rollouts.commit(loaded(standing_of(self.control, rollout), self.now, 1))

    def events(self) -> list[str]:
        """What happened, in a word each."""
        return [event.kind for event in self.control.events.find(model="tiny")]


def installed(world: World, monkeypatch) -> None:
    """The commands use this world in place of the stores of this machine, and of the network."""
    monkeypatch.chdir(world.key_file.parent)
    monkeypatch.setattr("ekiben.registry.open_registry", lambda settings, control: world.registry)
    monkeypatch.setattr("ekiben.state.opening.open_control", lambda settings: world.control)
    monkeypatch.setattr("time.time", lambda: world.now)
    monkeypatch.setattr(ServerOption, "client", lambda self: AdminClient(self.url, self.key, transport=Transport(world.app)))


def run(*arguments: object, code: int = 0) -> Result:
    """Runs a command, which is to end with the exit code."""
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


class Transport(httpx.BaseTransport):
    """Carries a request into an ASGI app of this process."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._transport = httpx.ASGITransport(app, client=("192.0.2.7", 1234))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def carried() -> httpx.Response:
            same = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
            answer = await self._transport.handle_async_request(same)
            body = b"".join([part async for part in answer.stream])
            return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(body))

        return asyncio.run(carried())
