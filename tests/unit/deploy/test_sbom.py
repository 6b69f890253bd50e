import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "deploy" / "image" / "sbom.py"
STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10
Description: GNU C Library
 a line that says: more

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1.0

Package: tzdata
Status: install ok installed
Architecture: all
Version: 1:2025b-0
"""


@pytest.fixture(scope="module")
def sbom():
    spec = importlib.util.spec_from_file_location("sbom", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_debian_packages_are_those_installed(sbom):
    assert [(item["name"], item["version"], item["purl"]) for item in sbom.debian_components(STATUS)] == [
        ("libc6", "2.36-9+deb12u10", "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64"),
        ("tzdata", "1:2025b-0", "pkg:deb/debian/tzdata@1%3A2025b-0?arch=all"),
    ]


def test_models_are_components(sbom):
    bento = {"services": [{"models": [{"tag": "tiny:2"}, {"tag": "plane:1"}]}]}
    found = [(item["type"], item["name"], item["version"]) for item in sbom.model_components(bento)]
    assert found == [("machine-learning-model", "plane", "1"), ("machine-learning-model", "tiny", "2")]
