"""Real time: a BentoML service with Ekiben's data plane in front."""

from ekiben.serving.service import build_service

__all__ = ["build_service"]
