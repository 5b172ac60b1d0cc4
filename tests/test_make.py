"""What `make` would do, without doing it."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_serving_brings_the_fast_engine_for_cpus() -> None:
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    planned = subprocess.run(
        ["make", "--dry-run", "--always-make", "serve"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    extras = re.search(r"--editable '\.\[([^]]*)\]'", planned)
    assert extras is not None, planned
    assert {"service", "openvino"} <= set(extras[1].split(","))
    assert re.search(r"python -m service --model \S+$", planned, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(each.startswith("openvino") for each in project["optional-dependencies"]["openvino"])
    assert re.search(r"^openvino==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
