"""Inference over gRPC: ``ModelInfer`` and ``ModelStreamInfer``.

The way of an inference call, top to bottom, is `Inference.infer`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Final

from tritonclient.grpc import service_pb2 as pb

from ekiben.errors import NotReady, RequestError
from ekiben.guards.gate import NO_LIMITS, Gate, Visit
from ekiben.guards.principal import PREDICT
from ekiben.model.guard_spec import LimitsSpec
from ekiben.model.signature import rows_of
from ekiben.serving.access_log import AccessLog
from ekiben.serving.batch_run import Clock
from ekiben.serving.dataplane import Call, DataPlane
from ekiben.serving.grpc.app import RpcContext
from ekiben.serving.grpc.convert import decode, encode
from ekiben.serving.grpc.status import Code, code_of
from ekiben.serving.loaded_version import LoadedVersion
from ekiben.serving.oip import OipModel
from ekiben.serving.rest.http import Disconnected, id_of
from ekiben.serving.tracing import Tracer

logger = logging.getLogger("ekiben.grpc")

_LOGGED_AS_OK: Final = 200
_LOGGED_AS_ERROR: Final = 400
"""The access log tells errors from answers by HTTP's numbers."""

_IN_FLIGHT: Final = 64
"""Requests of one stream that are worked on at once; the next is read when the first of them is answered."""


_Answers = asyncio.Queue[asyncio.Task[Any] | Exception | None]


class Inference:
    """Answers inference calls.

    Args:
        plane: The data plane.
        gate: Lets calls in.
        clock: Monotonic seconds.
        access_log: Where answered requests are noted.
        tracer: Makes spans; None when no exporter is configured.
    """

    def __init__(self, plane: DataPlane, gate: Gate, *, clock: Clock, access_log: AccessLog, tracer: Tracer | None) -> None:
        self._plane = plane
        self._gate = gate
        self._clock = clock
        self._log = access_log
        self._tracer = tracer
        self._models: dict[LoadedVersion, OipModel] = {}
        self._streams: dict[asyncio.Task[None], _Answers] = {}
        self._ends: set[asyncio.Task[None]] = set()

    def forget(self) -> None:
        """Lets go of versions that are not loaded any more; called after each swap."""
        loaded = set(self._plane.host.snapshot.loaded.values())
        self._models = {served: oip for served, oip in self._models.items() if served in loaded}

    def stop(self) -> None:
        """Reads no more of the streams that are open: each is answered as far as it was read, and then told why it ends."""
        for reader, answers in list(self._streams.items()):
            reader.cancel()
            end = asyncio.create_task(answers.put(NotReady("the server is stopping", retry_after_s=1.0)))
            self._ends.add(end)
            end.add_done_callback(self._ends.discard)

    async def infer(self, request: Any, context: RpcContext) -> Any:
        """ModelInfer: lets in, admits, decodes, identifies, infers, encodes, notes."""
        plane = self._plane
        request_id: str | None = request.id or None
        call: Call | None = None
        visit: Visit | None = None
        code = Code.CANCELLED
        span = self._tracer.start(context.path[1:], context.headers) if self._tracer is not None else None
        try:
            request_id = request_id or id_of(context.headers) or plane.new_id()
            model = request.model_name
            asked = (PREDICT, model, context.headers, context.peer, self._limits(model, request.model_version))
            visit = self._gate.enter_now(*asked) or await self._gate.enter(*asked)
            call = plane.admit(
                model, request.model_version or None,
                received=context.received, timeout_ms=context.timeout_ms, headers=context.headers,
            )  # fmt: skip
            call.principal = visit.principal.id
            oip = self._models.get(call.served) or self._oip(call.served)
            try:
                decoded = decode(oip, request)
                if visit.held is not None and not self._gate.rows_now(visit.held, rows_of(decoded.payload)):
                    await self._gate.rows(visit.held, rows_of(decoded.payload))
            except RequestError as e:
                raise plane.failed(call, e) from None
            call.limit(decoded.timeout_ms)
            plane.identify(call, request_id, decoded.payload)
            call.receive = context.receive
            answer = await plane.infer(call, decoded.payload)
            response = encode(oip, answer, request_id, call.served.version, decoded)
            code = Code.OK
        except RequestError as e:
            code = code_of(e)
            raise
        except Disconnected:
            raise
        except Exception as e:
            logger.exception("request failed")
            error = RequestError(f"the server failed: {type(e).__name__}; its log says more")
            code = code_of(error)
            raise (error if call is None else plane.failed(call, error)) from None
        else:
            return response
        finally:
            version = call.served.version if call else None
            self._gate.leave(visit)
            context.reply_headers = reply_headers(call, visit)
            if span is not None:
                span.end_rpc(code, request.model_name, version, request_id or "")
            if self._log.wants(_LOGGED_AS_ERROR if code else _LOGGED_AS_OK):
                self._log.write(
                    path=context.path, grpc_status=int(code), seconds=self._clock() - context.received, request_id=request_id,
                    headers=context.headers, model=request.model_name, version=version, arm=call.arm if call else None,
                )  # fmt: skip

    def _limits(self, model: str, version: str) -> LimitsSpec:
        snapshot = self._plane.host.snapshot
        served = snapshot.loaded.get((model, version)) if version else snapshot.default.get(model)
        return served.spec.limits if served is not None else NO_LIMITS

    def _oip(self, served: LoadedVersion) -> OipModel:
        self._models[served] = made = OipModel(served)
        return made

    async def stream_infer(self, requests: AsyncIterator[Any], context: RpcContext) -> AsyncGenerator[Any, None]:
        """ModelStreamInfer: works on many requests at once and answers them in their order.

        A request that fails is answered with its error; the stream goes on. When the client goes away, what is worked on is given up.
        """
        answers: _Answers = asyncio.Queue(_IN_FLIGHT)
        running: set[asyncio.Task[Any]] = set()
        reader = asyncio.create_task(self._read_stream(requests, context, answers, running))
        self._streams[reader] = answers
        try:
            while (item := await answers.get()) is not None:
                if isinstance(item, Exception):
                    try:
                        raise item
                    finally:
                        del item  # its traceback holds this frame, and this frame would hold it, with the message that was wrong
                yield await item
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Disconnected from None  # it was the answer that the reader gave up
        finally:
            del self._streams[reader]
            reader.cancel()
            for task in running:
                task.cancel()

    async def _read_stream(
        self, requests: AsyncIterator[Any], context: RpcContext, answers: _Answers, running: set[asyncio.Task[Any]]
    ) -> None:
        """Begins with each request as it comes; ends with None, or with why there are no more."""
        try:
            async for request in requests:
                task = asyncio.create_task(self._stream_answer(request, self._within(context)))
                running.add(task)
                task.add_done_callback(running.discard)
                await answers.put(task)
        except Exception as e:  # noqa: BLE001  whoever takes the answers raises it
            if isinstance(e, Disconnected):
                for task in running:
                    task.cancel()
            await answers.put(e)
        else:
            await answers.put(None)

    def _within(self, stream: RpcContext) -> RpcContext:
        """The context of a request that a stream brings now, with what is left of the stream's time."""
        now, left = self._clock(), stream.timeout_ms
        if left is not None:
            left = max(left - (now - stream.received) * 1000, math.ulp(0.0))
        return RpcContext(stream.path, stream.headers, now, left, peer=stream.peer)

    async def _stream_answer(self, request: Any, context: RpcContext) -> Any:
        try:
            response = pb.ModelStreamInferResponse(infer_response=await self.infer(request, context))
            # The head of a stream was sent long before: what others say there is said in the answer.
            response.infer_response.parameters["model_arm"].string_param = dict(context.reply_headers)[b"x-model-arm"].decode()
        except RequestError as e:
            response = pb.ModelStreamInferResponse(error_message=str(e))
            response.infer_response.id = request.id
            response.infer_response.model_name = request.model_name
        if request.parameters and request.parameters["triton_enable_empty_final_response"].bool_param:
            response.infer_response.parameters["triton_final_response"].bool_param = True
        return response


def reply_headers(call: Call | None, visit: Visit | None) -> Sequence[tuple[bytes, bytes]]:
    """What the head of an answer says of its version and arm, and of what is left of limits."""
    said = call.record.headers if call is not None else []
    return [*said, *visit.held.headers] if visit is not None and visit.held is not None else said
