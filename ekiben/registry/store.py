"""Versions: what the model store holds, and which of them is meant."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from ekiben.errors import ArtifactError, RegistryError, StateError, VersionNotFound
from ekiben.model.artifact import Artifact, read_artifact
from ekiben.registry.reference import CHAMPION, LATEST, Reference, check_alias, check_model_name, parse_reference, parse_tag
from ekiben.registry.trust import LoadPolicy
from ekiben.state.aliases import Aliases
from ekiben.state.loads import Loads, MemoryLoads

_SHOWN_VERSIONS = 8


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version in the store.

    Attributes:
        path: Its folder, an artifact.
        created: When it was made, UTC, ISO 8601; the order of versions.
        size_bytes: Size of all its files.
        aliases: The aliases that name it now.
    """

    model: str
    version: str
    tag: str
    path: Path
    created: str
    size_bytes: int
    aliases: tuple[str, ...] = ()

    def artifact(self) -> Artifact:
        """Its manifest, read again."""
        return read_artifact(self.path)


class Registry(ABC):
    """The versions of all models.

    A version never changes once it is registered; aliases move. Whatever in the store was not made by Ekiben is not seen.

    Args:
        aliases: Where aliases are kept.
        loads: Where it is kept which models people had loaded or unloaded; None keeps it as long as this object lives.
        policy: Which versions may be loaded; None asks for no signatures and trusts no pickles.
    """

    def __init__(self, aliases: Aliases, loads: Loads | None = None, policy: LoadPolicy | None = None) -> None:
        self.aliases = aliases
        self.loads = loads if loads is not None else MemoryLoads()
        self.policy = policy if policy is not None else LoadPolicy()

    # what a store must do ────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def _folders(self, model: str) -> Iterator[tuple[str, Path]]:
        """Each complete version of a model, with its folder; nothing where there is none."""

    @abstractmethod
    def _models(self) -> list[str]:
        """Names of all models that may have versions, sorted."""

    @abstractmethod
    def _new_version(self, model: str) -> str:
        """A version that is not taken."""

    @abstractmethod
    def _write(self, artifact: Artifact, version: str) -> None:
        """Copies an artifact into the store, in one step that either happened or did not.

        Raises:
            VersionExists: The version is there already.
        """

    @abstractmethod
    def _delete(self, model: str, version: str) -> None:
        """Deletes a version that is there."""

    @abstractmethod
    def folder_of(self, tag: str) -> Path:
        """The folder of any model in the store, whoever saved it.

        Raises:
            RegistryError: There is none.
        """

    # what it offers ──────────────────────────────────────────────────────────────────────────────────────────────────

    def register(self, artifact_dir: Path, *, tag: str | None = None) -> Version:
        """Copies an artifact into the store as a version of its model.

        The first version of a model becomes its champion. After that, registering moves no alias.

        Args:
            artifact_dir: A folder that `read_artifact` reads; its checksums are checked before anything is copied.
            tag: ``name:version``; None has a version made from the time.

        Raises:
            VersionExists: The tag is taken.
            RegistryError: The tag cannot be one, or the store cannot be written.
            ArtifactError: The folder is no artifact, or its files are not those it was made with.
            StateError: The aliases cannot be written; the version is taken back.
        """
        artifact = read_artifact(artifact_dir)
        artifact.verify()
        model = artifact.spec.name
        check_model_name(model)
        version = self._new_version(model) if tag is None else parse_tag(tag, model)
        if version in self.aliases.get(model):
            raise RegistryError(f"{model} has an alias {version!r}; give the version another name")
        is_first = not any(self._folders(model))
        try:
            self._write(artifact, version)
        except OSError as e:
            raise RegistryError(f"the model store cannot take {model}:{version}: {e.strerror or e}: {e.filename or ''}".rstrip(": ")) from e
        if is_first:
            try:
                self._crown(model, version)
            except StateError:
                self._delete(model, version)
                raise
        return self._version(model, version)

    def resolve(self, reference: str, aliases: Mapping[str, str] | None = None) -> Version:
        """The version a reference means.

        Args:
            reference: ``name:version``, ``name:latest``, ``name:alias`` or ``name@alias``; ``name`` alone means its
                champion or, where it has none, or one that is no longer in the store, the latest version.
            aliases: The model's aliases, where they were read already: nothing but the store is asked then.

        Raises:
            VersionNotFound: There is none, with what there is. An alias whose version was deleted is never replaced by another.
            RegistryError: The text is no reference.
        """
        wanted = parse_reference(reference)
        found = dict(self._folders(wanted.model))
        if not found:
            models = self._models()
            raise VersionNotFound(
                f"there is no model {wanted.model!r} in the store; there are {', '.join(models)}"
                if models
                else f"there is no model {wanted.model!r} in the store, which is empty; `ekiben models add` adds one"
            )
        aliases = self.aliases.get(wanted.model) if aliases is None else aliases
        version = self._choose(wanted, found, aliases)
        return _describe(wanted.model, version, found[version], aliases)

    def _choose(self, wanted: Reference, found: dict[str, Path], aliases: Mapping[str, str]) -> str:
        """The version meant, of those found (not none)."""
        name = wanted.alias or wanted.version
        if name is None:
            champion = aliases.get(CHAMPION)
            return champion if champion in found else self._latest(wanted.model)
        if wanted.alias is None and name in found:
            return name
        if name == LATEST:
            return self._latest(wanted.model)
        version = aliases.get(name)
        if version in found:
            return version
        there = _listed(list(found))
        if version is not None:
            raise VersionNotFound(
                f"{wanted.model}@{name} names the version {version}, which is no longer in the store; "
                f"`ekiben models alias {wanted.model} {name} VERSION` names another; there are {there}"
            )
        what = f"no alias {name!r}" if wanted.alias else f"no version or alias {name!r}"
        named = f"; its aliases are {', '.join(aliases)}" if aliases else ""
        raise VersionNotFound(f"{wanted.model} has {what}; its versions are {there}{named}")

    def versions(self, model: str | None = None) -> list[Version]:
        """All versions, of one model or of all: models by name, each one's versions from the oldest to the latest.

        A version whose manifest cannot be read is left out: `resolve` says what is wrong with it.
        """
        aliases = self.aliases.all()
        return [
            version for name in (self._models() if model is None else [model]) for version in self._readable(name, aliases.get(name, {}))
        ]

    def _readable(self, model: str, aliases: Mapping[str, str]) -> list[Version]:
        """The versions of a model whose manifest can be read, from the oldest to the latest."""
        readable = []
        for version, path in self._folders(model):
            try:
                readable.append(_describe(model, version, path, aliases))
            except ArtifactError:
                continue
        return sorted(readable, key=_age)

    def models(self) -> list[str]:
        """Names of all models in the store, sorted."""
        return self._models()

    def has(self, model: str, version: str) -> bool:
        """Whether the store has a version of a model."""
        return any(version == there for there, _ in self._folders(model))

    def find(self, model: str, recipe: str) -> Version | None:
        """The latest version of a model that was made by a recipe (`Provenance.recipe`), or None."""
        made = [v for v in self.versions(model) if v.artifact().manifest.provenance.recipe == recipe]
        return made[-1] if made else None

    def dangling(self) -> list[tuple[str, str, str]]:
        """Aliases whose version is no longer in the store: model, alias, version."""
        lost = []
        for model, aliases in self.aliases.all().items():
            there = {version for version, _ in self._folders(model)}
            lost += [(model, alias, version) for alias, version in aliases.items() if version not in there]
        return lost

    def set_alias(self, model: str, alias: str, version: str) -> Version:
        """Makes an alias name a version, ``latest`` standing for the version that is the latest now.

        Raises:
            VersionNotFound: The model has no such version.
            RegistryError: The alias cannot be one.
            StateError: The aliases cannot be written.
        """
        check_alias(alias)
        target = self.resolve(f"{model}:{version}")
        if alias in dict(self._folders(model)):
            raise RegistryError(f"{model} has a version {alias!r}; an alias of that name could not be told from it")
        self.aliases.set(model, alias, target.version)
        return self._version(model, target.version)

    def remove_alias(self, model: str, alias: str) -> None:
        """Removes an alias; its version stays.

        Raises:
            RegistryError: The model has no such alias.
            StateError: The aliases cannot be written.
        """
        if not self.aliases.remove(model, alias):
            raise RegistryError(f"{model} has no alias {alias!r}; its aliases are {', '.join(self.aliases.get(model)) or 'none'}")

    def delete(self, tag: str) -> None:
        """Deletes a version.

        Args:
            tag: ``name:version``, spelt out: neither an alias nor ``latest`` deletes anything.

        Raises:
            VersionNotFound: There is no such version.
            RegistryError: An alias names it.
        """
        wanted = parse_reference(tag)
        if wanted.version is None:
            raise RegistryError(f"{tag!r} does not say which version to delete; give NAME:VERSION")
        if wanted.version not in dict(self._folders(wanted.model)):
            there = _listed([v for v, _ in self._folders(wanted.model)]) or "none"
            raise VersionNotFound(f"there is no version {tag} to delete; the versions of {wanted.model} are {there}")
        named = [alias for alias, version in self.aliases.get(wanted.model).items() if version == wanted.version]
        if named:
            raise RegistryError(
                f"{tag} is {' and '.join(named)}; first give another version that alias "
                f"(`ekiben models alias {wanted.model} {named[0]} VERSION`) or take it away (`… {named[0]} --remove`)"
            )
        self._delete(wanted.model, wanted.version)

    def _crown(self, model: str, version: str) -> None:
        """Makes the first version champion; of several processes with a first version each, one succeeds."""
        former = self.aliases.get(model).get(CHAMPION)
        if former is not None and former not in dict(self._folders(model)):
            self.aliases.remove(model, CHAMPION)
        self.aliases.set(model, CHAMPION, version, replace=False)

    def _latest(self, model: str) -> str:
        listed = self._readable(model, {})
        if not listed:
            raise VersionNotFound(f"no version of {model} in the store can be read; `ekiben models verify {model}:VERSION` says why")
        return listed[-1].version

    def _version(self, model: str, version: str) -> Version:
        return _describe(model, version, dict(self._folders(model))[version], self.aliases.get(model))


def _describe(model: str, version: str, path: Path, aliases: Mapping[str, str]) -> Version:
    artifact = read_artifact(path)
    return Version(
        model=model,
        version=version,
        tag=f"{model}:{version}",
        path=path,
        created=artifact.manifest.provenance.created,
        size_bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        aliases=tuple(sorted(alias for alias, named in aliases.items() if named == version)),
    )


def _age(version: Version) -> tuple[str, str]:
    return version.created, version.version


def _listed(versions: list[str]) -> str:
    more = len(versions) - _SHOWN_VERSIONS
    return ", ".join(sorted(versions)[-_SHOWN_VERSIONS:]) + (f" and {more} more" if more > 0 else "")
