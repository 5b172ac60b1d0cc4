"""Who is measured: the service in its precisions, and the same network behind other servers."""

import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving.errors import NotInstalledError
from benchmarks.serving.machine import cores
from benchmarks.serving.peers.network import CHECKPOINT, PORT, THREADS, WORKERS
from benchmarks.serving.request import Form
from benchmarks.serving.servers import Command
from service.security.keys import new_key

ROOT = Path(__file__).parents[2]
MAX_UPLOAD_BYTES = 400_000_000  # a hundred megapixels as JPEG are more than the default


@dataclass(frozen=True)
class Contender:
    """A server by name, how it is started for a checkpoint, and how it is asked.

    `precision` is set for the service alone; `package` is what a peer needs in its environment;
    `key` is sent with every request.
    """

    name: str
    command: Callable[[Path], Command]
    path: str = "/segment"
    form: Form = "multipart"
    precision: str | None = None
    python: Path = field(default_factory=lambda: Path(sys.executable))
    package: str | None = None
    key: str | None = None

    def require_installed(self) -> None:
        """NotInstalledError names what is absent."""
        if self.package is None:
            return
        if not self.python.exists():
            raise NotInstalledError("not installed: make bench-peers")
        found = subprocess.run(
            [
                str(self.python),
                "-c",
                f"import importlib.util as u; u.find_spec({self.package!r}).name",
            ],
            capture_output=True,
            check=False,
        )
        if found.returncode:
            raise NotInstalledError(f"not installed: {self.package}")


def ours(
    precision: str,
    *,
    device: str = "auto",
    engine: str | None = None,
    calibration: Path | None = None,
    cache: Path | None = None,
    extra: Sequence[str] = (),
    max_upload_bytes: int = MAX_UPLOAD_BYTES,
    is_guarded: bool = False,
    environment: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Contender:
    """The service at a precision; int8 is told which photographs to calibrate with, and kept in
    `cache`, so that the user's own stays as it is."""
    options = ["--precision", precision, "--device", device, *extra]
    if cache is not None:
        options += ["--cache", str(cache)]
    key = None
    if is_guarded:
        key, entry = new_key("benchmark", frozenset({"admin", "segment"}))
        options += ["--api-keys", entry.line()]
    options += ["--max-upload-bytes", str(max_upload_bytes), "--log-level", "warning"]
    if engine is not None:
        options += ["--engine", engine]
    if precision == "int8" and calibration is not None:
        options += ["--calibration-images", str(calibration)]

    def command(checkpoint: Path) -> Command:
        served = ["--checkpoints", str(checkpoint.parent), "--model", checkpoint.stem]
        arguments = [sys.executable, "-m", "service", *served, "--port", "{port}", *options]
        return Command(arguments, "/readyz", environment or {}, cwd=ROOT)

    name = name or f"service, {precision}"
    return Contender(name, command, precision=precision, key=key)


def peers(python: Path) -> list[Contender]:
    """Every peer, with a worker of one thread for each core."""
    fastapi = _peer("FastAPI", "fastapi", python, "fastapi_server", "/healthz")
    litserve = _peer("LitServe", "litserve", python, "litserve_server", "/health", path="/predict")
    bento = Contender(
        "BentoML",
        lambda checkpoint: Command(
            [
                *(str(python), "-m", "bentoml", "serve", f"{PACKAGE}.bentoml_server:Segmentation"),
                *("--host", "127.0.0.1", "--port", "{port}"),
            ],
            "/readyz",
            _environment(checkpoint),
            ROOT,
        ),
        python=python,
        package="bentoml",
    )
    ray = _peer("Ray Serve", "ray", python, "ray_server", "/", path="/", form="raw")
    return [fastapi, litserve, bento, ray]


PACKAGE = "benchmarks.serving.peers"


def _peer(
    name: str,
    package: str,
    python: Path,
    module: str,
    ready_path: str,
    *,
    path: str = "/segment",
    form: Form = "multipart",
) -> Contender:
    def command(checkpoint: Path) -> Command:
        arguments = [str(python), "-m", f"{PACKAGE}.{module}"]
        return Command(arguments, ready_path, _environment(checkpoint), ROOT)

    return Contender(name, command, path, form, python=python, package=package)


def _environment(checkpoint: Path) -> Mapping[str, str]:
    return {
        CHECKPOINT: str(checkpoint.absolute()),
        PORT: "{port}",
        WORKERS: str(cores()),
        THREADS: "1",
        "PYTHONPATH": str(ROOT),
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # else it leaves one in the user's home
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # a cluster of one, on the loopback address
    }
