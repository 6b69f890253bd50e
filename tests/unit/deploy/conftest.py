import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def tool():
    """The path of a program of the tools' environment, which is made where it is missing."""
    folder = ROOT / ".tools" / "bin"
    if not (folder.parent / ".installed").is_file():
        subprocess.run(["make", "--silent", "tools", f"PYTHON={sys.executable}"], cwd=ROOT, check=True, timeout=280)
    return lambda name: folder / name
