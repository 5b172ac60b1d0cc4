"""JPEGs are decoded by the engine where that was asked for and says the same."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from models import Checkpoint
from models.geometry import resize_pixels
from models.pixels import open_image, rgb_pixels
from service.engines import choose
from service.engines.choose import Wishes, choose_engine
from service.engines.engine import Jpeg, Unit
from service.engines.torch_engine import TorchEngine
from service.errors import StartupError


class Decoding(TorchEngine):
    """Decodes, with so many levels added."""

    off = 0
    lost: frozenset[int] = frozenset()
    error: str | None = None

    def segment(self, units: Sequence[Unit], *_: object, **__: object) -> list[Any]:
        raise NotImplementedError

    def decoded(self, jpegs: Sequence[Jpeg]) -> tuple[Tensor, set[int]]:
        if self.error is not None:
            raise RuntimeError(self.error)
        found = []
        for jpeg in jpegs:
            with open_image(jpeg.content) as image:
                pixels = rgb_pixels(image)
            assert pixels.shape[1:] == (jpeg.height, jpeg.width)
            found.append(resize_pixels(pixels, self.spec.height, self.spec.width))
        return torch.stack(found).roll(self.off, dims=1), set(self.lost)


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU counts as one."""

    def make(checkpoint: Checkpoint, *, device: torch.device, **options: Any) -> TorchEngine:
        return Decoding(checkpoint, device=torch.device("cpu"), **options)

    monkeypatch.setattr(choose, "choose_device", lambda wish: torch.device("cuda", 0))
    monkeypatch.setattr(choose, "CudaEngine", make)


def choice_for(checkpoint: Checkpoint, wishes: Wishes, **changes: Any) -> choose.Choice:
    asked = {"device": "cuda", "precision": "float32", "decode_on": "gpu", **changes}
    return choose_engine(checkpoint, replace(wishes, **asked))


def test_is_taken_where_it_says_the_same(checkpoint: Checkpoint, wishes: Wishes) -> None:
    choice = choice_for(checkpoint, wishes)
    assert choice.decodes
    assert "JPEGs are decoded there" in choice.reason
    assert choice.refused == []


def test_is_for_who_asks(checkpoint: Checkpoint, wishes: Wishes) -> None:
    choice = choice_for(checkpoint, wishes, decode_on="cpu")
    assert not choice.decodes
    assert "decoded" not in choice.reason


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"off": 1}, "of the golden images' pixels, 98.5% are asked"),
        ({"lost": frozenset({1})}, "1 of 3 golden images could not be decoded"),
        ({"error": "torchvision not compiled with nvJPEG support\nmore"}, "nvJPEG support"),
    ],
)
def test_is_refused_otherwise_and_the_engine_kept(
    changes: dict[str, Any],
    why: str,
    checkpoint: Checkpoint,
    wishes: Wishes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(Decoding, name, value)
    choice = choice_for(checkpoint, wishes)
    assert choice.engine.name == "torch float32"
    assert not choice.decodes
    assert [refused.startswith("decoding on cuda:0: ") for refused in choice.refused] == [True]
    assert choice.refused[0].endswith(why)


def test_takes_an_engine_that_can(
    checkpoint: Checkpoint, wishes: Wishes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(checkpoint: Checkpoint, *, device: torch.device, **options: Any) -> TorchEngine:
        return TorchEngine(checkpoint, device=torch.device("cpu"), **options)

    monkeypatch.setattr(choose, "CudaEngine", make)
    choice = choice_for(checkpoint, wishes)
    assert choice.refused == ["decoding on cuda:0: torch float32 does not decode"]


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_needs_a_gpu_of_nvidia(
    device: str,
    checkpoint: Checkpoint,
    wishes: Wishes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choose, "choose_device", lambda wish: torch.device(device))
    with pytest.raises(StartupError, match=f"--decode-on gpu: .* --device is {device}"):
        choice_for(checkpoint, wishes, device=device)
