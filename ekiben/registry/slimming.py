"""Takes out of an environment what no process reads that serves. The image's first stage runs this file by itself, with Python alone.

What goes is said in `CUTS`, each with its reason. Shared objects that stay lose what lies behind the last byte that is ever
mapped: symbol tables and debugging information, which some packages ship by the megabyte. The loader reads program headers alone
(https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html), so that no tool is needed and nothing is loaded otherwise
than before; a debugger sees no names of C functions.
"""

from __future__ import annotations

import re
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple


class Cut(NamedTuple):
    """What goes.

    Attributes:
        pattern: Matches whole paths below ``site-packages``, with ``/``; of a folder, all in it goes.
        why: Why nobody who serves needs it.
        unless: A package that needs it after all: where its folder is there, this stays.
    """

    pattern: str
    why: str
    unless: str = ""


CUTS: Final = (
    Cut(r"(.*/)?tests?", "the tests of packages"),
    Cut(r"sqlalchemy/testing", "what the makers of SQLAlchemy's dialects test them with"),
    Cut(r".*\.(pyi|pyx|pxd|c|h|cpp|hpp|cc|a)", "type stubs, sources and archives that compilers read"),
    Cut(r"onnxruntime/capi/libonnxruntime\.so.*", "for programs in C: the Python module has the same code linked in"),
    Cut(r"onnxruntime/(quantization|tools|transformers)", "change models, before anybody serves them"),
    Cut(
        r"botocore/data/(?!(s3|sts|sso|sso-oidc|signin|endpoints\.json|partitions\.json|_retry\.json|sdk-default-configuration\.json)$)[^/]*",
        "services of AWS that s3fs does not ask: it needs S3 and what credentials come from; who brings boto3 may ask any",
        unless="boto3",
    ),
    Cut(r"pyarrow/(libarrow_flight\.so.*|_flight\..*)", "Arrow's RPC, which nothing here speaks"),
    Cut(r"pyarrow/(libarrow_s3\.so.*|_s3fs\..*)", "pyarrow's own way to S3: s3fs is used"),
)

_SHARED: Final = re.compile(r"\.so(\.[\d.]+)?$")
# Of ELF's header for 64 bits, little endian.
_HEADER_BYTES: Final = 64
_IS_ELF_64: Final = b"\x7fELF\x02\x01"
_PROGRAM_HEADERS_AT, _SECTIONS_AT, _PROGRAM_HEADER_SIZES_AT, _SECTION_COUNTS_AT = 32, 40, 54, 60
_OFFSET_AT, _FILE_BYTES_AT = 8, 32


def slim(packages: Path) -> int:
    """Takes what nobody reads out of a ``site-packages`` folder; returns how many bytes went.

    Raises:
        OSError: Something cannot be deleted or written.
    """
    before = _size(packages)
    cuts = [re.compile(cut.pattern) for cut in CUTS if not (cut.unless and (packages / cut.unless).is_dir())]
    for path in list(_matching(packages, packages, cuts)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path in sorted(packages.rglob("*.so*")):
        if path.is_file() and not path.is_symlink() and _SHARED.search(path.name):
            cut_symbols(path)
    return before - _size(packages)


def cut_symbols(shared: Path) -> None:
    """Cuts off what a shared object has behind all that is mapped; another kind of file is left as it is.

    It is written anew: the file may be the same as one in an installer's cache.

    Raises:
        OSError: It cannot be read or written.
    """
    with shared.open("rb") as file:
        end = _mapped_end(file)
        if end is None or end >= shared.stat().st_size:
            return
        made = shared.with_name(f"{shared.name}.made")
        file.seek(0)
        with made.open("wb") as cut:
            shutil.copyfileobj(file, cut)
            cut.truncate(end)
            for at, size in ((_SECTIONS_AT, 8), (_SECTION_COUNTS_AT, 4)):  # there are no section headers any more
                cut.seek(at)
                cut.write(bytes(size))
    shutil.copymode(shared, made)
    made.replace(shared)


def _mapped_end(file: BinaryIO) -> int | None:
    """Behind the last byte that a program header names; None of what is no ELF for 64 bits, little endian."""
    header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or not header.startswith(_IS_ELF_64):
        return None
    (begin,) = struct.unpack_from("<Q", header, _PROGRAM_HEADERS_AT)
    size, count = struct.unpack_from("<HH", header, _PROGRAM_HEADER_SIZES_AT)
    file.seek(begin)
    table = file.read(size * count)
    ends: list[int] = [begin + len(table)]
    for at in range(0, len(table), size):
        offset, file_bytes = (struct.unpack_from("<Q", table, at + place)[0] for place in (_OFFSET_AT, _FILE_BYTES_AT))
        ends.append(offset + file_bytes)
    return max(ends)


def _matching(folder: Path, root: Path, cuts: list[re.Pattern[str]]) -> Iterator[Path]:
    """What is to go; nothing inside a folder that goes as a whole."""
    for path in sorted(folder.iterdir()):
        relative = path.relative_to(root).as_posix()
        if any(cut.fullmatch(relative) for cut in cuts):
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from _matching(path, root, cuts)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


if __name__ == "__main__":
    (found,) = Path(sys.argv[1]).glob("lib/python3*/site-packages")
    sys.stdout.write(f"{slim(found) / 1e6:.0f} MB that nobody reads who serves are gone\n")
