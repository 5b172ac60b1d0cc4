"""The compiled sources read and write where they may: their tests, under the compiler's
sanitizers. A row read too far changes no label as long as what lies behind it has no weight."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ("test_cpu_segment.py", "test_cpu_blend.py")
CHECKED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# exceptions of other libraries are thrown through the sanitizer, which has to know their runtime
RUNTIMES = ("libasan.so", "libstdc++.so.6")


def runtimes() -> list[str]:
    """Where the compiler has what a process needs before anything else is loaded."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("needs a C compiler on Linux")
    found = []
    for name in RUNTIMES:
        asked = ["cc", f"-print-file-name={name}"]
        path = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        if not Path(path).is_absolute():
            pytest.skip(f"the compiler has no {name}")
        found.append(path)
    return found


def built(folder: Path) -> Path:
    """The library as pyproject.toml has it, but with every access checked."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (module,) = project["tool"]["setuptools"]["ext-modules"]
    library = folder / "compiled.so"
    options = [*module["extra-compile-args"], *CHECKED, "-shared", "-fPIC"]
    command = ["cc", *options, *module["sources"], "-o", str(library), "-lm"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return library


def test_nothing_is_read_or_written_beyond_its_end(tmp_path: Path) -> None:
    preloaded = runtimes()
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(preloaded),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python frees little at its end
        "COMPILED": str(built(tmp_path)),
    }
    # nothing is captured: a report would be lost with the process that it ends
    options = ["-p", "tests.models.sanitized", "-p", "no:cacheprovider", "-q", "-s"]
    tests = [f"tests/models/{name}" for name in TESTS]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[:4000] + ran.stdout[-4000:]
    assert " passed" in ran.stdout
