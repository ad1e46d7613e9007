"""A reader in a process of its own, which tells how much memory a file took."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]

READER = """
import json, os, resource, signal, sys, time
from pathlib import Path
import bridge

def taken():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

for line in sys.stdin:
    path = Path(line.rstrip("\\n"))
    child = os.fork()
    if not child:
        signal.alarm(15)
        before, answer = taken(), {}
        try:
            source = bridge.read(path)
            answer["shapes"] = [array.shape for array in source.values()]
        except bridge.BridgeError as error:
            answer["error"] = str(error)
        except BaseException as error:
            answer["unexpected"] = repr(error)
        answer["mebibytes"] = (taken() - before) >> 10
        os.write(1, json.dumps(answer).encode() + b"\\n")
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        os.write(1, json.dumps({"unexpected": status}).encode() + b"\\n")
"""


@pytest.fixture(scope="module")
def reader() -> Any:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", READER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )

    def read(path: Path) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        given: dict[str, Any] = json.loads(process.stdout.readline())
        return given

    with process:
        yield read
        assert process.stdin is not None
        process.stdin.close()
