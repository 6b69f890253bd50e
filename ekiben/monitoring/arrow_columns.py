"""What columns of an Arrow stream are, described without pyarrow: who only writes rows need not have it.

Names are those of Arrow's own format: https://arrow.apache.org/docs/format/Columnar.html.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

Kind = Literal["int", "uint", "float"]
_KINDS: dict[str, Kind] = {"i": "int", "u": "uint", "f": "float"}


class Number(msgspec.Struct, frozen=True):
    """A number of fixed width.

    Attributes:
        kind: Whether it has a sign, and whether it is an integer.
        bits: Its width: 8, 16, 32 or 64; of floats 16, 32 or 64.
    """

    kind: Kind
    bits: int


class Utf8(msgspec.Struct, frozen=True):
    """Text."""


class FixedSizeList(msgspec.Struct, frozen=True):
    """As many values of one type in each row.

    Attributes:
        item: Their type.
        size: How many.
    """

    item: Type
    size: int


class StructOf(msgspec.Struct, frozen=True):
    """Fields beside each other.

    Attributes:
        fields: The fields.
    """

    fields: tuple[Field, ...]


Type = Number | Utf8 | FixedSizeList | StructOf


class Field(msgspec.Struct, frozen=True):
    """A column, or a part of one.

    Attributes:
        name: Its name.
        type: Its type.
    """

    name: str
    type: Type


def number_of(dtype: npt.DTypeLike) -> Number:
    """The type of a numpy dtype's numbers.

    Raises:
        ValueError: These are no integers or floats of at most 64 bits.
    """
    found = np.dtype(dtype)
    if found.kind not in _KINDS or found.itemsize > 8:  # noqa: PLR2004  bytes
        raise ValueError(f"Arrow has no numbers like numpy's {found}; there are int8 to int64, uint8 to uint64, float16 to float64")
    return Number(_KINDS[found.kind], 8 * found.itemsize)
