"""Fixtures: a folder with the colour checkpoint, an app that serves it, one real server."""

import os
import re
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import save_checkpoint
from service.app import create_app
from service.engines.torch_engine import TorchEngine
from tests.networks import manifest_for, small_network
from tests.service.clients import Client, client_for, settings_for
from tests.service.colours import THREE_MODELS, colour_manifest, save_colours, tile_spec
from tests.service.server import Server, launch
from tests.service.spy import Spy


def pytest_make_parametrize_id(val: object) -> str | None:
    """Keys are made anew by every process, which must all call a test by one name."""
    if (
        isinstance(val, str)
        and (masked := re.sub(r"mw_[\w-]{20,}|[0-9a-f]{64}", "KEY", val)) != val
    ):
        return masked
    return None


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.upper().startswith("SERVICE_")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """For such small networks a second thread only waits for the first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """At most 2 GiB more, so that a mistake fails the test and not the machine (on Linux)."""
    if sys.platform != "linux":
        yield
        return
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 2 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of checkpoints that holds `colours`, to be changed at will."""
    save_colours(tmp_path / "checkpoints" / "colours.pth")
    return tmp_path / "checkpoints"


@pytest.fixture
def tiled_folder(tmp_path: Path) -> Path:
    """`colours` in tiles of SIDE, and `tiles`, whose answer at a pixel depends on its tile."""
    save_colours(tmp_path / "colours.pth", input=tile_spec(colour_manifest()))
    network = small_network("unet_resnet50")
    manifest = manifest_for(network, "unet_resnet50")
    tiled = manifest.model_copy(update={"input": tile_spec(manifest, height=40, width=32)})
    save_checkpoint(tmp_path / "tiles.pth", network.state_dict(), tiled)
    return tmp_path


@pytest.fixture
def three_models(folder: Path) -> Path:
    """A folder of models that are told apart by what they say of red."""
    for shift, name in enumerate(THREE_MODELS):
        save_colours(folder / f"{name}.pth", shift=shift)
    return folder


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder behind `client` and `server`: not to be changed."""
    root = tmp_path_factory.mktemp("served")
    save_colours(root / "colours.pth")
    return root


@pytest.fixture(scope="session")
def client(served_folder: Path) -> Iterator[Client]:
    """A started app with small limits."""
    settings = settings_for(
        served_folder,
        max_upload_bytes=100_000,
        max_pixels=1_000_000,
        max_batch_files=4,
        max_batch_bytes=300_000,
    )
    with client_for(create_app(settings)) as started:
        yield started


@pytest.fixture(scope="session")
def server(served_folder: Path) -> Iterator[Server]:
    """A real server, set up by its environment alone, with a limit of 100,000 bytes."""
    started = launch(
        SERVICE_CHECKPOINTS=str(served_folder),
        SERVICE_PORT="0",
        SERVICE_DEVICE="cpu",
        SERVICE_ENGINE="torch",
        SERVICE_PRECISION="float32",
        SERVICE_MAX_UPLOAD_BYTES="100000",
    )
    try:
        started.wait_until_listening()
        yield started
    finally:
        started.stop(signal.SIGTERM)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """On the device of every app made from now on; there is no warm-up."""
    found = Spy(TorchEngine.run)

    def run(engine: TorchEngine, pixels: Tensor, *, alone: bool) -> Tensor:
        return found.run(engine, pixels, alone=alone)

    monkeypatch.setattr(TorchEngine, "run", run)
    monkeypatch.setattr(TorchEngine, "warm_up", lambda engine, count: None)
    return found
