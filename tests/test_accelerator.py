"""What a GPU computes is what the CPU computes. Without one the same is asked of the CPU, so that
these tests are known to be right wherever they run."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from models import Checkpoint, list_architectures, load_checkpoint, save_checkpoint
from models.blend import Blend
from models.cuda_segment import can_segment
from models.geometry import normalise
from models.grid import Grid
from models.pixels import open_image, rgb_pixels
from models.plain_jpeg import plain_jpeg_size
from models.segmentation import segment_image
from models.upsample import Segmentation, segment_logits, segment_probabilities
from service.app import create_app
from service.batcher import Batcher
from service.class_map import ClassMap
from service.engines.cuda_engine import CudaEngine
from service.engines.cuda_jpeg import decode_resized
from service.engines.engine import Engine, Jpeg
from service.engines.torch_engine import TorchEngine
from tests.models.test_jpeg import WAYS, jpeg, picture
from tests.networks import manifest_for, random_images, small_network
from tests.service.clients import client_for, settings_for
from tests.service.colours import (
    colour_manifest,
    encoded,
    expected_answer,
    picture_of,
    save_colours,
)
from tests.trainer.command_line import succeed

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIZES = [((32, 32), (32, 32)), ((33, 47), (480, 61)), ((64, 64), (427, 640)), ((64, 64), (9, 5))]
needs_cuda = pytest.mark.skipif(DEVICE.type != "cuda", reason="there is no CUDA device here")


def engine_for(name: str, precision: str, *, base_channels: int = 4) -> TorchEngine:
    network = small_network(name, base_channels=base_channels)
    checkpoint = Checkpoint(network, manifest_for(network, name))
    kind = CudaEngine if DEVICE.type == "cuda" else TorchEngine
    return kind(checkpoint, device=DEVICE, precision=precision, compiled=False)


def images(count: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 64, 96), dtype=torch.uint8, generator=generator)


def assert_same(found: Segmentation, expected: Segmentation) -> None:
    found = found.cpu()
    assert (found.labels == expected.labels).float().mean() >= 0.9999
    assert found.pixels.sum() == expected.labels.numel()
    assert found.pixels.tolist() == found.labels.flatten().bincount(
        minlength=len(found.pixels)
    ).tolist()  # fmt: skip
    torch.testing.assert_close(found.confidence, expected.confidence, rtol=1e-3, atol=1e-2)


def tensors(found: ClassMap) -> Segmentation:
    parts = (found.labels, found.pixels, found.confidence)
    return Segmentation(*(torch.from_numpy(part.copy()) for part in parts))


def probabilities_of(engine: Engine, inputs: Tensor) -> Tensor:
    probabilities: Tensor = engine.run(inputs, alone=True).float().softmax(1)
    return probabilities


class TestEngine:
    @pytest.mark.parametrize("name", list_architectures())
    def test_float32_is_the_network_s_own_answer(self, name: str) -> None:
        engine, inputs = engine_for(name, "float32"), images(3)
        with torch.no_grad():
            expected = small_network(name).native_logits(normalise(inputs, engine.spec)).softmax(1)
        engine.warm_up(2)
        for count in (1, 2, 3):  # 2 as prepared, the others as they come
            found = probabilities_of(engine, inputs[:count])
            assert found.device.type == DEVICE.type
            # a GPU's convolutions may round to TensorFloat-32
            torch.testing.assert_close(found.cpu(), expected[:count], rtol=2e-2, atol=5e-3)

    @pytest.mark.parametrize(
        ("name", "precision"),
        [*((name, "bfloat16") for name in list_architectures()), ("unet", "float16")],
    )
    def test_half_precision_is_close(self, name: str, precision: str) -> None:
        inputs = images(4)
        expected = probabilities_of(engine_for(name, "float32"), inputs)
        engine = engine_for(name, precision)
        engine.warm_up(4)
        found = probabilities_of(engine, inputs)
        assert (found - expected).abs().mean() < 0.01

    def test_an_answer_is_kept_when_the_next_pass_has_run(self) -> None:
        engine = engine_for("unet", "bfloat16")
        engine.warm_up(2)
        first = engine.run(images(2, seed=1), alone=True)
        kept = first.clone()
        for seed in (2, 3):  # in either lane
            engine.run(images(2, seed=seed), alone=True)
        assert torch.equal(first, kept)

    def test_passes_of_every_size_say_the_same_of_an_image(self) -> None:
        engine, inputs = engine_for("unet_resnet50", "bfloat16"), images(8)
        for count in (1, 2, 4, 8):
            engine.warm_up(count)
        whole = probabilities_of(engine, inputs)
        for count in (1, 2, 4):
            parts = [
                probabilities_of(engine, inputs[begin : begin + count])
                for begin in range(0, len(inputs), count)
            ]
            torch.testing.assert_close(torch.cat(parts), whole, rtol=0.05, atol=0.03)

    def test_others_that_are_loaded_meanwhile_disturb_nobody(self) -> None:
        """More of them than PyTorch has streams."""
        engine, inputs = engine_for("unet", "float32"), images(2)
        engine.warm_up(2)
        expected = engine.run(inputs, alone=True).cpu()
        loaded = threading.Event()

        def passes() -> int:
            count = 0
            while not loaded.is_set() or count < 10:
                found = engine.run(inputs, alone=False).cpu()
                torch.testing.assert_close(found, expected)
                count += 1
            return count

        with ThreadPoolExecutor(1) as beside:
            answering = beside.submit(passes)
            try:
                for _ in range(40):
                    other = engine_for("unet", "float32")
                    other.warm_up(2)
                    other.close()
            finally:
                loaded.set()
            assert answering.result() >= 10

    def test_forgotten_sizes_are_still_answered(self) -> None:
        engine, inputs = engine_for("unet", "float32"), images(4)
        engine.warm_up(4)
        before = engine.run(inputs, alone=True)
        engine.forget(4)
        torch.testing.assert_close(engine.run(inputs, alone=True), before)


@needs_cuda
class TestAnswersOfAPass:
    """What is made of the logits where they lie is what is made of them anywhere."""

    def test_images_of_any_size(self) -> None:
        pytest.importorskip("cuda.core")
        engine, inputs = engine_for("unet", "float32"), images(4)
        engine.warm_up(4)
        assert isinstance(engine, CudaEngine)
        sizes = [(427, 640), (9, 5), None, (1030, 1030)]  # the last is fetched by itself
        logits = engine.run(inputs, alone=True).cpu()
        found = engine.segment(list(inputs), sizes, alone=True)
        for index in (0, 1):
            answer, size = found[index], sizes[index]
            assert isinstance(answer, ClassMap)
            assert size is not None
            assert_same(tensors(answer), segment_logits(logits[index], *size))
        for index in (2, 3):
            left = found[index]
            assert isinstance(left, Tensor)
            torch.testing.assert_close(left.cpu(), logits[index])

    def test_lanes_do_not_disturb_each_other(self) -> None:
        engine = engine_for("unet_resnet50", "bfloat16")
        assert isinstance(engine, CudaEngine)
        engine.warm_up(2)
        inputs = [images(2, seed=seed) for seed in range(8)]
        expected = [probabilities_of(engine, each).cpu() for each in inputs]

        def passes(seed: int) -> None:
            for _ in range(50):
                found = engine.segment(list(inputs[seed]), [(64, 96), None], alone=False)
                first, second = found
                assert isinstance(first, ClassMap)
                assert isinstance(second, Tensor)
                probability = second.float().softmax(0).cpu()
                torch.testing.assert_close(probability, expected[seed][1], rtol=0.05, atol=0.03)
                assert_same(tensors(first), segment_probabilities(expected[seed][0], 64, 96))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(passes, range(8)))


@needs_cuda
class TestDecoding:
    """What the GPU decodes is what libjpeg does, but for rounding and the edges of colours."""

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_pixels_are_nearly_libjpeg_s(self, mode: str, way: str) -> None:
        for width, height in ((1, 1), (7, 5), (16, 8), (33, 47), (640, 427)):
            content = jpeg(picture(width, height, mode), **WAYS[way])
            if plain_jpeg_size(content) is None:
                continue
            with open_image(content) as image:
                expected = rgb_pixels(image).float()
            jpegs = [Jpeg(content, height, width)]
            (found,), lost = decode_resized(jpegs, height, width, DEVICE)
            assert not lost, (width, height)
            off = (found.cpu().float() - expected).abs()
            assert off.mean() < 4, (width, height, float(off.mean()))
            if mode == "L" or WAYS[way].get("subsampling") == 0:
                assert off.max() <= 3, (width, height, float(off.max()))

    def test_a_broken_one_fails_alone(self) -> None:
        good = jpeg(picture(64, 48), quality=90)
        place = good.index(b"\xff\xc4")  # without this table nothing can be read
        broken = good[:place] + good[place + 2 + int.from_bytes(good[place + 2 : place + 4]) :]
        jpegs = [Jpeg(content, 48, 64) for content in (good, broken, good, b"nothing")]
        found, lost = decode_resized(jpegs, 24, 32, DEVICE)
        assert lost == {1, 3}
        assert found[0].any()
        assert torch.equal(found[0], found[2])
        assert not found[[1, 3]].any()

    def test_more_than_are_decoded_at_a_time(self) -> None:
        contents = [jpeg(picture(2048, 1536 + 8 * index), quality=80) for index in range(8)]
        jpegs = [Jpeg(content, 1536 + 8 * index, 2048) for index, content in enumerate(contents)]
        alone = [decode_resized([jpeg], 64, 96, DEVICE)[0][0] for jpeg in jpegs]
        for _ in range(5):
            together, lost = decode_resized(jpegs, 64, 96, DEVICE)
            assert not lost
            assert torch.equal(together, torch.stack(alone))

    def test_uploads_of_any_kind_are_answered(self, tmp_path: Path) -> None:
        save_colours(tmp_path / "colours.pth")
        settings = settings_for(tmp_path, device=str(DEVICE), decode_on="gpu")
        with client_for(create_app(settings)) as client:
            engine = client.get("/models").json()["models"][0]["engine"]
            assert "decoded there" in engine["reason"], engine
            kinds: list[dict[str, Any]] = [{}, {"progressive": True}, {"exif": turned()}]
            for options in kinds:
                seen = picture_of(90, 61)
                content = encoded(seen, "JPEG", quality=95, **options)
                mask = client.post("/segment", content=content, headers={"Accept": "image/png"})
                assert mask.status_code == 200, (options, mask.text)
                labels = np.array(Image.open(io.BytesIO(mask.content)))
                upright = np.rot90(labels, 1) if "exif" in options else labels
                expected = expected_answer(seen)
                assert (upright == expected.labels)[expected.clear].mean() > 0.9, options
            broken = client.post("/segment", content=encoded(picture_of(90, 61), "JPEG")[:-300])
            assert broken.status_code == 400, broken.text

    def test_a_recording_is_not_disturbed(self) -> None:
        """By the decoder's stream, whichever of PyTorch's it is."""
        content = jpeg(picture(640, 427), quality=90)
        jpegs = [Jpeg(content, 427, 640), Jpeg(b"broken", 427, 640)]
        stop = threading.Event()

        def decode() -> int:
            count = 0
            while not stop.is_set():
                for some, broken in ((jpegs[:1], set()), (jpegs, {1})):
                    _, lost = decode_resized(some, 64, 96, DEVICE)
                    assert lost == broken
                count += 1
            return count

        with ThreadPoolExecutor(1) as threads:
            decoding = threads.submit(decode)
            try:
                for _ in range(40):
                    engine = engine_for("unet", "float32")
                    assert isinstance(engine, CudaEngine)
                    engine.warm_up(1)
                    assert all(1 in lane.recordings for lane in engine._lanes)
            finally:
                stop.set()
            assert decoding.result(30) > 0


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


class TestAfterTheForwardPass:
    @pytest.mark.parametrize("num_classes", [1, 2, 22, 150])
    @pytest.mark.parametrize(("size", "image"), SIZES)
    def test_labels_counts_and_confidence(
        self, size: tuple[int, int], image: tuple[int, int], num_classes: int
    ) -> None:
        noise = (3 * random_images(num_classes, *size)).softmax(0)
        flat = noise.sqrt() / noise.sqrt().sum(0)
        for probabilities in (noise, flat, (noise > 0.5).float()):
            expected = segment_probabilities(probabilities, *image)
            assert_same(segment_probabilities(probabilities.to(DEVICE), *image), expected)

    @needs_cuda
    def test_a_kernel_does_it(self) -> None:
        pytest.importorskip("cuda.core")
        assert can_segment(DEVICE)

    def test_what_is_no_number_fails_nobody(self) -> None:
        probabilities = random_images(5, 16, 16).softmax(0)
        probabilities[:, 3:6, 2] = torch.nan
        found = segment_probabilities(probabilities.to(DEVICE), 40, 50).cpu()
        assert found.pixels.sum() == 40 * 50
        assert found.labels.max() < 5

    def test_tiles_are_blended_alike(self) -> None:
        spec = colour_manifest().input.model_copy(update={"mode": "tile"})
        grid = Grid.over(70, 150, spec)
        answers = []
        for device in (torch.device("cpu"), DEVICE):
            blend = Blend(grid, 6, device)
            for seed in range(len(grid)):
                tile = 3 * random_images(6, spec.height, spec.width, seed=seed)
                blend.add(tile.to(device))
            answers.append(blend.finish().cpu())
        assert_same(answers[1], answers[0])


class TestService:
    @pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
    def test_uploads_are_answered_from_the_device(self, tmp_path: Path, precision: str) -> None:
        save_colours(tmp_path / "colours.pth")
        settings = settings_for(tmp_path, device=str(DEVICE), precision=precision)
        with client_for(create_app(settings)) as client:
            model = client.get("/models").json()["models"][0]
            assert str(DEVICE) in str(model) or DEVICE.type == "cpu", model
            for seed in range(6):
                picture = picture_of(90 + seed, 61, seed=seed)
                answer = client.post("/segment", content=encoded(picture))
                mask = client.post(
                    "/segment", content=encoded(picture), headers={"Accept": "image/png"}
                )
                expected = expected_answer(picture)
                labels = np.array(Image.open(io.BytesIO(mask.content)))
                assert (labels == expected.labels)[expected.clear].mean() > 0.995
                counts = {entry["id"]: entry["pixels"] for entry in answer.json()["classes"]}
                assert sum(counts.values()) == picture.shape[0] * picture.shape[1]
                for index, count in enumerate(expected.pixels):
                    assert counts.get(index, 0) == pytest.approx(count, abs=0.01 * 90 * 61)

    def test_tiles_are_answered_as_the_trainer_has_them(self, tmp_path: Path) -> None:
        network = small_network("unet_resnet50")
        manifest = manifest_for(network, "unet_resnet50")
        spec = manifest.input.model_copy(update={"mode": "tile", "height": 40, "width": 32})
        save_checkpoint(
            tmp_path / "tiles.pth",
            network.state_dict(),
            manifest.model_copy(update={"input": spec}),
        )
        picture = picture_of(150, 101)
        pixels = torch.from_numpy(picture).permute(2, 0, 1)
        expected = segment_image(pixels, spec, network, device=torch.device("cpu"), batch_size=4)
        settings = settings_for(tmp_path, model="tiles", device=str(DEVICE))
        with client_for(create_app(settings)) as client:
            answer = client.post(
                "/segment", content=encoded(picture), headers={"Accept": "image/png"}
            )
        labels = torch.from_numpy(np.array(Image.open(io.BytesIO(answer.content))))
        assert (labels == expected.labels).float().mean() > 0.995


class TestTrainer:
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_fits_and_evaluates(self, tmp_path: Path, voc_folder: Path, precision: str) -> None:
        run = tmp_path / "run"
        options = (
            "--data", voc_folder, "--arch", "unet", "--base-channels", 4, "--image-size", 32,
            "--batch-size", 2, "--device", DEVICE, "--precision", precision, "--out", run,
        )  # fmt: skip
        succeed("fit", *options, "--epochs", 2)
        last = run / "checkpoints" / "last.pth"
        assert load_checkpoint(last).manifest.training.epoch == 2  # type: ignore[union-attr]
        out = tmp_path / "figures.json"
        succeed(
            "evaluate", "--checkpoint", last, "--data", voc_folder, "--device", DEVICE,
            "--json", out,
        )  # fmt: skip
        assert '"mean_iou"' in out.read_text()


@needs_cuda
class TestMemory:
    def test_a_pass_that_does_not_fit_is_split(self) -> None:
        """A real lack of the device's memory, not a made-up error."""
        engine = engine_for("unet", "float32", base_channels=32)  # hundreds of megabytes
        inputs = images(64)
        engine.run(inputs[:1], alone=True)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        engine.run(inputs[:8], alone=True)
        enough = torch.cuda.max_memory_reserved()
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(DEVICE).total_memory
        torch.cuda.set_per_process_memory_fraction(1.5 * enough / total)
        try:
            batcher = Batcher(engine)
            with batcher.flow() as flow:
                futures = [flow.submit(image) for image in inputs]
                batcher.start(capacity=64)
                answers = []
                for future in futures:
                    answers.append(future.result(timeout=60).logits.cpu())
                    flow.release()
            batcher.close()
            assert batcher.capacity < 64
            alone = engine.run(inputs[:1], alone=True).cpu()
            torch.testing.assert_close(answers[0][None], alone, rtol=2e-2, atol=5e-3)
            assert len(answers) == 64
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)

    def test_a_closed_engine_gives_its_memory_back(self) -> None:
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        for _ in range(3):
            engine = engine_for("unet_resnet50", "bfloat16")
            for count in (1, 2, 4):
                engine.warm_up(count)
            engine.run(images(4), alone=True)
            engine.close()
            del engine
        assert torch.cuda.memory_allocated() - before < 1 << 20
