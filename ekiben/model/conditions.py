"""Conditions on one number, as analyses have them: ``result < 0.05``, or ``result[0] < 0.05`` as Argo Rollouts writes it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Final

import msgspec

_OPERATORS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_FORM = re.compile(r"\s*result(?:\[0\])?\s*(<=|>=|==|!=|<|>)\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*")


class Condition(msgspec.Struct, frozen=True):
    """``result``, an operator and a number."""

    operator: str
    limit: float

    def holds(self, result: float) -> bool:
        """Whether it is true of a number."""
        return _OPERATORS[self.operator](result, self.limit)


def condition(text: str) -> Condition:
    """Reads a condition.

    Raises:
        ValueError: It is none; the message says what would be one.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no condition; write result, one of {' '.join(_OPERATORS)}, and a number: result < 0.05")
    return Condition(found[1], float(found[2]))
