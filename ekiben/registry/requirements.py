"""What must be installed to serve: every package with its version, and no framework that no packed version needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ekiben.errors import RegistryError

PACKED_EXTRAS = ("serve", "postgresql", "redis", "s3", "tracing")
"""Ekiben's own extras that an image has: which database, object storage and collector it meets is known only where it runs.

Not ``monitor``, which would double the image: what is checked once in minutes need not be checked in each server. The image of a
fleet's one monitor has it, see `MORE_EXTRAS`.
"""

MORE_EXTRAS = ("monitor",)
"""Extras that an image may have besides."""

FRAMEWORK_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "onnx": ("onnxruntime",),
    "sklearn": ("scikit-learn", "skops", "pandas"),
    "torch": ("torch",),
}
"""Framework of an artifact → what its runtime imports."""

IMAGE_PLATFORM: Mapping[str, str] = {
    "os_name": "posix",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "python_version": "3.11",
    "python_full_version": "3.11.0",
    "implementation_version": "3.11.0",
}
"""The image's environment in the terms of dependency markers, whatever machine builds the Bento."""


def pinned_requirements(
    frameworks: Iterable[str],
    pins: Mapping[str, str],
    *,
    extras: Iterable[str] = (),
    distribution: Callable[[str], metadata.Distribution] = metadata.distribution,
) -> list[str]:
    """All that an image installs, dependencies of dependencies too, as ``name==version``, sorted.

    Args:
        frameworks: The packed versions' frameworks.
        pins: Name → version, as `read_pins` gives it; what it does not have is pinned to what is installed here.
        extras: Those of `MORE_EXTRAS` that the image is to have.
        distribution: Finds an installed package.

    Raises:
        RegistryError: A framework or extra is unknown, or Ekiben itself or one of its needs is not installed here.
    """
    more = list(extras)
    for extra in more:
        if extra not in MORE_EXTRAS:
            raise RegistryError(f"an image has no extra {extra!r} of ekiben; there are {', '.join(MORE_EXTRAS)}")
    wanted = [Requirement(f"ekiben[{','.join([*PACKED_EXTRAS, *more])}]")]
    for framework in frameworks:
        if framework not in FRAMEWORK_PACKAGES:
            known = ", ".join(FRAMEWORK_PACKAGES)
            raise RegistryError(f"no image can be made for a model of the framework {framework!r}; there are {known}")
        wanted += [Requirement(name) for name in FRAMEWORK_PACKAGES[framework]]
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            package = _installed(name, distribution)
            if package is None:
                if name not in pins:
                    raise RegistryError(f"{name} is to be packed and is neither installed here nor in constraints.txt; pip install {name}")
                found[name] = pins[name]
                continue
            found[name] = pins.get(name, package.version)
            wanted += [need for text in package.requires or () if _applies(need := Requirement(text), extra)]
    del found["ekiben"]  # its source is in the Bento
    return [f"{name}=={_public(version)}" for name, version in sorted(found.items())]


def read_pins(file: Path) -> dict[str, str]:
    """Name → version of each ``name==version`` in a constraints file; none where there is no such file.

    Raises:
        RegistryError: A line is something else.
    """
    if not file.is_file():
        return {}
    pins: dict[str, str] = {}
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        name, equal, version = text.partition("==")
        if not equal or not version.strip():
            raise RegistryError(f"{file.name}, line {number}: {text!r} pins nothing; write name==version")
        pins[canonicalize_name(name.strip())] = version.strip()
    return pins


def _installed(name: str, distribution: Callable[[str], metadata.Distribution]) -> metadata.Distribution | None:
    try:
        return distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**IMAGE_PLATFORM, "extra": extra})


def _public(version: str) -> str:
    """Without a local part: ``2.13.0+cpu`` is a build of ``2.13.0`` that only this machine's source of packages may have."""
    return version.partition("+")[0]
