"""The data port: gRPC, and the REST front over HTTP/1.1 and HTTP/2, in the worker's own event loop.

`h2corn`, an ASGI server whose input and output run in Rust threads, is embedded; workers share the port by SO_REUSEPORT.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import h2corn

from ekiben.errors import SettingError
from ekiben.serving.grpc.app import GrpcApp, is_grpc
from ekiben.serving.port_lock import PortLock
from ekiben.serving.read_clock import ReadClock
from ekiben.serving.rest.app import ASGIApp
from ekiben.serving.rest.http import Receive, Scope, Send
from ekiben.settings import Settings

logger = logging.getLogger("ekiben.listener")

_CONCURRENT_STREAMS: Final = 1024
_MAX_HEAD_BYTES: Final = 64 * 1024
_MAX_FIELDS: Final = 100
_HEAD_PAUSE_S: Final = 10.0
_STOP_S: Final = 10.0
_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104  what BentoML's own default is


class BothProtocols:
    """Hands gRPC calls to one app and everything else to the other.

    Args:
        grpc: Answers gRPC calls.
        rest: Answers everything else.
        reads: Ends requests that take too long to come, but for gRPC's, which its app times itself; None ends none.
    """

    def __init__(self, grpc: GrpcApp, rest: ASGIApp, reads: ReadClock | None = None) -> None:
        self._grpc = grpc
        self._rest = rest
        self._reads = reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        # NOTE: gRPC needs HTTP/2; over HTTP/1.1 there would be no trailers to tell the status in.
        if scope["type"] == "http" and scope["http_version"] == "2":
            headers = dict(scope["headers"])
            if is_grpc(headers):
                await self._grpc(scope["path"], headers, receive, send, scope.get("client"))
                return
        timed = receive if self._reads is None else self._reads.timed(receive)
        await self._rest(scope, timed, send)


class Listener:
    """Listens on the data port, and on the platform's port where there is one.

    Args:
        app: What answers.
        settings: Ports, address and TLS.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._locks: list[PortLock] = []
        self._ports: set[int] = set()
        self._server: h2corn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            SettingError: A port is taken, or TLS cannot be set up.
        """
        settings = self._settings
        there = addresses_of_this_process()
        wanted = [port for port in (settings.data_port, settings.platform_port) if port]
        # BentoML may have been given the platform's port itself.
        ports = [port for port in dict.fromkeys(wanted) if port not in there]
        if not ports:
            return
        host = settings.data_host or next(iter(there.values()), _EVERYWHERE)
        try:
            for port in ports:
                lock = PortLock(port, os.getppid())
                await asyncio.to_thread(lock.acquire)
                self._locks.append(lock)
            await self._serve(host, ports)
        except BaseException:
            await self.stop()
            raise
        logger.info("gRPC and REST on %s, port %s%s", host, " and ".join(map(str, ports)), " with TLS" if settings.tls_certificate else "")

    async def _serve(self, host: str, ports: list[int]) -> None:
        settings = self._settings
        host = f"[{host}]" if ":" in host else host
        try:
            config = h2corn.Config(
                bind=tuple(f"{host}:{port}" for port in ports),
                reuse_port=True,
                grpc=True,
                lifespan="off",
                access_log=False,
                log_format="json",
                runtime_threads=1,
                max_concurrent_streams=_CONCURRENT_STREAMS,
                max_request_body_size=0,  # the front's own limit says what to do
                limit_request_head_size=_MAX_HEAD_BYTES,
                limit_request_fields=_MAX_FIELDS,
                h2_max_header_list_size=_MAX_HEAD_BYTES,
                h2_max_header_block_size=_MAX_HEAD_BYTES,
                timeout_request_header=min(_HEAD_PAUSE_S, settings.read_timeout_s),
                timeout_request_body_idle=settings.read_timeout_s + _HEAD_PAUSE_S,  # the front ends it before, and says why
                h2_timeout_response_stall=settings.read_timeout_s,
                h2_timeout_write=settings.read_timeout_s,
                timeout_graceful_shutdown=_STOP_S,
                certfile=settings.tls_certificate,
                keyfile=settings.tls_key,
                ca_certs=settings.tls_client_ca,
                cert_reqs="required" if settings.tls_client_ca else "none",
            )
            self._ports = set(ports)
            self._server = h2corn.Server(self._app, config)
            self._serving = asyncio.create_task(self._server.serve())
            await self._server.wait_started()
        except (OSError, ValueError, RuntimeError) as e:
            raise SettingError(
                f"the data port cannot be opened on {', '.join(f'{host}:{port}' for port in ports)}: {e}; "
                "see EKIBEN_DATA_PORT, EKIBEN_DATA_HOST and EKIBEN_TLS_…"
            ) from e

    async def stop(self) -> None:
        """Answers what is under way and closes the port."""
        if self._server is not None and self._serving is not None:
            if not self._serving.done():
                self._server.shutdown()
                for one in _unconnected():
                    if one.getsockname()[1] in self._ports:
                        # NOTE: h2corn accepts no more and keeps the socket until its last request is answered; the kernel
                        # would go on handing connections to it, and not to the workers that share the port.
                        with contextlib.suppress(OSError):  # h2corn has each socket twice
                            one.shutdown(socket.SHUT_RDWR)
            try:
                await self._serving
            except (OSError, ValueError, RuntimeError) as e:
                logger.warning("the data port did not close cleanly: %s", e)
            self._server = self._serving = None
        for lock in self._locks:
            lock.release()
        self._locks.clear()


def addresses_of_this_process() -> dict[int, str]:
    """TCP ports that this process has, also by inheritance, and the address of each."""
    addresses = [one.getsockname()[:2] for one in _unconnected()]
    return {port: host for host, port in addresses if port}


def _unconnected() -> Iterator[socket.socket]:
    """The TCP sockets of this process that are connected to nobody, each lent until the next is asked for.

    NOTE: no descriptor is duplicated, or closed. Whoever closes one of a file, any of them, lets go of all locks that the process
    has on it, and SQLite's are such: another process would then take the control database's WAL away from under this one.
    """
    for entry in list(Path("/dev/fd").iterdir()) if Path("/dev/fd").is_dir() else ():
        try:
            one = socket.socket(fileno=int(entry.name))
        except OSError:
            continue  # it is no socket, or closed meanwhile
        try:
            if one.family in (socket.AF_INET, socket.AF_INET6) and one.type == socket.SOCK_STREAM and not _is_connected(one):
                yield one
        finally:
            one.detach()


def _is_connected(one: socket.socket) -> bool:
    try:
        one.getpeername()
    except OSError:
        return False
    return True
