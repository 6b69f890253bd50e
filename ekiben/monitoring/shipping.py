"""The log's files on object storage, for a fleet: each host ships what it has, under the same relative names.

A file is uploaded, then compared with what arrived; only then a marker beside the local file says so, and a day later the local
file goes. Uploading again changes nothing. While the storage is away, uploads are tried again after ever longer waits, and the
local files are all still there.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from ekiben.errors import LogError
from ekiben.monitoring.log_folder import LogFile, LogFolder, partition_of

logger = logging.getLogger("ekiben.log")

LOCAL_FOR_S: Final = 86_400.0
_FIRST_WAIT_S: Final = 5.0
_LONGEST_WAIT_S: Final = 300.0
_COMPARED_BYTES: Final = 64 * 1024
_S3: Final = {"config_kwargs": {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 1}}}


class Marker(msgspec.Struct, frozen=True):
    """What says that a local file was shipped.

    Attributes:
        to: The URI.
        time: When it was verified, seconds since the epoch.
    """

    to: str
    time: float


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

    def path(self, file: LogFile) -> str:
        """Where a file is, as fsspec names it."""
        return f"{self._root}/{file.relative}"

    def models(self) -> list[str]:
        """Models of which there are files.

        Raises:
            LogError: The storage does not answer.
        """
        names = self._guarded("listing it", lambda: self._names(self._root))
        return sorted(name.removeprefix("model=") for name in names if name.startswith("model="))

    def files(self, model: str, *, since: str = "", until: str = "9") -> list[LogFile]:
        """The files of a model, oldest date first; of dates from `since` to `until` alone, both included.

        Raises:
            LogError: The storage does not answer.
        """
        found: list[LogFile] = self._guarded("listing it", lambda: self._files(model, since, until))
        return found

    def upload(self, local: Path, file: LogFile) -> None:
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
                made = f"{target}.tmp"
                self.fs.put_file(str(local), made)
                self.fs.mv(made, target)
            else:
                self.fs.put_file(str(local), target)
            if not self._holds(local, file):
                raise OSError(f"{file.relative} did not arrive whole")

        self._guarded(f"uploading {file.relative}", ship)

    def remove(self, file: LogFile) -> None:
        """Deletes a file; one that is not there is no fault.

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

    def _holds(self, local: Path, file: LogFile) -> bool:
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


class Shipping:
    """Ships the local files of all models.

    Args:
        folder: The local log.
        storage: Where they go.
        spread: A number in [0, 1), so that hosts do not all come back at once.
    """

    def __init__(self, folder: LogFolder, storage: LogStorage, *, spread: Callable[[], float] = random.random) -> None:
        self._folder = folder
        self._storage = storage
        self._spread = spread
        self._wait_s = 0.0
        self._next = 0.0

    def unshipped(self, model: str) -> list[LogFile]:
        """Local files of a model that were not shipped to this place yet."""
        return [file for file in self._folder.files(model) if self._marker(file) is None]

    def ship(self, model: str, *, now: float) -> list[LogFile]:
        """Uploads what is new of a model; returns what arrived. During the wait after a failure it does nothing.

        Args:
            model: The model.
            now: Seconds since the epoch.

        Raises:
            LogError: The storage does not answer; what arrived until then is shipped.
            OSError: A local file cannot be read or marked.
        """
        if now < self._next:
            return []
        shipped = []
        for file in self.unshipped(model):
            try:
                self._storage.upload(self._folder.file(file), file)
            except LogError:
                self._wait_s = min(_LONGEST_WAIT_S, 2 * self._wait_s or _FIRST_WAIT_S)
                self._next = now + self._wait_s * (1 + self._spread() / 4)
                raise
            self._wait_s = 0.0
            self._folder.marker(file).write_bytes(msgspec.json.encode(Marker(self._storage.uri, now)))
            shipped.append(file)
        return shipped

    def tidy(self, model: str, *, now: float) -> list[LogFile]:
        """Deletes local files that were shipped more than a day ago; returns them.

        Raises:
            OSError: One cannot be deleted.
        """
        gone = []
        for file in self._folder.files(model):
            marker = self._marker(file)
            if marker is not None and now - marker.time >= LOCAL_FOR_S:
                self._folder.remove(file)
                gone.append(file)
        return gone

    def _marker(self, file: LogFile) -> Marker | None:
        try:
            marker = msgspec.json.decode(self._folder.marker(file).read_bytes(), type=Marker)
        except (FileNotFoundError, msgspec.MsgspecError):  # none, or one whose writer was killed: shipping again does no harm
            return None
        return marker if marker.to == self._storage.uri else None


def open_storage(uri: str) -> LogStorage | None:
    """The place that the settings name, if any.

    Raises:
        LogError: The library for such a place is not installed.
    """
    return LogStorage(uri) if uri else None
