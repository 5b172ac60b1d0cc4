"""What the engine for NVIDIA's GPUs does around them; tests/test_accelerator.py asks a real one."""

import pytest
import torch
from torch import Tensor

from models import Checkpoint, cuda_segment
from models.upsample import Segmentation, segment_probabilities
from service.engines import choose, cuda_engine
from service.engines.choose import Wishes, choose_engine
from service.engines.cuda_engine import LANES, MAX_PIXELS, CudaEngine
from service.engines.engine import SegmentingEngine
from service.engines.torch_engine import TorchEngine
from tests.models.cuda.emulated import EmulatedKernel
from tests.networks import manifest_for, small_network
from tests.service.engines.cuda_on_cpu import Event, Recording, stand_in

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)


@pytest.fixture
def with_kernel(emulated_kernel: EmulatedKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_engine, "can_segment", lambda device: True)
    monkeypatch.setattr(cuda_segment, "_compiled", lambda index: emulated_kernel)


def checkpoint() -> Checkpoint:
    network = small_network("unet")
    return Checkpoint(network, manifest_for(network, "unet"))


@pytest.fixture
def engine() -> CudaEngine:
    return CudaEngine(checkpoint(), device=CPU, precision="float32", compiled=False)


def images(count: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 64, 96), dtype=torch.uint8, generator=generator)


def plainly(pixels: Tensor) -> Tensor:
    engine = TorchEngine(checkpoint(), device=CPU, precision="float32", compiled=False)
    return engine.run(pixels, alone=True)


def test_passes_are_recorded_for_every_lane(engine: CudaEngine) -> None:
    for count in (1, 2):
        engine.warm_up(count)
    assert Recording.made == [1] * LANES + [2] * LANES
    assert torch.allclose(engine.run(images(2), alone=True), plainly(images(2)))


def test_a_lane_sleeps_until_its_pass_is_done(engine: CudaEngine) -> None:
    engine.run(images(1), alone=True)
    assert Event.waits == 1


def test_an_answer_is_kept_when_every_lane_has_run_again(engine: CudaEngine) -> None:
    engine.warm_up(2)
    first = engine.run(images(2, seed=1), alone=True)
    kept = first.clone()
    for seed in range(2, 2 + LANES):
        engine.run(images(2, seed=seed), alone=True)
    assert torch.equal(first, kept)


@pytest.mark.usefixtures("with_kernel")
def test_images_are_answered_where_that_is_worthwhile(engine: CudaEngine) -> None:
    assert isinstance(engine, SegmentingEngine)
    engine.warm_up(4)
    pixels, side = images(4), int(MAX_PIXELS**0.5)
    sizes = [(31, 45), None, (side, side + 1), (64, 96)]
    found = engine.segment(pixels, sizes, alone=True)
    engine.segment(images(4, seed=5), sizes, alone=True)  # takes nothing back
    engine.segment(images(4, seed=6), sizes, alone=True)
    for index, probabilities in enumerate(plainly(pixels)):
        answer, size = found[index], sizes[index]
        if index in (1, 2):
            assert isinstance(answer, Tensor)
            assert torch.allclose(answer, probabilities)
            continue
        assert isinstance(answer, Segmentation)
        assert size is not None
        expected = segment_probabilities(probabilities, *size)
        assert (answer.labels == expected.labels).float().mean() > 0.999
        assert torch.allclose(answer.confidence, expected.confidence, atol=1.0)


def test_without_the_kernel_others_answer(engine: CudaEngine) -> None:
    found = engine.segment(images(2), [(31, 45), None], alone=True)
    assert all(isinstance(each, Tensor) for each in found)


def test_a_pass_that_cannot_be_recorded_runs_all_the_same(
    engine: CudaEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda_engine, "_Recording", refuse)
    engine.warm_up(2)
    assert "passes of 2 are not recorded: operation not permitted" in caplog.text
    assert torch.allclose(engine.run(images(2), alone=True), plainly(images(2)))


def test_no_memory_for_a_recording_is_said_to_who_asked(
    engine: CudaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cuda_engine, "_Recording", refuse)
    with pytest.raises(torch.OutOfMemoryError):
        engine.warm_up(2)


def test_a_pass_that_fails_gives_its_lane_back(engine: CudaEngine) -> None:
    for _ in range(2 * LANES):
        with pytest.raises(RuntimeError):
            engine.run(torch.zeros(1, 7, 64, 96, dtype=torch.uint8), alone=True)
    assert engine.run(images(1), alone=True).shape[0] == 1


def test_a_closed_engine_fails_at_once(engine: CudaEngine) -> None:
    engine.warm_up(1)
    engine.close()
    for _ in range(2 * LANES):
        with pytest.raises(AttributeError):
            engine.run(images(1), alone=True)


def test_it_is_chosen_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []

    def make(checkpoint: Checkpoint, *, device: torch.device, **options: object) -> TorchEngine:
        asked.append(device)
        return TorchEngine(checkpoint, device=CPU, precision="float32", compiled=False)

    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(choose, "choose_device", lambda wish: cuda)
    monkeypatch.setattr(choose, "CudaEngine", make)
    choose_engine(checkpoint(), Wishes(device="cuda", precision="float32"))
    assert asked == [cuda]
