"""Which engine is taken, which is refused, and what is said about it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from models import Checkpoint, ModelError, compiled
from service.engines import choose
from service.engines.choose import Wishes, choose_engine
from service.engines.torch_engine import TorchEngine
from service.errors import StartupError
from tests.service.colours import colour_manifest, colour_network

Load = Callable[..., object]


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with bfloat16, whatever this one has."""
    monkeypatch.setattr(choose, "has_fast_bf16", lambda device: True)
    monkeypatch.setattr(choose, "bf16_features", lambda: ["AVX512-BF16"])


@pytest.fixture
def no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "find_spec", lambda name: None)


class Wrong(TorchEngine):
    """Gives every pixel the class after the right one."""

    def run(self, pixels: Tensor, *, alone: bool) -> Tensor:
        return super().run(pixels, alone=alone).roll(1, dims=1)


def break_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half precision in PyTorch gets every pixel wrong from now on."""

    def make(checkpoint: Checkpoint, *, precision: str, **options: object) -> TorchEngine:
        kind = TorchEngine if precision == "float32" else Wrong
        return kind(checkpoint, precision=precision, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(choose, "TorchEngine", make)


class TestAutomatic:
    def test_takes_openvino_in_bfloat16_where_the_processor_has_it(
        self, checkpoint: Checkpoint, wishes: Wishes, bf16: None
    ) -> None:
        pytest.importorskip("openvino")
        choice = choose_engine(checkpoint, wishes)
        assert choice.engine.name == "openvino bfloat16"
        assert "AVX512-BF16" in choice.reason
        assert choice.agreement is not None
        assert choice.agreement >= 0.995
        assert choice.refused == []

    def test_takes_float32_where_nothing_less_is_fast(
        self, checkpoint: Checkpoint, wishes: Wishes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("openvino")
        monkeypatch.setattr(choose, "has_fast_bf16", lambda device: False)
        monkeypatch.setattr(choose, "int8_feature", lambda: "AVX512-VNNI")
        choice = choose_engine(checkpoint, wishes)
        assert choice.engine.name == "openvino float32"
        assert "no bfloat16" in choice.reason
        assert "with AVX512-VNNI int8 is faster" in choice.reason

    def test_on_a_cpu_a_missing_library_is_told_of_now(
        self, checkpoint: Checkpoint, wishes: Wishes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not with the first upload."""
        asked = Mock(return_value=None)
        monkeypatch.setattr(compiled, "library", asked)
        monkeypatch.setattr(choose, "_candidates", lambda *_: iter(()))
        with pytest.raises(StartupError):
            choose_engine(checkpoint, replace(wishes, device="cpu"))
        asked.assert_called_once_with()

    def test_takes_pytorch_without_openvino(
        self, checkpoint: Checkpoint, wishes: Wishes, bf16: None, no_openvino: None
    ) -> None:
        assert choose_engine(checkpoint, wishes).engine.name == "torch bfloat16"

    def test_takes_pytorch_where_openvino_lacks_a_library(
        self, checkpoint: Checkpoint, wishes: Wishes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise ImportError("libtbb.so.12: cannot open shared object file")

        monkeypatch.setattr(choose, "find_int8", fail)
        monkeypatch.setattr(choose, "convert", fail)
        monkeypatch.setattr(choose, "int8_feature", lambda: "AVX512-VNNI")
        choice = choose_engine(checkpoint, wishes)
        assert choice.engine.name.startswith("torch ")
        assert "libtbb.so.12" in choice.refused[0]


class TestGate:
    @pytest.mark.parametrize("engine", ["torch", "openvino", "auto"])
    def test_a_network_that_computes_no_numbers_is_refused_altogether(
        self, wishes: Wishes, engine: str
    ) -> None:
        network = colour_network()
        with torch.no_grad():
            next(network.parameters()).fill_(float("nan"))
        with pytest.raises(StartupError, match=r": .* not finite numbers"):
            choose_engine(Checkpoint(network, colour_manifest()), replace(wishes, engine=engine))

    def test_an_engine_that_says_something_else_is_refused_for_the_next(
        self,
        checkpoint: Checkpoint,
        wishes: Wishes,
        bf16: None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        break_half(monkeypatch)
        choice = choose_engine(checkpoint, replace(wishes, engine="torch"))
        assert choice.engine.name == "torch float32"
        assert choice.agreement is None
        assert len(choice.refused) == 1
        assert "torch bfloat16: agrees with float32 on " in choice.refused[0]
        assert "99.5% are asked" in choice.refused[0]

    def test_an_engine_that_cannot_be_made_is_refused_for_the_next(
        self,
        checkpoint: Checkpoint,
        wishes: Wishes,
        bf16: None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        pytest.importorskip("openvino")

        def fail(*_: object) -> None:
            raise RuntimeError("this graph is beyond me\nand a page of reasons")

        monkeypatch.setattr(choose, "convert", fail)
        choice = choose_engine(checkpoint, wishes)
        assert choice.engine.name == "torch bfloat16"
        assert choice.refused == ["openvino bfloat16: this graph is beyond me"]

    def test_the_pictures_that_come_with_it_are_used_when_none_are_named(
        self, checkpoint: Checkpoint, wishes: Wishes
    ) -> None:
        choice = choose_engine(checkpoint, replace(wishes, golden_images=None, engine="openvino"))
        assert choice.agreement is not None

    def test_a_folder_without_images_is_named(
        self, checkpoint: Checkpoint, wishes: Wishes, tmp_path: Path
    ) -> None:
        with pytest.raises(StartupError, match="exports: no image"):
            choose_engine(checkpoint, replace(wishes, golden_images=wishes.exports))


class TestWishes:
    @pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
    def test_a_precision_is_taken_as_asked(
        self, checkpoint: Checkpoint, wishes: Wishes, precision: str
    ) -> None:
        choice = choose_engine(checkpoint, replace(wishes, engine="torch", precision=precision))
        assert choice.engine.name == f"torch {precision}"
        assert choice.reason.startswith("as asked")

    def test_what_the_processor_lacks_is_taken_as_asked_and_said_to_be_slow(
        self,
        checkpoint: Checkpoint,
        wishes: Wishes,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(choose, "has_fast_bf16", lambda device: False)
        choice = choose_engine(checkpoint, replace(wishes, engine="torch", precision="bfloat16"))
        assert choice.reason == "as asked, though the processor lacks it"
        assert "float32 is faster" in caplog.text

    @pytest.mark.parametrize(("engine", "precision"), [("torch", "int8"), ("openvino", "float16")])
    def test_what_no_machine_could_grant_is_refused(
        self, checkpoint: Checkpoint, wishes: Wishes, engine: str, precision: str
    ) -> None:
        with pytest.raises(StartupError, match=f"--precision {precision}"):
            choose_engine(checkpoint, replace(wishes, engine=engine, precision=precision))

    def test_int8_that_is_not_calibrated_is_refused_and_says_how(
        self, checkpoint: Checkpoint, wishes: Wishes, bf16: None
    ) -> None:
        pytest.importorskip("openvino")
        choice = choose_engine(checkpoint, replace(wishes, precision="int8"))
        assert choice.engine.name == "openvino bfloat16"
        assert "--calibration-images" in choice.refused[0]

    def test_openvino_that_is_not_installed_is_said_to_be(
        self, checkpoint: Checkpoint, wishes: Wishes, no_openvino: None
    ) -> None:
        for wish in ({"engine": "openvino"}, {"precision": "int8"}):
            option, value = next(iter(wish.items()))
            said = rf"--{option} {value}: .*pip install '\.\[openvino\]'"
            with pytest.raises(StartupError, match=said):
                choose_engine(checkpoint, replace(wishes, **wish))  # type: ignore[arg-type]

    def test_a_device_that_is_not_there_is_named(
        self, checkpoint: Checkpoint, wishes: Wishes
    ) -> None:
        with pytest.raises(ModelError, match="'abacus'"):
            choose_engine(checkpoint, replace(wishes, device="abacus"))

    @pytest.mark.parametrize(
        ("asked", "has_bf16", "expected"),
        [
            ("auto", True, ["bfloat16", "float16", "float32"]),
            ("auto", False, ["float16", "float32"]),
            ("bfloat16", True, ["bfloat16", "float16", "float32"]),
            ("float16", True, ["float16", "bfloat16", "float32"]),
            ("float32", True, ["float32"]),
        ],
    )
    def test_a_gpu_tries_float16_before_float32(
        self,
        checkpoint: Checkpoint,
        wishes: Wishes,
        monkeypatch: pytest.MonkeyPatch,
        asked: str,
        has_bf16: bool,
        expected: list[str],
    ) -> None:
        monkeypatch.setattr(choose, "has_fast_bf16", lambda device: has_bf16)
        wanted = replace(wishes, precision=asked)
        found = choose._precisions(checkpoint, torch.device("cuda"), wanted)
        assert [precision for precision, _ in found] == expected

    def test_compiled_is_pytorch_s_for_every_size_by_itself(
        self, checkpoint: Checkpoint, wishes: Wishes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[dict[str, object]] = []

        def compile_(network: torch.nn.Module, **options: object) -> torch.nn.Module:
            asked.append(options)
            return network

        monkeypatch.setattr(torch, "compile", compile_)
        wanted = replace(wishes, engine="torch", precision="float32", compiled=True)
        assert choose_engine(checkpoint, wanted).engine.name == "torch float32 compiled"
        assert asked == [{"dynamic": False}]

    def test_what_cannot_be_compiled_runs_as_it_is(
        self, checkpoint: Checkpoint, wishes: Wishes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def compile_(network: torch.nn.Module, **options: object) -> object:
            def run(images: Tensor) -> Tensor:
                raise OSError("no C++ compiler")

            return run

        monkeypatch.setattr(torch, "compile", compile_)
        wanted = replace(wishes, engine="torch", precision="float32", compiled=True)
        choice = choose_engine(checkpoint, wanted)
        assert choice.engine.name == "torch float32"
        assert choice.refused == ["torch float32 compiled: no C++ compiler"]
