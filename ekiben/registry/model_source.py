"""A model that someone brings: its file, its framework, and the files it cannot do without."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Final
from zipfile import is_zipfile

import msgspec

from ekiben.errors import ArtifactError
from ekiben.model.artifact import MANIFEST

_SUFFIXES: Final = {
    "onnx": (".onnx",),
    "torch": (".pt2",),
    "sklearn": (".skops", ".joblib", ".pkl", ".pickle"),
}
PACKAGES: Final = {"onnx": ("onnxruntime",), "torch": ("torch",), "sklearn": ("scikit-learn", "joblib", "skops")}
_TORCH_EXPORT: Final = "torch.export.save(torch.export.export(model.eval(), …), 'model.pt2')"
# In an ONNX file each weight kept elsewhere has an entry with the key "location" (field 1) and a path (field 2), whose
# length is in one byte, or in two where it is 128 or more.
_LOCATION: Final = re.compile(rb"\x0a\x08location\x12([\x00-\x7f]|[\x80-\xff][\x00-\x7f])", re.DOTALL)


class ModelSource(msgspec.Struct, frozen=True):
    """Where a model comes from.

    Attributes:
        framework: ``onnx``, ``sklearn`` or ``torch``.
        file: The model file.
        files: Name inside an artifact → file, for the model and what it refers to; the model comes first.
    """

    framework: str
    file: Path
    files: dict[str, Path]

    @property
    def name(self) -> str:
        """The model file's name inside an artifact."""
        return next(iter(self.files))


def source_of(framework: str, file: Path) -> ModelSource:
    """The source that a file is.

    Raises:
        ArtifactError: There is no such file, its name does not go with the framework, or what it refers to is missing.
    """
    if not file.is_file():
        raise ArtifactError(f"{file}: there is no such file")
    suffix = file.suffix.lower()
    if suffix not in _SUFFIXES[framework]:
        other = next((name for name, known in _SUFFIXES.items() if suffix in known), None)
        hint = f"; for {suffix} give --{other}" if other else _hint(suffix)
        raise ArtifactError(f"{file}: a file for --{framework} ends in {' or '.join(_SUFFIXES[framework])}{hint}")
    if framework == "torch" and not is_zipfile(file):  # torch would log a traceback before it says so
        raise ArtifactError(f"{file} is no exported program; save the model with {_TORCH_EXPORT}")
    files = {f"model{suffix}": file}
    if framework == "onnx":
        files |= {name: file.parent / name for name in _external_data(file)}
    return ModelSource(framework, file, files)


def source_in(folder: Path, tag: str) -> ModelSource:
    """The model inside a folder of the BentoML store, as ``bentoml.sklearn``, ``bentoml.onnx`` or people save it.

    Raises:
        ArtifactError: It has none that Ekiben runs, or several.
    """
    if (folder / MANIFEST).is_file():
        raise ArtifactError(f"{tag} is a version of Ekiben's own already; `ekiben models show {tag}` shows it")
    present = sorted(p for p in folder.rglob("*") if p.is_file())
    for framework, suffixes in _SUFFIXES.items():
        found = [p for p in present if p.suffix.lower() in suffixes]
        if len(found) > 1:
            names = ", ".join(p.relative_to(folder).as_posix() for p in found)
            raise ArtifactError(f"{tag} holds {len(found)} models ({names}); give one of the files of {folder} with --{framework}")
        if found:
            return source_of(framework, found[0])
    names = ", ".join(p.relative_to(folder).as_posix() for p in present)
    hint = next((h for p in present if (h := _hint(p.suffix.lower()))), "")
    raise ArtifactError(f"{tag} holds no .onnx, .pt2, .skops, .joblib or .pkl file; it has {names}{hint}")


def _hint(suffix: str) -> str:
    if suffix in (".pt", ".pth"):
        return f"; a .pt file is pickled Python: save the model with {_TORCH_EXPORT}"
    return ""


def _external_data(file: Path) -> list[str]:
    """Files beside an ONNX file that hold its weights, as the file names them."""
    content = file.read_bytes()
    names: dict[str, None] = {}
    for match in _LOCATION.finditer(content):
        start, length = match.end(), sum((byte & 0x7F) << 7 * n for n, byte in enumerate(match.group(1)))
        names[content[start : start + length].decode(errors="replace")] = None
    for name in names:
        if PurePosixPath(name) == PurePosixPath(f"model{file.suffix.lower()}"):
            raise ArtifactError(f"{file} keeps weights in {name!r}, which is what the model itself is called in a version; rename it")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ArtifactError(f"{file} keeps weights in {name!r}, outside its own folder; save it with all its files in one folder")
        if not (file.parent / name).is_file():
            raise ArtifactError(f"{file} keeps weights in {name!r}, which is not beside it")
    return list(names)
