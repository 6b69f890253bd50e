"""How people name versions: ``name``, ``name:version``, ``name:latest``, ``name:champion``, ``name@champion``."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from ekiben.errors import RegistryError
from ekiben.model.spec import NAME_PATTERN

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
LATEST: Final = "latest"

# BentoML's rule for both halves of a tag; a model's name must satisfy Ekiben's own as well.
_TAG_PART = re.compile(r"[a-z0-9]([-._a-z0-9]*[a-z0-9])?")
_LONGEST = 63


class Reference(msgspec.Struct, frozen=True):
    """A parsed reference.

    Attributes:
        model: Name of the model.
        version: What stands behind ``:``: a version, ``latest`` or an alias; None where there is none.
        alias: What stands behind ``@``; None where there is none.
    """

    model: str
    version: str | None = None
    alias: str | None = None


def parse_reference(text: str) -> Reference:
    """Reads a reference.

    Raises:
        RegistryError: It is none.
    """
    for sign, field in ((":", "version"), ("@", "alias")):
        model, found, rest = text.partition(sign)
        if found:
            if not model or not _is_tag_part(rest):
                break
            return Reference(model, **{field: rest})
    if not text or not _is_tag_part(text):
        raise RegistryError(f"{text!r} names no version; give NAME, NAME:VERSION, NAME:latest or NAME@champion")
    return Reference(text)


def parse_tag(tag: str, model: str) -> str:
    """The version in a tag for a new version of a model.

    Raises:
        RegistryError: It is no tag, a tag of another model, or its version is a word that means something else.
    """
    name, colon, version = tag.partition(":")
    if not colon or not name:
        raise RegistryError(f"the tag {tag!r} must be NAME:VERSION, for example {model}:1.0")
    if name != model:
        raise RegistryError(f"the tag {tag!r} is of the model {name!r}, the artifact is of {model!r}; give {model}:{version or '1.0'}")
    if not _is_tag_part(version):
        raise RegistryError(
            f"the tag {tag!r}: {version!r} cannot be a version; give lower-case letters, digits, '.', '_' and '-', "
            f"a letter or digit at both ends, {_LONGEST} at most"
        )
    if version in (LATEST, CHAMPION, CHALLENGER):
        raise RegistryError(f"the tag {tag!r}: {version!r} is no version but a name that moves from version to version; give another")
    return version


def check_model_name(model: str) -> None:
    """Refuses names of which the store can keep no version.

    Raises:
        RegistryError: With what would be right.
    """
    if not re.fullmatch(NAME_PATTERN, model) or not _is_tag_part(model):
        raise RegistryError(
            f"{model!r} cannot name a model; give lower-case letters, digits, '_' and '-', beginning with a letter, "
            f"ending with a letter or digit, {_LONGEST} at most"
        )


def check_alias(alias: str) -> None:
    """Refuses words that cannot be aliases.

    Raises:
        RegistryError: With what would be right.
    """
    if alias == LATEST:
        raise RegistryError("'latest' always is the version made last; it cannot be set")
    if not re.fullmatch(NAME_PATTERN, alias):
        raise RegistryError(f"{alias!r} cannot be an alias; use {CHAMPION}, {CHALLENGER} or another lower-case word")


def _is_tag_part(text: str) -> bool:
    return len(text) <= _LONGEST and _TAG_PART.fullmatch(text) is not None
