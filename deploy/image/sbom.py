"""Adds Debian's packages and the models to the list of an image's Python packages; ``sbom.sh`` calls it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml


def debian_components(status: str) -> list[dict[str, Any]]:
    """The installed packages in the text of ``/var/lib/dpkg/status``."""
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and not line.startswith(" "))
        if fields.get("Status", "").endswith(" installed"):
            name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
            purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={architecture}"
            found.append({"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl})
    return found


def model_components(bento: dict[str, Any]) -> list[dict[str, Any]]:
    """The packed versions in a Bento's description."""
    tags = sorted(model["tag"] for service in bento["services"] for model in service["models"])
    return [
        {"type": "machine-learning-model", "name": name, "version": version, "bom-ref": f"model:{name}@{version}"}
        for name, version in (tag.split(":") for tag in tags)
    ]


def main(image: str, python: str, status: str, bento: str, target: str) -> None:
    """Writes the whole list, as a CycloneDX validator accepts it."""
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415  the tests of the functions above need none
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    bom = json.loads(Path(python).read_text())
    described = yaml.safe_load(Path(bento).read_text())
    bom.setdefault("components", []).extend([*debian_components(Path(status).read_text()), *model_components(described)])
    bom.setdefault("metadata", {})["component"] = {"type": "container", "name": image.rpartition(":")[0], "version": described["version"]}
    text = json.dumps(bom, indent=2)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"the list of {image} is no valid CycloneDX: {error}")
    Path(target).write_text(text + "\n")
    sys.stdout.write(f"{target}: {len(bom['components'])} components\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
