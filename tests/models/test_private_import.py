"""Optional packages tell nobody that they are used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.private_import import import_private

CONVERT = """
import sys

def forbid(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "os.fork"):
        print(event, arguments)

sys.addaudithook(forbid)
from models.private_import import import_private
openvino = import_private("openvino")
import torch
network = torch.nn.Conv2d(3, 2, 3).eval()
openvino.convert_model(network, example_input=torch.zeros(1, 3, 8, 8))
"""


def test_openvino_converts_without_a_connection_a_process_or_a_file(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is optional")
    finished = subprocess.run(
        [sys.executable, "-c", CONVERT],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert finished.stdout == ""
    assert list(tmp_path.iterdir()) == []  # it would have kept a number for this user


def test_a_package_that_is_not_installed_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="no_such_package"):
        import_private("no_such_package")
