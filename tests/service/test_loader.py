"""From a file to a model that is warm, in a thread; what failed is told and not kept."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service import loader as module
from service.catalog import load_active
from service.codec import Codec
from service.engines.torch_engine import TorchEngine
from service.errors import OverloadedError, UnservableModelError
from service.loaded import LoadedModel
from service.loader import Loader
from service.telemetry.telemetry import Telemetry
from service.trust import Trust
from tests.service.clients import settings_for
from tests.service.colours import save_colours


@pytest.fixture
def codec() -> Iterator[Codec]:
    made = Codec(threads=1, max_pixels=1000)
    yield made
    made.close()


@pytest.fixture
def loader(folder: Path, codec: Codec) -> Loader:
    return Loader(settings_for(folder, batch_pixels=None), codec, Telemetry(), Trust(folder))


@pytest.fixture
def model(folder: Path, loader: Loader) -> Iterator[LoadedModel]:
    """Warm, in passes of 4."""
    made = loader.assemble(load_active(folder, "colours"))
    made.batcher.start(capacity=4)
    yield made
    made.discard()


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sizes of networks whose capacity was looked for; it is 2."""
    found: list[str] = []

    def find(engine: Any, spec: Any, **_: Any) -> int:
        found.append(f"{spec.width}x{spec.height}")
        return 2

    monkeypatch.setattr(module, "find_capacity", find)
    return found


class TestCapacity:
    def test_other_weights_have_the_capacity_of_those_before(
        self, folder: Path, loader: Loader, model: LoadedModel, searched: list[str]
    ) -> None:
        save_colours(folder / "colours.pth", shift=1)
        new = loader.load(folder / "colours.pth", "colours", instead_of=model)
        assert (new.batcher.capacity, searched) == (4, [])
        new.discard()

    def test_another_size_of_input_has_its_own(
        self, folder: Path, loader: Loader, model: LoadedModel, searched: list[str]
    ) -> None:
        save_colours(folder / "colours.pth", width=48)
        new = loader.load(folder / "colours.pth", "colours", instead_of=model)
        assert (new.batcher.capacity, searched) == (2, ["48x32"])
        new.discard()

    def test_every_pass_is_warm(
        self,
        folder: Path,
        loader: Loader,
        model: LoadedModel,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        warm: list[int] = []
        monkeypatch.setattr(TorchEngine, "warm_up", lambda engine, count: warm.append(count))
        save_colours(folder / "colours.pth", shift=1)
        loader.load(folder / "colours.pth", "colours", instead_of=model).discard()
        assert warm == [1, 2, 4]


def test_the_same_file_is_the_same_model(folder: Path, loader: Loader, model: LoadedModel) -> None:
    assert loader.load(folder / "colours.pth", "colours", instead_of=model) is model


def test_after_stop_nothing_is_loaded(folder: Path, loader: Loader) -> None:
    loader.stop()
    with pytest.raises(OverloadedError, match="stopping"):
        loader.load(folder / "colours.pth", "colours", instead_of=None)


def test_a_failure_keeps_nothing_that_was_loaded(
    folder: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even while somebody keeps the error, and without the garbage collector."""
    engines: list[weakref.ref[TorchEngine]] = []

    def fail(engine: TorchEngine, *_: Any, **__: Any) -> None:
        engines.append(weakref.ref(engine))
        raise RuntimeError("the device stumbled")

    monkeypatch.setattr(TorchEngine, "run", fail)
    monkeypatch.setattr("service.loader.logger.error", lambda *_, **__: None)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(UnservableModelError, match="log has the details") as caught:
            loader.load(folder / "colours.pth", "colours", instead_of=None)
        assert caught.value.__context__ is None
        assert engines
        assert {engine() for engine in engines} == {None}
    finally:
        gc.enable()


def test_a_file_that_is_gone_is_named_without_its_folder(folder: Path, loader: Loader) -> None:
    with pytest.raises(UnservableModelError, match=r"'gone' cannot be loaded: gone\.pth: No such"):
        loader.load(folder / "gone.pth", "gone", instead_of=None)
