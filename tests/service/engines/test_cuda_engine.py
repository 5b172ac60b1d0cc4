"""What the engine for NVIDIA's GPUs does around them; tests/test_accelerator.py asks a real one."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from models import Checkpoint, cuda_segment
from models.cuda_segment import parts_of_batch
from models.upsample import segment_logits
from service.class_map import ClassMap
from service.engines import choose, cuda_engine
from service.engines.choose import Wishes, choose_engine
from service.engines.cuda_engine import LANES, MAX_PIXELS, CudaEngine
from service.engines.engine import DecodingEngine, Jpeg, SegmentingEngine, Unit
from service.engines.torch_engine import TorchEngine
from tests.models.cuda.emulated import EmulatedKernel
from tests.networks import manifest_for, random_images, small_network
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
    found = engine.segment(list(pixels), sizes, alone=True)
    engine.segment(list(images(4, seed=5)), sizes, alone=True)  # takes nothing back
    engine.segment(list(images(4, seed=6)), sizes, alone=True)
    for index, logits in enumerate(plainly(pixels)):
        answer, size = found[index], sizes[index]
        if index in (1, 2):
            assert isinstance(answer, Tensor)
            assert torch.allclose(answer, logits)
            continue
        assert isinstance(answer, ClassMap)
        assert size is not None
        expected = segment_logits(logits, *size)
        assert (answer.labels == expected.labels.numpy()).mean() > 0.999
        assert answer.confidence == pytest.approx(expected.confidence.numpy(), abs=1.0)


@pytest.mark.usefixtures("with_kernel")
def test_logits_in_half_precision_and_channels_last_are_what_they_are_in_float32() -> None:
    logits = (8 * random_images(3, 5, 24, 40)).bfloat16()
    logits = logits.contiguous(memory_format=torch.channels_last)
    sizes = [(1, 1), None, (64, 96)]
    found = parts_of_batch(cuda_engine._segmented(logits, sizes).numpy(), 5, sizes)
    for part, each, size in zip(found, logits, sizes, strict=True):
        if size is None:
            assert part is None
            continue
        assert part is not None
        expected = segment_logits(each.float(), *size)
        assert (part[0] == expected.labels.numpy()).mean() > 0.999
        assert part[2] == pytest.approx(expected.confidence.numpy(), rel=1e-4)


class TestJpegs:
    """Units that the engine decodes; what decodes them is in test_cuda_jpeg.py."""

    @pytest.fixture(autouse=True)
    def decode(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A JPEG's content is the seed of its pixels, or it cannot be decoded."""

        def decoded(
            jpegs: Sequence[Jpeg], height: int, width: int, device: torch.device
        ) -> tuple[Tensor, set[int]]:
            lost = {at for at, jpeg in enumerate(jpegs) if not jpeg.content.isdigit()}
            whole = torch.zeros(len(jpegs), 3, height, width, dtype=torch.uint8)
            for at, jpeg in enumerate(jpegs):
                if at not in lost:
                    whole[at] = images(1, seed=int(jpeg.content))[0]
            return whole, lost

        monkeypatch.setattr(cuda_engine, "decode_resized", decoded)

    @pytest.mark.usefixtures("with_kernel")
    @pytest.mark.parametrize("others", [0, 2])
    def test_are_decoded_beside_pixels(self, others: int, engine: CudaEngine) -> None:
        assert isinstance(engine, DecodingEngine)
        contents = [b"7", b"broken", b"8"]
        units: list[Unit] = [Jpeg(content, 31, 45) for content in contents]
        for seed in range(others):
            units.insert(2 * seed, images(1, seed=seed)[0])
        engine.warm_up(len(units))
        found = engine.segment(units, [(31, 45)] * len(units), alone=True)
        for unit, answer in zip(units, found, strict=True):
            if isinstance(unit, Jpeg) and unit.content == b"broken":
                assert answer is None
                continue
            seen = unit if isinstance(unit, Tensor) else images(1, seed=int(unit.content))[0]
            expected = segment_logits(plainly(seen[None])[0], 31, 45)
            assert isinstance(answer, ClassMap)
            assert (answer.labels == expected.labels.numpy()).mean() > 0.999

    def test_are_decoded_without_the_kernel_too(self, engine: CudaEngine) -> None:
        found = engine.segment([Jpeg(b"7", 9, 9), Jpeg(b"x", 9, 9)], [(9, 9)] * 2, alone=True)
        assert isinstance(found[0], Tensor)
        assert torch.allclose(found[0], plainly(images(1, seed=7))[0])
        assert found[1] is None

    def test_none_may_be_whole(self, engine: CudaEngine) -> None:
        assert engine.segment([Jpeg(b"x", 9, 9)], [(9, 9)], alone=True) == [None]


def test_without_the_kernel_others_answer(engine: CudaEngine) -> None:
    found = engine.segment(list(images(2)), [(31, 45), None], alone=True)
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
    assert Event.waits == 2 * LANES, "what was begun may still use its memory"
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
