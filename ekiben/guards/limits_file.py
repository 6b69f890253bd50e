"""``limits.yaml``: limits for all models together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ekiben.errors import SpecError
from ekiben.model.guard_checks import limits_contradictions
from ekiben.model.guard_spec import LimitsSpec
from ekiben.settings import Settings

_RIGHT = "it has the fields of `limits` in model.yaml: max_rows, rates, concurrent; see docs/62-rate-limits.md"


def limits_everywhere(settings: Settings, folder: Path) -> LimitsSpec:
    """The limits for all models: of ``EKIBEN_LIMITS_FILE``, else of ``limits.yaml`` in a folder, else none.

    Raises:
        SpecError: The file cannot be read, or says what cannot be.
    """
    file = settings.limits_file or folder / "limits.yaml"
    if settings.limits_file is None and not file.exists():
        return LimitsSpec()
    return load_limits(file)


def load_limits(file: Path) -> LimitsSpec:
    """Reads and checks a file of limits; an empty one limits nothing.

    Raises:
        SpecError: It cannot be read, or says what cannot be.
    """
    import yaml  # noqa: PLC0415  a server without the file needs none

    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise SpecError(file.name, "(file)", f"cannot be read: {e.strerror or e}", f"put it at {file}") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise SpecError(file.name, "(file)", f"not readable as YAML: {e}", _RIGHT) from e
    return limits_from_builtins({} if raw is None else raw, file=file.name)


def limits_from_builtins(raw: Any, *, file: str) -> LimitsSpec:
    """Makes limits of dicts and lists, as YAML or JSON give them.

    Raises:
        SpecError: A field is unknown, of the wrong type, or contradicts another.
    """
    try:
        limits = msgspec.convert(raw, LimitsSpec, strict=True)
    except msgspec.ValidationError as e:
        problem, _, where = str(e).partition(" - at `$")
        raise SpecError(file, where.rstrip("`").lstrip(".") or "(top)", problem, _RIGHT) from None
    for field, problem, right in limits_contradictions(limits):
        raise SpecError(file, field.removeprefix("limits."), problem, right)
    return limits
