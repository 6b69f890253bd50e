"""A place that the log is shipped to: object storage, or whatever fsspec knows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ekiben.errors import LogError
from ekiben.monitoring.log_folder import TAIL, LogFile, LogPart, TailSegment, is_segment, partition_of

_COMPARED_BYTES: Final = 64 * 1024
_S3: Final = {"config_kwargs": {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 1}}}


class LogStorage:
    """A place that files are shipped to.

    Args:
        uri: ``s3://bucket/folder`` and the like; what fsspec knows. Credentials and endpoints are the client library's matter,
            for S3 the variables of AWS.

    Raises:
        LogError: The library for such a place is not installed.
    """

    def __init__(self, uri: str) -> None:
        import fsspec.core  # noqa: PLC0415  only where the log is shipped

        self.uri = uri
        scheme = uri.partition("://")[0]
        try:
            self.fs, self._root = fsspec.core.url_to_fs(uri, use_listings_cache=False, **(_S3 if scheme == "s3" else {}))
        except (ImportError, ValueError) as e:
            raise LogError(f"{uri} cannot be used: {e}; pip install 'ekiben[s3]' for s3://, gcsfs for gs://, adlfs for az://") from e
        self._is_local = scheme == "file"

    @property
    def disk(self) -> Path | None:
        """The folder, where the place is a disk of this host's."""
        return Path(self._root) if self._is_local else None

    def path(self, file: LogPart) -> str:
        """Where a file or segment is, as fsspec names it."""
        return f"{self._root}/{file.relative}"

    def models(self) -> list[str]:
        """Models of which there are files or segments.

        Raises:
            LogError: The storage does not answer.
        """
        names = self._guarded("listing it", lambda: {*self._names(self._root), *self._names(f"{self._root}/{TAIL}")})
        return sorted(name.removeprefix("model=") for name in names if name.startswith("model="))

    def files(self, model: str, *, since: str = "", until: str = "9") -> list[LogFile]:
        """The files of a model, oldest date first; of dates from `since` to `until` alone, both included.

        Raises:
            LogError: The storage does not answer.
        """
        found: list[LogFile] = self._guarded("listing it", lambda: self._files(model, since, until))
        return found

    def segments(self, model: str) -> list[TailSegment]:
        """The segments of a model that were shipped as they are and are no file yet, by name.

        Raises:
            LogError: The storage does not answer.
        """
        found: list[TailSegment] = self._guarded("listing it", lambda: self._segments(model))
        return found

    def read(self, segment: TailSegment) -> bytes | None:
        """What is in a segment; None where it has gone.

        Raises:
            LogError: The storage does not answer.
        """

        def fetch() -> bytes | None:
            try:
                return bytes(self.fs.cat_file(self.path(segment)))
            except FileNotFoundError:
                return None

        found: bytes | None = self._guarded(f"reading {segment.relative}", fetch)
        return found

    def upload(self, local: Path, file: LogPart) -> None:
        """Uploads a file and looks whether it arrived; one that is there already stays.

        Raises:
            LogError: The storage does not answer, or what arrived is something else.
        """

        def ship() -> None:
            if self._holds(local, file):
                return
            target = self.path(file)
            if self._is_local:  # elsewhere there are no folders, and a file appears whole or not at all
                self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
                made = f"{target}.{os.urandom(4).hex()}.tmp"  # another monitor may be at the same file
                try:
                    self.fs.put_file(str(local), made)
                    self.fs.mv(made, target)
                finally:
                    Path(made).unlink(missing_ok=True)
            else:
                self.fs.put_file(str(local), target)
            if not self._holds(local, file):
                raise OSError(f"{file.relative} did not arrive whole")

        self._guarded(f"uploading {file.relative}", ship)

    def remove(self, file: LogPart) -> None:
        """Deletes a file or segment; one that is not there is no fault.

        Raises:
            LogError: The storage does not answer.
        """

        def delete() -> None:
            try:
                self.fs.rm_file(self.path(file))
            except FileNotFoundError:
                return

        self._guarded(f"deleting {file.relative}", delete)

    def _names(self, folder: str) -> list[str]:
        try:
            return [str(entry).rstrip("/").rpartition("/")[2] for entry in self.fs.ls(folder, detail=False)]
        except FileNotFoundError:
            return []

    def _files(self, model: str, since: str, until: str) -> list[LogFile]:
        found = []
        for name in sorted(self._names(f"{self._root}/model={model}")):
            if not name.startswith("date=") or not since <= name.removeprefix("date=") <= until:
                continue
            for path, info in self.fs.find(f"{self._root}/model={model}/{name}", detail=True).items():
                parts = partition_of("/".join(str(path).split("/")[-3:]))
                if parts is not None:
                    found.append(LogFile(*parts, int(info["size"])))
        return sorted(found)

    def _segments(self, model: str) -> list[TailSegment]:
        try:
            entries = self.fs.ls(f"{self._root}/{TAIL}/model={model}", detail=True)
        except FileNotFoundError:
            return []
        named = [(str(entry["name"]).rpartition("/")[2], int(entry["size"] or 0)) for entry in entries]
        return sorted(TailSegment(model, name, size) for name, size in named if is_segment(name))

    def _holds(self, local: Path, file: LogPart) -> bool:
        """Whether a file is there with the size and the last bytes of the local one; a Parquet file's end says where all else is."""
        size = local.stat().st_size
        try:
            if self.fs.info(self.path(file))["size"] != size:
                return False
            start = max(0, size - _COMPARED_BYTES)
            arrived = self.fs.cat_file(self.path(file), start=start, end=size)
        except FileNotFoundError:
            return False
        with local.open("rb") as f:
            f.seek(start)
            return bool(f.read() == arrived)

    def _guarded(self, doing: str, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except Exception as e:  # fsspec lets through whatever its libraries raise, botocore's errors among them
            raise LogError(f"{self.uri} does not work, {doing}: {str(e) or type(e).__name__}") from e


def open_storage(uri: str) -> LogStorage | None:
    """The place that the settings name, if any.

    Raises:
        LogError: The library for such a place is not installed.
    """
    return LogStorage(uri) if uri else None
