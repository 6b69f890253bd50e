"""A compactor that is killed, and killed again."""

import subprocess
import sys
import time

import pytest
from unit.monitoring.log_files import ALWAYS, NOON, ids, reader, row, segment

from ekiben.monitoring.log_folder import LogFolder
from ekiben.monitoring.log_keeper import LogKeeper

pytestmark = pytest.mark.processes
SCRIPT = """
import sys, pathlib
from ekiben.monitoring import compaction
from ekiben.monitoring.log_folder import LogFolder
from ekiben.monitoring.log_keeper import LogKeeper
compaction.GROUP_BYTES = 1  # a file for each segment, so that there is much to interrupt
LogKeeper(LogFolder(pathlib.Path(sys.argv[1])), lambda model: None, wall=lambda: float(sys.argv[2])).run_once()
"""


def test_what_was_killed_is_done_by_the_next_one(tmp_path):
    folder = LogFolder(tmp_path / "inference_log")
    for n in range(60):
        segment(folder, f"w-{n:02}", [row(f"{n}-{i}", NOON + i) for i in range(20)])
    expected = sorted(f"{n}-{i}" for n in range(60) for i in range(20))
    kills = 0
    for delay_s in (0.0, 0.002, 0.005):
        made = len(folder.files("m"))
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder.path), str(NOON)])
        while process.poll() is None and len(folder.files("m")) == made:
            time.sleep(0.001)
        time.sleep(delay_s)
        process.kill()
        kills += process.wait() == -9
        assert sorted(ids(reader(folder).read("m", **ALWAYS))) == expected
    assert kills
    LogKeeper(folder, lambda model: None, wall=lambda: NOON).run_once()
    assert (folder.segments("m"), folder.temporaries("m")) == ([], [])
    assert sorted(ids(reader(folder).read("m", **ALWAYS))) == expected
