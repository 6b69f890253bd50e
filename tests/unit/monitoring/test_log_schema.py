import subprocess
import sys

import pyarrow as pa
import pytest
from unit.monitoring.log_files import TEMP, WHO, head, raw_schema

from ekiben.monitoring.arrow_messages import schema_message
from ekiben.monitoring.log_schema import HEAD_KEY, LoggedField, raw_columns

DTYPES = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
WRITER = """
import sys
sys.modules["pyarrow"] = None
import ekiben.monitoring.inference_log
import ekiben.monitoring.log_keeper
import ekiben.monitoring.opening
"""


@pytest.mark.parametrize(
    "described",
    [
        head(),
        head(inputs=()),
        head(inputs=[LoggedField(name, "float", name) for name in DTYPES]),
        head(inputs=[LoggedField(name, "tensor", name, (2, 3)) for name in DTYPES]),
        head(inputs=[LoggedField("scalar", "tensor", "float32", ())]),
        head(inputs=[TEMP], labels=("a", "b", "c"), is_binary=False),
        head(inputs=[TEMP, WHO], labels=(), outputs=(LoggedField("prediction", "float", "float64"),)),
        head(inputs=[WHO], labels=(), outputs=(LoggedField("boxes", "tensor", "int32", (4, 5)), LoggedField("n", "tensor", "int64", (1,)))),
        head(inputs=[TEMP], labels=(), outputs=()),
    ],
    ids=str,
)
def test_a_segment_has_the_schema_that_pyarrow_would_give_it(described):
    message = schema_message(raw_columns(described), {HEAD_KEY: described.encoded()})
    assert pa.ipc.read_schema(pa.py_buffer(message)).equals(raw_schema(described), check_metadata=True)


def test_who_writes_and_ships_a_log_needs_no_pyarrow():
    done = subprocess.run([sys.executable, "-c", WRITER], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
