"""Ekiben, as users run it: what the project's service.py says, with the benchmark's models folder (``BENCH_MODELS``)."""

import os

from ekiben.serving.service import build_service

svc = build_service(os.environ["BENCH_MODELS"])
