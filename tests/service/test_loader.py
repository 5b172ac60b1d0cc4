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
    """In memory, and as good as warm."""
    made = loader.assemble(load_active(folder, "colours"))
    made.batcher.start(capacity=1)
    yield made
    made.discard()


class Search:
    """Finds what it is told to, and remembers for which sizes of input."""

    def __init__(self) -> None:
        self.finds = 1
        self.sizes: list[str] = []

    def __call__(self, engine: Any, spec: Any, **_: Any) -> int:
        self.sizes.append(f"{spec.width}x{spec.height}")
        return self.finds


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Search:
    found = Search()
    monkeypatch.setattr(module, "find_capacity", found)
    return found


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The passes that are warmed up; none of more than 8 fits the memory."""
    found: list[int] = []

    def warm_up(engine: TorchEngine, count: int) -> None:
        if count > 8:
            raise MemoryError
        found.append(count)

    monkeypatch.setattr(TorchEngine, "warm_up", warm_up)
    return found


class TestCapacity:
    def start(self, folder: Path, loader: Loader) -> int:
        """The first model's, when nothing else is busy."""
        first = loader.assemble(load_active(folder, "colours"))
        loader.warm_up(first, undisturbed=True)
        first.discard()
        return first.batcher.capacity

    def load(self, folder: Path, loader: Loader, name: str) -> int:
        """A later one's, beside others that are busy."""
        later = loader.load(folder / f"{name}.pth", name, instead_of=None)
        later.discard()
        return later.batcher.capacity

    @pytest.mark.parametrize("name", ["colours", "other"])
    def test_other_weights_have_what_was_found_when_nothing_else_was_busy(
        self, folder: Path, loader: Loader, search: Search, warm: list[int], name: str
    ) -> None:
        search.finds = 4
        assert self.start(folder, loader) == 4
        save_colours(folder / f"{name}.pth", shift=1)
        search.finds = 1
        assert [self.load(folder, loader, name) for _ in range(2)] == [4, 4]
        assert search.sizes == ["32x32"]
        assert warm == [1, 2, 4] * 2  # the first were warm when they had been measured

    def test_another_size_of_input_has_its_own(
        self, folder: Path, loader: Loader, search: Search
    ) -> None:
        self.start(folder, loader)
        search.finds = 2
        save_colours(folder / "wide.pth", width=48)
        assert self.load(folder, loader, "wide") == 2
        assert search.sizes == ["32x32", "48x32"]

    def test_of_what_was_found_beside_others_the_largest_counts(
        self, folder: Path, loader: Loader, search: Search, warm: list[int]
    ) -> None:
        found = []
        for search.finds in (2, 1, 8, 4):
            found.append(self.load(folder, loader, "colours"))
        assert found == [2, 2, 8, 8]
        assert warm == [2, 8]  # the rest was measured, and is warm

    def test_where_the_memory_holds_less_passes_are_smaller(
        self, folder: Path, loader: Loader, search: Search, warm: list[int]
    ) -> None:
        search.finds = 32
        self.start(folder, loader)
        assert self.load(folder, loader, "colours") == 8
        assert warm == [1, 2, 4, 8]


def test_the_same_file_is_the_same_model(folder: Path, loader: Loader, model: LoadedModel) -> None:
    assert loader.load(folder / "colours.pth", "colours", instead_of=model) is model


def test_another_file_than_was_looked_at_is_not_loaded(
    folder: Path, loader: Loader, model: LoadedModel
) -> None:
    """Between the look and the load its manifest may have gone."""
    expected = save_colours(folder / "colours.pth", shift=1)
    path = folder / "colours.pth"
    path.with_suffix(".json").unlink()
    with pytest.raises(OverloadedError, match="changes at the moment"):
        loader.load(path, "colours", instead_of=model, expected=expected)
    save_colours(path, shift=1)
    loader.load(path, "colours", instead_of=model, expected=expected).discard()


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

    monkeypatch.setattr(TorchEngine, "warm_up", fail)
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
