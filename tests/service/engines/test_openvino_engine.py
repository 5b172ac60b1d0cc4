"""OpenVINO as an engine: what PyTorch says, from as many threads as it has lanes."""

import gc
import threading
import tracemalloc
from typing import Any

import pytest
import torch
from torch import Tensor

from models import Checkpoint, list_architectures
from models.devices import usable_cores
from models.manifest import InputSpec
from service.engines.openvino_engine import OpenVINOEngine, convert
from service.engines.torch_engine import TorchEngine
from tests.networks import manifest_for, small_network
from tests.service.colours import colour_manifest, colour_network
from tests.service.engines.test_torch_engine import colour_inputs

pytest.importorskip("openvino", reason="openvino is optional")

CPU = torch.device("cpu")


def noise(count: int, spec: InputSpec) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    size = (count, 3, spec.height, spec.width)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)


def colour_engine(precision: str = "float32") -> OpenVINOEngine:
    network = colour_network()
    spec = colour_manifest().input
    return OpenVINOEngine(convert(network), spec, precision=precision, arithmetic=precision)


@pytest.mark.parametrize("name", list_architectures())
def test_every_architecture_answers_as_in_pytorch(name: str) -> None:
    network = small_network(name)
    checkpoint = Checkpoint(network, manifest_for(network, name))
    spec = checkpoint.manifest.input
    engine = OpenVINOEngine(convert(network), spec, precision="float32", arithmetic="float32")
    expected = TorchEngine(checkpoint, device=CPU, precision="float32", compiled=False)
    inputs = noise(2, spec)
    for alone in (True, False):
        actual = engine.run(inputs, alone=alone)
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, expected.run(inputs, alone=True), rtol=1e-2, atol=1e-3)


def test_a_batch_answers_as_each_alone() -> None:
    engine, inputs = colour_engine(), colour_inputs(4)
    together = engine.run(inputs, alone=False)
    alone = torch.cat([engine.run(image[None], alone=True) for image in inputs])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_logits_are_left_as_they_lie(precision: str) -> None:
    logits = colour_engine(precision).run(colour_inputs(2), alone=True)
    assert logits.dtype == getattr(torch, precision)
    assert logits.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_agrees_on_clear_pictures() -> None:
    inputs = colour_inputs()
    half = colour_engine("bfloat16").run(inputs, alone=True).argmax(1)
    full = colour_engine("float32").run(inputs, alone=True).argmax(1)
    assert (half == full).float().mean() >= 0.99


def test_an_answer_is_not_overwritten_by_the_next() -> None:
    engine, inputs = colour_engine(), colour_inputs(2)
    first = engine.run(inputs[:1], alone=True)
    kept = first.clone()
    engine.run(inputs[1:], alone=True)
    assert torch.equal(first, kept)


def test_logits_are_not_copied() -> None:
    """OpenVINO's Python interface does by itself, and keeps Python's lock meanwhile."""
    engine, inputs = colour_engine(), colour_inputs(4)
    engine.warm_up(4)
    tracemalloc.start()
    try:
        logits = engine.run(inputs, alone=False)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 0.5 * logits.nbytes


def test_a_pass_that_fails_costs_no_lane() -> None:
    engine, inputs = colour_engine(), colour_inputs(1)
    answers: list[Tensor] = []

    def work() -> None:
        for _ in range(engine.lanes + 1):
            with pytest.raises(RuntimeError):
                engine.run(inputs[:, :, 1:], alone=False)
        answers.append(engine.run(inputs, alone=False))

    thread = threading.Thread(target=work, daemon=True)  # it would wait for ever
    thread.start()
    thread.join(60)
    assert answers, "nobody answers any more"


def test_threads_beyond_its_lanes_wait_and_mix_nothing_up() -> None:
    engine, inputs = colour_engine(), colour_inputs(6)
    expected = engine.run(inputs, alone=True)
    answers: list[Tensor | None] = [None] * len(inputs)

    def work(index: int) -> None:
        for _ in range(5):
            answers[index] = engine.run(inputs[index : index + 1], alone=index % 2 == 0)[0]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer, right in zip(answers, expected, strict=True):
        assert answer is not None
        torch.testing.assert_close(answer, right, rtol=1e-4, atol=1e-5)


def test_what_was_warmed_up_is_compiled_and_what_is_forgotten_no_more() -> None:
    engine = colour_engine()
    for count in (1, 2):
        engine.warm_up(count)
    assert set(engine._passes) == {(1, True), (1, False), (2, False)}
    engine.forget(2)
    assert set(engine._passes) == {(1, True), (1, False)}


def test_has_a_lane_more_than_passes_run_at_a_time() -> None:
    """Where one ends the next is there; and no more passes run than there are cores."""
    engine = colour_engine()
    engine.run(colour_inputs(1), alone=True)
    assert 2 <= engine.lanes <= usable_cores() + 1
    assert engine._passes[1, True].count == 1


def test_the_name_says_what_it_is() -> None:
    assert colour_engine().name == "openvino float32"


def test_pytorch_keeps_nothing_of_what_was_converted() -> None:
    """It would keep the code of every network for ever, and a class for each of its modules."""

    def kept() -> tuple[int, int]:
        gc.collect()
        code: Any = torch.jit._state._python_cu
        return len(code.get_functions()), len(torch.nn.Module.__subclasses__())

    convert(small_network("unet"))
    before = kept()
    convert(small_network("unet"))
    assert kept() == before
