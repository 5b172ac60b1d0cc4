"""The OpenAPI document is true: schemathesis asks all that it allows and much that it does not.

Every check is on: no 5xx, every status, content type, header and body as described, wrong requests
refused, right ones served, no key no answer.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.security.keys import SCOPES, Scope, new_key
from tests.service.clients import LEAKS
from tests.service.colours import THREE_MODELS, save_colours
from tests.service.server import Server, launch

CONTRACT = Path(__file__).parent / "contract"
KEYS = {scope: new_key(scope, frozenset({scope})) for scope in SCOPES}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server with three models and a key of each scope."""
    folder = tmp_path_factory.mktemp("guarded")
    for shift, name in enumerate(THREE_MODELS):
        save_colours(folder / f"{name}.pth", shift=shift)
    started = launch(
        SERVICE_CHECKPOINTS=str(folder),
        SERVICE_MODEL="colours",
        SERVICE_PORT="0",
        SERVICE_DEVICE="cpu",
        SERVICE_ENGINE="torch",
        SERVICE_PRECISION="float32",
        SERVICE_THREADS="1",
        SERVICE_BATCH_PIXELS="4096",
        SERVICE_API_KEYS=" ".join(key.line() for _, key in KEYS.values()),
    )
    try:
        started.wait_until_listening()
        yield started
    finally:
        started.stop(signal.SIGTERM)


@pytest.mark.parametrize(
    ("scope", "phases", "examples", "least"),
    [("admin", "coverage,fuzzing,stateful", 5, 200), (None, "fuzzing", 3, 20)],
    ids=["admin", "nobody"],
)
def test_the_service_does_what_its_openapi_document_says(
    guarded: Server, tmp_path: Path, scope: Scope | None, phases: str, examples: int, least: int
) -> None:
    key = [] if scope is None else ["--header", f"Authorization: Bearer {KEYS[scope][0]}"]
    log = len(guarded.log)
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "--no-color"),
            *("--config-file", CONTRACT / "schemathesis.toml"),
            *("run", f"{guarded.url}/openapi.json", "--checks", "all", "--continue-on-failure"),
            *("--phases", phases, "--max-examples", str(examples), *key),
        ],
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "images", "PYTHONPATH": str(CONTRACT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    generated = re.search(r"^ *(\d+) generated", done.stdout, re.MULTILINE)
    assert generated is not None, done.stdout
    assert int(generated[1]) >= least, done.stdout
    assert not [leak for leak in LEAKS if leak in "\n".join(guarded.log[log:])]
