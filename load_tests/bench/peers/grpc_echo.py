"""A bare ``grpc.aio`` server that sends each ``ModelInfer`` message back as it came: no protobuf, no model, what gRPC itself costs.

Starts ``BENCH_WORKERS`` processes that share ``BENCH_GRPC_PORT``.
"""

import asyncio
import os
import subprocess
import sys

import grpc


async def echo(request: bytes, _context: object) -> bytes:
    """Bytes in, the same bytes out."""
    return request


async def serve() -> None:
    """Serves until the process ends."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
    method = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": method})])
    server.add_insecure_port(f"127.0.0.1:{os.environ['BENCH_GRPC_PORT']}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    if "--one" not in sys.argv:
        for _ in range(int(os.environ["BENCH_WORKERS"]) - 1):
            subprocess.Popen([sys.executable, __file__, "--one"])
    asyncio.run(serve())
