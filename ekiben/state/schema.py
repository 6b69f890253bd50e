"""The tables of the control database, all of them: a process that uses one part creates them whole.

Each part that workers follow (aliases, loads) has a row in ``generations``: whoever changes the part raises its number in
the same transaction, and a worker that sees the number it knows has nothing to read.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, MetaData, String, Table

SCHEMA: Final = MetaData()

ALIASES_PART: Final = "aliases"
LOADS_PART: Final = "loads"
PARTS: Final = (ALIASES_PART, LOADS_PART)

GENERATIONS: Final = Table(
    "ekiben_generations",
    SCHEMA,
    Column("part", String(63), primary_key=True),
    Column("number", BigInteger, nullable=False),
)

ALIASES: Final = Table(
    "ekiben_aliases",
    SCHEMA,
    Column("model", String(63), primary_key=True),
    Column("alias", String(63), primary_key=True),
    Column("version", String(63), nullable=False),
    Column("changed_at", String(40), nullable=False),
)

LOADS: Final = Table(
    "ekiben_loads",
    SCHEMA,
    Column("model", String(63), primary_key=True),
    Column("loaded", Boolean, nullable=False),
    Column("changed_at", String(40), nullable=False),
)
