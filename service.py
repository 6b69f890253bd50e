"""What ``bentoml serve`` loads."""

from ekiben.serving import build_service

svc = build_service("models")
