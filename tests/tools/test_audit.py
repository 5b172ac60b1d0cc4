"""`make audit` says that all is well only of what was looked up."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "audit.py"
FINE = {"name": "fine", "version": "1", "vulns": []}
SKIPPED = {"name": "odd", "skip_reason": "not found"}
WEAK = {"name": "weak", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}


@pytest.mark.parametrize(
    ("packages", "status", "named"),
    [
        ([FINE], 0, ""),
        ([FINE, WEAK], 1, "weak 2: CVE-1, fixed in 3"),
        ([FINE, SKIPPED], 2, "NOT AUDITED: 1 of 2"),
        ([WEAK, SKIPPED], 1, "NOT AUDITED: 1 of 2"),
        ([], 2, "NOT AUDITED"),
        (None, 2, "could not be asked"),
    ],
)
def test_the_report_is_told(
    tmp_path: Path, packages: list[dict[str, Any]] | None, status: int, named: str
) -> None:
    report = tmp_path / "audit.json"
    if packages is not None:
        report.write_text(json.dumps({"dependencies": packages, "fixes": []}))
    done = subprocess.run([sys.executable, SCRIPT, report], capture_output=True, text=True)
    assert done.returncode == status
    assert named in done.stdout + done.stderr
