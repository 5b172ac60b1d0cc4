"""Reading state dicts without executing anything, and saying how they do not fit."""

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models import CheckpointError, build
from models.misfits import MAX_LISTED_KEYS
from models.weights import (
    describe_misfits,
    infer_manifest,
    read_state,
    require_fit,
)
from tests.networks import manifest_for, small_network

ARCHITECTURES = ["unet", "unet_efficientnet_lite0", "unet_resnet50", "unet_resnet50_full"]


class Payload:
    """Unpickling this writes a file, as a hostile checkpoint would run a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "executed")


def saved(content: object, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def meta_state(name: str, **arguments: int) -> dict[str, Tensor]:
    with torch.device("meta"):
        return build(name, **arguments).state_dict()


class TestReadState:
    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("on_disk", [True, False])
    def test_gives_back_the_tensors_of_both_file_formats(
        self, tmp_path: Path, zipped: bool, on_disk: bool
    ) -> None:
        state = {"a.weight": torch.arange(6.0).view(2, 3), "a.count": torch.tensor(7)}
        content = saved(state, _use_new_zipfile_serialization=zipped)
        path = tmp_path / "x.pth"
        path.write_bytes(content)
        read = read_state(path if on_disk else content, name="x.pth")
        assert read.keys() == state.keys()
        for key, tensor in state.items():
            assert torch.equal(read[key], tensor)

    def test_a_nested_dictionary_is_refused_with_what_to_save_instead(self) -> None:
        content = saved({"epoch": 3, "state_dict": {"a.weight": torch.zeros(1)}})
        with pytest.raises(CheckpointError, match=r"^x\.pth: .*save model\.state_dict\(\) alone"):
            read_state(content, name="x.pth")

    def test_the_entry_that_is_no_tensor_is_named(self) -> None:
        content = saved({"state_dict": {"a.weight": torch.zeros(1)}})
        with pytest.raises(CheckpointError, match="'state_dict' is a dict"):
            read_state(content, name="x.pth")

    @pytest.mark.parametrize("content", [[torch.zeros(1)], torch.zeros(1), {}, 3, {1: "a"}])
    def test_what_is_no_state_dict_is_refused(self, content: object) -> None:
        with pytest.raises(CheckpointError, match=r"^x\.pth: "):
            read_state(saved(content), name="x.pth")

    @pytest.mark.parametrize(
        "content", [b"", b"no checkpoint", bytes(range(256)) * 8, b"PK\x03\x04"]
    )
    @pytest.mark.parametrize("on_disk", [True, False])
    def test_bytes_that_are_no_pytorch_file_are_refused(
        self, tmp_path: Path, content: bytes, on_disk: bool
    ) -> None:
        path = tmp_path / "x.pth"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"^x\.pth: "):
            read_state(path if on_disk else content, name="x.pth")

    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
    def test_a_truncated_file_is_refused(self, tmp_path: Path, zipped: bool, share: float) -> None:
        state = small_network("unet").state_dict()
        content = saved(state, _use_new_zipfile_serialization=zipped)
        path = tmp_path / "x.pth"
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(CheckpointError, match=r"^x\.pth: "):
            read_state(path, name="x.pth")

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"^x\.pth: no such file"):
            read_state(tmp_path / "x.pth", name="x.pth")

    @pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
    @pytest.mark.parametrize("on_disk", [True, False])
    def test_pickled_code_is_never_executed(self, tmp_path: Path, form: str, on_disk: bool) -> None:
        marker = tmp_path / "marker"
        state = {"convDown1.0.weight": torch.zeros(2, 3, 3, 3), "payload": Payload(marker)}
        content = {
            "zip": lambda: saved(state),
            "legacy": lambda: saved(state, _use_new_zipfile_serialization=False),
            "pickle": lambda: pickle.dumps(Payload(marker), protocol=2),
        }[form]()
        path = tmp_path / "x.pth"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"^x\.pth: .*nothing was executed"):
            read_state(path if on_disk else content, name="x.pth")
        assert not marker.exists()

    def test_the_payload_of_the_test_above_is_live(self, tmp_path: Path) -> None:
        marker = tmp_path / "marker"
        pickle.loads(pickle.dumps(Payload(marker)))
        assert marker.exists()

    def test_a_whole_pickled_module_is_refused(self) -> None:
        with pytest.raises(CheckpointError, match="pickled objects other than tensors"):
            read_state(saved(small_network("unet")), name="x.pth")


class TestInferManifest:
    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_reads_architecture_classes_and_width_off_the_shapes(self, name: str) -> None:
        state = meta_state(name, num_classes=9, base_channels=6)
        manifest = infer_manifest(state, name="mine")
        assert manifest.name == "mine"
        assert manifest.architecture == name
        assert manifest.arguments.model_dump() == {
            "num_classes": 9,
            "base_channels": 6,
            "in_channels": 3,
        }

    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_takes_the_networks_normalisation_and_stride(self, name: str) -> None:
        network = small_network(name)
        spec = infer_manifest(network.state_dict(), name="x").input
        assert spec.mean == network.mean
        assert spec.std == network.std
        assert spec.stride == network.stride

    def test_gives_one_mean_per_channel_to_images_that_are_not_rgb(self) -> None:
        manifest = infer_manifest(meta_state("unet", base_channels=2, in_channels=1), name="x")
        assert len(manifest.input.mean) == 1

    @pytest.mark.parametrize(
        ("num_classes", "last"), [(22, "border"), (21, "tvmonitor"), (2, "class 1")]
    )
    def test_names_the_classes_as_voc_where_the_count_fits(
        self, num_classes: int, last: str
    ) -> None:
        state = meta_state("unet", base_channels=2, num_classes=num_classes)
        assert infer_manifest(state, name="x").class_set().names[-1] == last

    def test_keys_of_no_known_network_are_refused_with_the_known_ones(self) -> None:
        with pytest.raises(CheckpointError, match=r"'fc\.weight'.*unet_resnet50"):
            infer_manifest({"fc.weight": torch.zeros(2, 3)}, name="x")

    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_a_state_without_its_last_layer_is_refused(self, name: str) -> None:
        state = meta_state(name, base_channels=2)
        head = [key for key in state if key.endswith("weight")][-1]
        del state[head]
        with pytest.raises(CheckpointError, match=rf"looks like {name}, but .*{head}"):
            infer_manifest(state, name="x")

    def test_a_first_layer_of_other_dimensions_is_refused(self) -> None:
        state = {**meta_state("unet", base_channels=2), "convDown1.0.weight": torch.zeros(2)}
        with pytest.raises(CheckpointError, match="looks like unet"):
            infer_manifest(state, name="x")

    def test_a_layer_without_channels_is_refused(self) -> None:
        state = {
            "convDown1.0.weight": torch.zeros(0, 3, 3, 3),
            "convUp_fin.weight": torch.zeros(0, 2, 1, 1),
        }
        with pytest.raises(CheckpointError):
            infer_manifest(state, name="x")

    def test_more_classes_than_a_mask_can_hold_are_refused_with_the_files_name(self) -> None:
        state = meta_state("unet", base_channels=2, num_classes=300)
        with pytest.raises(CheckpointError, match=r"x.*300"):
            infer_manifest(state, name="x")


class TestRequireFit:
    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_a_state_that_fits_passes(self, name: str) -> None:
        network = small_network(name)
        require_fit(network.state_dict(), manifest_for(network, name), name="x.pth")

    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_another_number_of_classes_is_said_in_words_and_key_by_key(self, name: str) -> None:
        """The report's second bug: a checkpoint of 22 classes for a model of 21."""
        network = small_network(name, num_classes=21, base_channels=4)
        state = meta_state(name, num_classes=22, base_channels=4)
        with pytest.raises(CheckpointError) as caught:
            require_fit(state, manifest_for(network, name), name="x.pth")
        message = str(caught.value)
        assert message.startswith(f"x.pth does not fit {name}: ")
        assert "checkpoint has 22 classes, model has 21" in message
        head = [key for key in state if key.endswith("weight")][-1]
        assert f"{head} is {tuple(state[head].shape)} in the checkpoint" in message
        assert f"{head.removesuffix('weight')}bias is (22,) in the checkpoint" in message

    def test_every_key_of_the_reports_mismatch_is_named_with_both_shapes(self) -> None:
        """The report's listing: input channels, every decoder block and the classes differ."""
        network = small_network("unet", num_classes=21, base_channels=64)
        state = dict(network.state_dict())
        others = {
            "convDown1.0.weight": (64, 1, 3, 3),
            "convUp4.0.weight": (512, 1024, 3, 3),
            "convUp3.0.weight": (256, 512, 3, 3),
            "convUp2.0.weight": (128, 256, 3, 3),
            "convUp1.0.weight": (64, 128, 3, 3),
            "convUp_fin.weight": (22, 64, 1, 1),
            "convUp_fin.bias": (22,),
        }
        state |= {key: torch.empty(shape, device="meta") for key, shape in others.items()}
        with pytest.raises(CheckpointError) as caught:
            require_fit(state, manifest_for(network, "unet"), name="x.pth")
        message = str(caught.value)
        for key, shape in others.items():
            model = tuple(network.state_dict()[key].shape)
            assert f"{key} is {shape} in the checkpoint, {model} in the model" in message
        assert "checkpoint has 22 classes, model has 21" in message

    def test_the_same_number_of_classes_is_not_mentioned(self) -> None:
        network = small_network("unet")
        state = meta_state("unet", num_classes=5, base_channels=4, in_channels=1)
        with pytest.raises(CheckpointError, match=r"convDown1\.0\.weight") as caught:
            require_fit(state, manifest_for(network, "unet"), name="x.pth")
        assert "classes" not in str(caught.value)

    def test_missing_and_surplus_keys_are_named(self) -> None:
        network = small_network("unet")
        state = dict(network.state_dict())
        state["convUp_end.bias"] = state.pop("convUp_fin.bias")
        with pytest.raises(CheckpointError) as caught:
            require_fit(state, manifest_for(network, "unet"), name="x.pth")
        assert "convUp_fin.bias is missing" in str(caught.value)
        assert "convUp_end.bias is not in the model" in str(caught.value)

    def test_a_long_list_is_cut_and_the_rest_counted(self) -> None:
        network = small_network("unet", base_channels=4)
        state = meta_state("unet", num_classes=5, base_channels=8)
        misfits = describe_misfits(state, network.state_dict())
        differing = [k for k, v in network.state_dict().items() if v.shape != state[k].shape]
        assert len(misfits) == MAX_LISTED_KEYS + 1
        assert misfits[-1] == f"and {len(differing) - MAX_LISTED_KEYS} more"

    def test_batch_counters_may_be_absent_as_in_files_of_old(self) -> None:
        network = small_network("unet")
        state = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
        require_fit(state, manifest_for(network, "unet"), name="x.pth")
