"""A row of the admin API's table: from it requests are dispatched, checked and answered, and the OpenAPI document is made."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl

import msgspec

from ekiben.errors import InvalidRequest
from ekiben.model.spec import NAME_PATTERN
from ekiben.serving.rest.codec import untyped

PREFIX: Final = "/admin/v1"
_MOST_PARAMETERS: Final = 32
_PLACEHOLDER: Final = re.compile(r"\{([a-z]+)\}")
PART: Final = r"[a-z0-9][a-z0-9._-]{0,127}"
"""What a part of a path may be that stands for something."""


Word = Annotated[str, msgspec.Meta(pattern=f"^{PART}$")]
"""A version, an alias, an arm, the id of a rollout."""

Reference = Annotated[str, msgspec.Meta(pattern=f"^({PART}[:@])?{PART}$")]
"""A version, ``latest`` or an alias, alone or behind ``model:``."""

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
"""The name of a model."""

Text = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*$", max_length=2000)]
"""What a person says; PostgreSQL's text has no NUL."""


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of what a route takes behind ``?``; every field has a default."""


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of what a route takes in its body; a body that is left out is ``{}``."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was let in and checked.

    Attributes:
        who: Who asks, as events name them.
        path: The parts of the path that stand for something, by their names.
        query: What stands behind ``?``, as the route's ``query``; None for a route that takes nothing there.
        body: The body, as the route's ``body``; None for a route that takes none.
    """

    who: str
    path: dict[str, str] = {}
    query: Any = None
    body: Any = None


class AdminRoute(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A row of the table.

    Attributes:
        method: The method; a GET answers HEAD too.
        path: What stands behind ``/admin/v1``: ``/rollouts/{rollout}/promote``.
        name: Of the operation, for generated clients: ``promoteRollout``.
        summary: What it does, a sentence.
        handler: Answers with a value of the type ``answer``. It may block: it runs in a thread.
        answer: The type of what it answers, which msgspec encodes; a tuple of types where it answers one of several.
        status: Of what it answers.
        query: What it takes behind ``?``, a kind of `Query`.
        body: What it takes in the body, a kind of `Body`.
        example: A body, as JSON.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    name: str
    summary: str
    handler: Callable[[Asked], Any]
    answer: Any
    status: int = 200
    query: type[Query] | None = None
    body: type[Body] | None = None
    example: dict[str, Any] | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that it answers."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)

    @property
    def placeholders(self) -> list[str]:
        """Names of the parts of its path that stand for something."""
        return _PLACEHOLDER.findall(self.path)

    @property
    def answers(self) -> tuple[Any, ...]:
        """The types of what it answers."""
        return self.answer if isinstance(self.answer, tuple) else (self.answer,)

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Matches the paths that are its own; a group for each part that stands for something."""
        path = _PLACEHOLDER.sub(rf"(?P<\1>{PART})", self.path.replace(".", r"\."))
        return re.compile(rf"^{PREFIX}{path}/?\Z")

    def read_query(self, query_string: bytes) -> Any:
        """What stands behind ``?``.

        Raises:
            InvalidRequest: It is not what the route takes.
        """
        try:
            pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
        except ValueError as e:
            raise InvalidRequest(f"the query cannot be read: {e}") from None
        if self.query is None:
            if pairs:
                raise InvalidRequest(f"{self.path} takes no parameters; it got {pairs[0][0]!r}")
            return None
        given = dict(pairs)
        if len(given) < len(pairs):
            raise InvalidRequest("a parameter of the query is given twice")
        return _converted(given, self.query, "query", strict=False)

    def read_body(self, body: bytes) -> Any:
        """What stands in a body.

        Raises:
            InvalidRequest: It is not what the route takes.
        """
        if self.body is None:
            if body.strip() and untyped(body) != {}:
                raise InvalidRequest(f"{self.method} {self.path} takes no body")
            return None
        return _converted(untyped(body) if body.strip() else {}, self.body, "body", strict=True)


def _converted(given: Any, kind: type[Any], part: str, *, strict: bool) -> Any:
    try:
        return msgspec.convert(given, kind, strict=strict)
    except msgspec.ValidationError as e:
        raise InvalidRequest(f"the {part} is not what this route takes: {e}; there are {', '.join(kind.__struct_fields__)}") from None
