"""int8: found or made once, and refused when it says something else than float32."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models import Checkpoint, load_checkpoint, save_checkpoint
from models.exported import is_int8
from service.engines import choose, int8
from service.engines.choose import Wishes, choose_engine
from service.engines.int8 import NotCalibratedError, find_int8, int8_model
from service.engines.openvino_engine import OpenVINOEngine
from service.engines.torch_engine import TorchEngine
from tests.networks import manifest_for
from tests.service.colours import encoded, picture_of, save_colours
from tests.undecided import undecided_network

opset13 = pytest.importorskip("openvino.opset13", reason="openvino is optional")
pytest.importorskip("nncf", reason="nncf is optional")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, images of its kind, and a cache that its int8 network is in."""
    root = tmp_path_factory.mktemp("int8")
    save_colours(root / "colours.pth")
    (root / "images").mkdir()
    for seed in range(12):
        picture = picture_of(48, 40, seed=seed)
        (root / "images" / f"{seed}.png").write_bytes(encoded(picture))
    return root


@pytest.fixture(scope="module")
def checkpoint(place: Path) -> Checkpoint:
    return load_checkpoint(place / "colours.pth")


@pytest.fixture(scope="module")
def model(place: Path, checkpoint: Checkpoint) -> Any:
    return int8_model(checkpoint, place, place / "cache", place / "images")


def test_is_calibrated_on_the_images_named(model: Any, checkpoint: Checkpoint) -> None:
    assert is_int8(model)
    spec = checkpoint.manifest.input
    engine = OpenVINOEngine(model, spec, precision="int8", arithmetic="float32")
    pixels = torch.from_numpy(picture_of(32, 32, seed=3)).permute(2, 0, 1)[None]
    expected = checkpoint.network(
        (pixels / 255 - torch.tensor(spec.mean).view(3, 1, 1))
        / (torch.tensor(spec.std).view(3, 1, 1))
    ).argmax(1)
    assert (engine.run(pixels, alone=True).argmax(1) == expected).float().mean() > 0.98


def test_one_that_ends_with_an_interpolation_is_read_as_the_network_is(
    place: Path, tmp_path: Path
) -> None:
    network = undecided_network(num_classes=3, name="unet_efficientnet_lite0")
    manifest = manifest_for(network, "unet_efficientnet_lite0")
    save_checkpoint(tmp_path / "lite.pth", network.state_dict(), manifest)
    checkpoint = load_checkpoint(tmp_path / "lite.pth")
    spec = checkpoint.manifest.input
    model = int8_model(checkpoint, None, tmp_path, place / "images")
    engine = OpenVINOEngine(model, spec, precision="int8", arithmetic="float32")
    exact = TorchEngine(checkpoint, device=torch.device("cpu"), precision="float32", compiled=False)
    pixels = torch.from_numpy(picture_of(spec.width, spec.height, seed=3)).permute(2, 0, 1)[None]
    found, expected = engine.run(pixels, alone=True), exact.run(pixels, alone=True)
    assert found.shape == expected.shape
    assert (found.argmax(1) == expected.argmax(1)).float().mean() > 0.9


def test_is_made_once(
    model: Any, place: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("calibrated again")

    monkeypatch.setattr(int8, "quantised", fail)
    again = int8_model(checkpoint, place, place / "cache", place / "images")
    assert is_int8(again)


def test_another_preparation_of_the_images_does_not_get_it(
    model: Any, place: Path, checkpoint: Checkpoint
) -> None:
    spec = checkpoint.manifest.input.model_copy(update={"mean": (0.1, 0.2, 0.3)})
    manifest = checkpoint.manifest.model_copy(update={"input": spec})
    assert find_int8(checkpoint, None, place / "cache") is not None
    assert find_int8(replace(checkpoint, manifest=manifest), None, place / "cache") is None


def test_another_checkpoint_does_not_get_it(model: Any, place: Path, tmp_path: Path) -> None:
    save_colours(tmp_path / "other.pth", ignore_index=200)
    other = load_checkpoint(tmp_path / "other.pth")
    weights = other.manifest.weights
    assert weights is not None
    changed = other.manifest.model_copy(
        update={"weights": weights.model_copy(update={"sha256": "0" * 64})}
    )
    stranger = Checkpoint(other.network, changed)
    assert find_int8(stranger, place, place / "cache") is None
    with pytest.raises(NotCalibratedError, match="--calibration-images"):
        int8_model(stranger, place, place / "cache", None)


def test_a_file_that_is_no_network_is_passed_over(
    model: Any, place: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "notes.xml").write_text("<notes/>")
    assert find_int8(checkpoint, tmp_path, None) is None


def test_a_cache_that_cannot_be_written_costs_a_calibration_and_no_more(
    place: Path, checkpoint: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    model = int8_model(checkpoint, tmp_path, tmp_path / "file" / "cache", place / "images")
    assert is_int8(model)
    assert "calibrates again" in caplog.text


class TestChoice:
    def wishes(self, place: Path) -> Wishes:
        return Wishes(
            device="cpu",
            exports=place,
            cache=place / "cache",
            golden_images=place / "images",
        )

    def test_a_calibrated_checkpoint_runs_in_int8_where_that_is_fast(
        self, model: Any, place: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(choose, "int8_feature", lambda: "AVX512-VNNI")
        choice = choose_engine(checkpoint, self.wishes(place))
        assert choice.engine.name == "openvino int8"
        assert "calibrated" in choice.reason

    def test_a_broken_one_is_refused_and_the_next_is_taken(
        self, model: Any, place: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As one calibrated on images of another kind would be: here every activation is clipped
        to a tenth of its range."""
        broken = model.clone()
        for node in broken.get_ops():
            if node.get_type_name() == "FakeQuantize":
                for bound in (1, 2):  # the input's lowest and highest value
                    values = node.input_value(bound).get_node().get_data()
                    narrow = opset13.constant(values / 10, values.dtype)
                    node.input(bound).replace_source_output(narrow.output(0))
        monkeypatch.setattr(choose, "int8_model", lambda *_: broken)
        choice = choose_engine(checkpoint, replace(self.wishes(place), precision="int8"))
        assert choice.engine.name != "openvino int8"
        assert "openvino int8: agrees with float32 on " in choice.refused[0]
        assert "98.5% are asked" in choice.refused[0]


def test_a_full_disk_is_not_made_fuller(
    model: Any, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_model(model: Any, path: Path, **options: Any) -> None:
        path.write_bytes(b"the first half")
        path.with_suffix(".bin").write_bytes(b"")
        raise RuntimeError("no space left")

    monkeypatch.setattr("openvino.save_model", save_model)
    int8._keep(model, checkpoint, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
