"""Server processes are waited for, and ended with all that they started."""

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.serving.errors import RefusedError
from benchmarks.serving.process import family, peak_mib, reset_peak, resident_mib
from benchmarks.serving.servers import Command, serving

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SERVER = """
import http.server, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def is_alive(pid: int) -> bool:
    """A process that has ended but was not asked after counts as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@linux
def test_a_server_ends_with_its_children(tmp_path: Path) -> None:
    command = Command([sys.executable, "-c", SERVER, "{port}"], "/")
    with serving(command, log=tmp_path / "log") as server:
        members = family(server.pid)
        assert len(members) == 2
        reset_peak(server.pid)
        assert 0 < resident_mib(server.pid) <= peak_mib(server.pid) + 1
    deadline = time.monotonic() + 10  # the kernel takes a moment
    while any(is_alive(pid) for pid in members) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(is_alive(pid) for pid in members)


@linux
def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    code = f"import sys; sys.exit('usage: ...\\nx: error: --precision int8: no {tmp_path}/a')"
    command = Command([sys.executable, "-c", code], "/")
    with (
        pytest.raises(RefusedError, match=r"^--precision int8: no a$"),
        serving(command, log=tmp_path / "log"),
    ):
        pass


@linux
def test_a_server_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    command = Command([sys.executable, "-c", code], "/")
    log = tmp_path / "log"
    with (
        pytest.raises(RefusedError, match="not ready in time"),
        serving(command, log=log, timeout_s=1),
    ):
        pass
    text = log.read_text().strip()
    assert not text or not is_alive(int(text))


@linux
def test_the_family_holds_this_process() -> None:
    assert family(os.getpid())[0] == os.getpid()
