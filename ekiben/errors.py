"""Every error Ekiben raises on purpose.

    EkibenError
    ├── SettingError                a setting (``EKIBEN_*``) has a value that cannot be used
    ├── SpecError                   models/<name>/model.yaml is wrong: file, field, what would be right
    ├── FeatureError                features.py cannot be loaded, or did not return what it must
    ├── ArtifactError               a version's files cannot be trusted or used
    │   ├── ChecksumMismatch        a file is missing, added or changed since the version was made
    │   ├── GoldenRowsMismatch      the model loads but no longer gives the recorded outputs
    │   ├── RuntimeUnavailable      the framework that the version needs is not installed
    │   └── UntrustedVersion        nobody trusted has signed it, where that is asked for
    ├── SigningError                a key cannot be read or made, or a version not be signed with it
    ├── ParityError                 an exported model does not agree with the original
    ├── RegistryError
    │   ├── VersionNotFound
    │   └── VersionExists
    ├── StateError                  the control database cannot be read or written
    ├── LogError                    the inference log cannot be read, written or asked so
    ├── RetrainingError             a model cannot be trained anew on what was logged, or its training failed
    ├── RolloutError                a rollout or experiment cannot do what was asked
    │   ├── UnknownRollout          there is none of that name
    │   ├── RolloutRefused          what was asked cannot be: the plan is wrong, the versions do not fit each other
    │   ├── RolloutChanged          somebody else changed it meanwhile, or another one is active
    │   └── MeasurementFailed       a metric of its analysis cannot be measured now
    ├── KeyRefused                  an API key cannot be made or changed as was asked
    │   └── UnknownKey              there is none of that prefix
    └── RequestError                one request cannot be answered; never the server's fault alone
        ├── InvalidRequest          the request is malformed: not JSON, wrong shape of the envelope
        ├── InvalidRows             well formed, but rows break the signature; has ``details``
        ├── UnknownModel            no such model, version or route
        ├── Unauthenticated         who asks is not known: no key or token, or none that is good
        ├── Forbidden               who asks may not, or this server's settings do not allow it to anybody
        ├── TooManyRequests         who asks has asked too often; has ``retry_after_s``
        ├── LoadFailed              a model was asked to be loaded and cannot be
        ├── MethodNotAllowed
        ├── PayloadTooLarge
        ├── ReadTimeout             the client takes too long to send it
        ├── UnsupportedMediaType
        ├── NotAcceptable           the client accepts no type that the route answers in
        ├── NotReady                the model exists and cannot answer now; has ``retry_after_s``
        │   ├── QueueFull           it would be answered too late; has ``retry_after_s``
        │   └── CircuitOpen         the version fails too often to be asked now; has ``retry_after_s``
        ├── DeadlineExceeded        its deadline passed before it was computed
        └── PredictionFailed        the model itself failed on valid rows

No HTTP or gRPC codes here: ``ekiben.serving.rest`` and ``ekiben.serving.grpc`` map them.
"""

from __future__ import annotations

from typing import Any

import msgspec


class EkibenError(Exception):
    """The base of all errors Ekiben raises on purpose."""


class SettingError(EkibenError):
    """A setting has a value that cannot be used."""


class SpecError(EkibenError):
    """A model spec is wrong.

    Attributes:
        file: The spec's file, as the user would name it.
        field: The path of the field inside it, for example ``inputs[2].type``.
    """

    def __init__(self, file: str, field: str, problem: str, right: str) -> None:
        super().__init__(f"{file}: {field}: {problem}; {right}")
        self.file = file
        self.field = field


class FeatureError(EkibenError):
    """features.py cannot be loaded, or its ``transform`` did not return what it must."""


class ArtifactError(EkibenError):
    """A version's files cannot be trusted or used."""


class ChecksumMismatch(ArtifactError):
    """A file of the version is missing, added or changed since it was made."""


class GoldenRowsMismatch(ArtifactError):
    """The version loads but does not reproduce its recorded outputs.

    Attributes:
        rows: Indices of the golden rows that differ.
    """

    def __init__(self, message: str, rows: list[int]) -> None:
        super().__init__(message)
        self.rows = rows


class RuntimeUnavailable(ArtifactError):
    """The framework that the version needs is not installed here."""


class UntrustedVersion(ArtifactError):
    """Nobody trusted has signed the version, and it was to be, or it runs code when it is loaded. Nothing of it was run."""


class SigningError(EkibenError):
    """A key cannot be read or made, or a version cannot be signed with it."""


class ParityError(EkibenError):
    """An exported model does not agree with the original on real rows."""


class RegistryError(EkibenError):
    """The model store refuses or lacks what was asked."""


class VersionNotFound(RegistryError):
    """No version matches the reference."""


class VersionExists(RegistryError):
    """The tag is taken; a version never changes once registered."""


class StateError(EkibenError):
    """The control database cannot be read or written."""


class LogError(EkibenError):
    """The inference log cannot be read or written, or not be asked what was asked."""


class RetrainingError(EkibenError):
    """A model cannot be trained anew on what was logged, or its training failed; the message says what would help."""


class RolloutError(EkibenError):
    """A rollout or experiment cannot do what was asked."""


class UnknownRollout(RolloutError):
    """There is no such rollout or experiment."""


class RolloutRefused(RolloutError):
    """What was asked cannot be done, now or ever; the message says what would be right."""


class RolloutChanged(RolloutError):
    """Somebody else changed it meanwhile, or another one of the model is active."""


class MeasurementFailed(RolloutError):
    """A metric of an analysis cannot be measured now: its Prometheus server does not answer, or not with one number."""


class RowError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing wrong with one row.

    Attributes:
        row: Index of the row in its request.
        field: Name of the input, or None when the row as a whole is wrong.
        value: The offending value, shortened where it is long.
        rule: What would be right.
    """

    row: int
    field: str | None
    value: Any
    rule: str

    def __str__(self) -> str:
        where = f"row {self.row}" if self.field is None else f"row {self.row}, field {self.field!r}"
        return f"{where}: {self.rule} (got {self.value!r})"


class KeyRefused(EkibenError):
    """An API key cannot be made or changed as was asked."""


class UnknownKey(KeyRefused):
    """There is no API key of that prefix."""


class RequestError(EkibenError):
    """One request cannot be answered."""

    def __init__(self, message: str, details: list[RowError] | None = None) -> None:
        super().__init__(message)
        self.details = details or []


class InvalidRequest(RequestError):
    """The request is malformed."""


class InvalidRows(RequestError):
    """Rows break the signature; ``details`` says row, field, value and rule.

    Attributes:
        SHOWN: Problems that ``details`` holds, at most.
        EXPLAINED: Problems after which whoever looks for them may stop: a body can have millions, which cost more than it is worth.
    """

    SHOWN = 20
    EXPLAINED = 1000

    def __init__(self, details: list[RowError]) -> None:
        shown = details[: self.SHOWN]
        more = len(details) - len(shown)
        tail = f" (and {more} more)" if more else ""
        found = f"; {len(details)} problems in all" if len(details) < self.EXPLAINED else f"; at least {len(details)} problems"
        super().__init__(f"{shown[0]}{'' if len(details) == 1 else found}{tail}", shown)


class UnknownModel(RequestError):
    """No such model, version or route."""


class Unauthenticated(RequestError):
    """Who asks is not known: the request brings no key or token, or none that is good."""


class Forbidden(RequestError):
    """Who asks is known and may not do this, or this server's settings do not allow it to anybody."""


class TooManyRequests(RequestError):
    """Who asks has asked too often, or has too much under way.

    Attributes:
        retry_after_s: Seconds after which a retry may succeed.
        limit: How many requests or rows the limit that was met allows.
        window_s: In how many seconds; 0 where it is of what is under way at once.
        capacity: How many may come at once; `limit`, where nothing else is said.
        left: How many would still fit now.
        reset_s: Seconds until all would fit again.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float,
        limit: float,
        window_s: float,
        capacity: float | None = None,
        left: float = 0.0,
        reset_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.limit = limit
        self.window_s = window_s
        self.capacity = limit if capacity is None else capacity
        self.left = left
        self.reset_s = retry_after_s if reset_s is None else reset_s


class LoadFailed(RequestError):
    """A model was asked to be loaded and cannot be; asking again helps only once something was mended."""


class MethodNotAllowed(RequestError):
    """The path exists and does not take this method.

    Attributes:
        allow: The methods it takes.
    """

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class PayloadTooLarge(RequestError):
    """The body is larger than the server accepts."""


class ReadTimeout(RequestError):
    """The request did not come whole in the time that there is for it."""


class UnsupportedMediaType(RequestError):
    """The body's content type or encoding is not one the route reads."""


class NotAcceptable(RequestError):
    """The client accepts no type that the route can answer in."""


class NotReady(RequestError):
    """The model exists and cannot answer now.

    Attributes:
        retry_after_s: Seconds after which a retry may succeed.
    """

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(NotReady):
    """The queue is so long that the answer would come after the deadline."""


class CircuitOpen(NotReady):
    """The version failed so often that it is not asked for a while."""


class DeadlineExceeded(RequestError):
    """The deadline passed before the request was computed; the work was not done.

    Attributes:
        by_model: Whether it was the model that took the time, and not the client that gave none.
    """

    def __init__(self, message: str, *, by_model: bool = False) -> None:
        super().__init__(message)
        self.by_model = by_model


class PredictionFailed(RequestError):
    """The model failed on rows that satisfy its signature."""
