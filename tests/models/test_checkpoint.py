"""Checkpoints on disk: round trips, bare state dicts, listings."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import (
    CheckpointError,
    inspect_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from models.checkpoint import find_checkpoints
from models.manifest import Dtype, Manifest
from models.network import SegmentationNetwork
from tests.models.test_weights import ARCHITECTURES
from tests.networks import manifest_for, random_images, small_network

HALF: dict[Dtype, torch.dtype] = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def save_small(path: Path, *, seed: int = 0, **arguments: int) -> Manifest:
    """A small `unet` and its manifest at `path`."""
    network = small_network("unet", seed=seed, **arguments)
    return save_checkpoint(path, network.state_dict(), manifest_for(network, "unet"))


def assert_same_state(network: SegmentationNetwork, expected: SegmentationNetwork) -> None:
    state = network.state_dict()
    for key, tensor in expected.state_dict().items():
        assert torch.equal(state[key], tensor), key


class TestRoundTrip:
    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_a_saved_network_comes_back_exactly(self, tmp_path: Path, name: str) -> None:
        network = small_network(name)
        path = tmp_path / "run" / "best.pth"
        written = save_checkpoint(path, network.state_dict(), manifest_for(network, name))
        checkpoint = load_checkpoint(path)
        assert type(checkpoint.network) is type(network)
        assert not checkpoint.network.training
        assert_same_state(checkpoint.network, network)
        assert checkpoint.manifest == written
        images = random_images(1, 3, 33, 40)
        with torch.inference_mode():
            assert torch.equal(checkpoint.network(images), network(images))

    @pytest.mark.parametrize("name", ["unet", "unet_efficientnet_lite0", "unet_resnet50"])
    @pytest.mark.parametrize("dtype", HALF)
    def test_half_precision_takes_half_the_bytes_and_loads_close_in_float32(
        self, tmp_path: Path, name: str, dtype: Dtype
    ) -> None:
        network = small_network(name, base_channels=32)
        manifest = manifest_for(network, name)
        full = save_checkpoint(tmp_path / "full.pth", network.state_dict(), manifest)
        half = save_checkpoint(tmp_path / "half.pth", network.state_dict(), manifest, dtype=dtype)
        assert full.weights is not None
        assert half.weights is not None
        assert half.weights.dtype == dtype
        assert 0.48 < half.weights.bytes / full.weights.bytes < 0.56
        state = load_checkpoint(tmp_path / "half.pth").network.state_dict()
        precision = torch.finfo(HALF[dtype]).eps
        for key, tensor in network.state_dict().items():
            assert state[key].dtype == tensor.dtype
            if tensor.dim() > 1:
                assert torch.allclose(state[key], tensor, rtol=precision, atol=1e-7), key
                assert torch.equal(state[key], tensor.to(HALF[dtype]).float()), key
            else:  # biases and batch statistics are kept whole
                assert torch.equal(state[key], tensor), key

    def test_the_manifest_describes_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "best.pth"
        written = save_small(path)
        content = path.read_bytes()
        assert written.name == "best"
        assert written.weights is not None
        assert written.weights.file == "best.pth"
        assert written.weights.bytes == len(content)
        assert written.weights.sha256 == hashlib.sha256(content).hexdigest()
        assert written.weights.dtype == "float32"
        assert Manifest.model_validate_json((tmp_path / "best.json").read_bytes()) == written

    def test_the_file_is_a_plain_state_dict(self, tmp_path: Path) -> None:
        save_small(tmp_path / "best.pth")
        state = torch.load(tmp_path / "best.pth", weights_only=True)
        assert type(state) is dict
        assert all(type(tensor) is Tensor for tensor in state.values())
        assert state.keys() == small_network("unet").state_dict().keys()

    def test_saving_again_replaces_both_files(self, tmp_path: Path) -> None:
        path = tmp_path / "last.pth"
        save_small(path, seed=1)
        save_small(path, seed=2)
        assert_same_state(load_checkpoint(path).network, small_network("unet", seed=2))
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["last.json", "last.pth"]

    def test_a_renamed_pair_keeps_working_under_its_new_name(self, tmp_path: Path) -> None:
        save_small(tmp_path / "best.pth")
        (tmp_path / "best.pth").rename(tmp_path / "tumour-2024.v2.pth")
        (tmp_path / "best.json").rename(tmp_path / "tumour-2024.v2.json")
        checkpoint = load_checkpoint(tmp_path / "tumour-2024.v2.pth")
        assert checkpoint.manifest.name == "tumour-2024.v2"
        assert checkpoint.manifest.classes[1].name == "thing 1"
        assert [entry.name for entry in list_checkpoints(tmp_path)] == ["tumour-2024.v2"]

    def test_a_state_that_does_not_fit_its_manifest_is_not_written(self, tmp_path: Path) -> None:
        state = small_network("unet", num_classes=22).state_dict()
        manifest = manifest_for(small_network("unet", num_classes=21), "unet")
        with pytest.raises(CheckpointError, match="checkpoint has 22 classes, model has 21"):
            save_checkpoint(tmp_path / "x.pth", state, manifest)
        assert list(tmp_path.iterdir()) == []

    def test_another_suffix_is_refused(self, tmp_path: Path) -> None:
        network = small_network("unet")
        with pytest.raises(CheckpointError, match=r"x\.pt: a checkpoint's file name ends in \.pth"):
            save_checkpoint(tmp_path / "x.pt", network.state_dict(), manifest_for(network, "unet"))
        with pytest.raises(CheckpointError, match=r"ends in \.pth"):
            load_checkpoint(tmp_path / "x.pt")

    def test_saving_does_not_touch_the_network(self, tmp_path: Path) -> None:
        network = small_network("unet").train()
        save_checkpoint(
            tmp_path / "x.pth",
            network.state_dict(),
            manifest_for(network, "unet"),
            dtype="bfloat16",
        )
        assert network.training
        assert_same_state(network, small_network("unet"))


class TestBareStateDict:
    @pytest.mark.parametrize("name", ARCHITECTURES)
    @pytest.mark.parametrize("zipped", [True, False])
    def test_architecture_classes_and_width_are_inferred(
        self, tmp_path: Path, name: str, zipped: bool
    ) -> None:
        network = small_network(name, num_classes=22, base_channels=6)
        path = tmp_path / "model.pth"
        torch.save(network.state_dict(), path, _use_new_zipfile_serialization=zipped)
        checkpoint = load_checkpoint(path)
        assert checkpoint.manifest.architecture == name
        assert checkpoint.manifest.arguments.num_classes == 22
        assert checkpoint.manifest.arguments.base_channels == 6
        assert checkpoint.manifest.name == "model"
        assert checkpoint.manifest.class_set().names[21] == "border"
        assert_same_state(checkpoint.network, network)
        listed = inspect_checkpoint(path)
        assert listed.reason is None
        assert listed.manifest == checkpoint.manifest
        assert listed.bytes == path.stat().st_size

    def test_the_report_sized_networks_are_recognised(self, tmp_path: Path) -> None:
        network = small_network("unet_resnet50", num_classes=22, base_channels=64)
        torch.save(network.state_dict(), tmp_path / "model.pth")
        arguments = load_checkpoint(tmp_path / "model.pth").manifest.arguments
        assert (arguments.num_classes, arguments.base_channels, arguments.in_channels) == (
            22,
            64,
            3,
        )

    def test_a_file_of_torch_before_0_4_1_loads_without_batch_counters(
        self, tmp_path: Path
    ) -> None:
        network = small_network("unet")
        state = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
        torch.save(state, tmp_path / "old.pth")
        assert_same_state(load_checkpoint(tmp_path / "old.pth").network, network)

    def test_a_nested_dictionary_is_refused_with_what_to_save_instead(self, tmp_path: Path) -> None:
        state = small_network("unet").state_dict()
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / "x.pth")
        with pytest.raises(CheckpointError, match=r"x\.pth.*save model\.state_dict\(\) alone"):
            load_checkpoint(tmp_path / "x.pth")

    @pytest.mark.filterwarnings("ignore")  # torch warns of sparse tensors before they get anywhere
    @pytest.mark.parametrize("kind", ["meta", "sparse"])
    def test_tensors_that_cannot_be_loaded_are_refused(self, tmp_path: Path, kind: str) -> None:
        """Without values, or in a layout that no layer takes."""
        state = dict(small_network("unet").state_dict())
        head = state["convUp_fin.weight"]
        state["convUp_fin.weight"] = head.to("meta") if kind == "meta" else head.to_sparse()
        path = tmp_path / "x.pth"
        torch.save(state, path)
        with pytest.raises(CheckpointError, match=r"x\.pth"):
            load_checkpoint(path)
        assert inspect_checkpoint(path).reason is not None


class TestListing:
    def test_an_empty_and_a_missing_folder_hold_nothing(self, tmp_path: Path) -> None:
        assert list_checkpoints(tmp_path) == []
        assert list_checkpoints(tmp_path / "absent") == []

    def test_good_and_bad_files_are_listed_by_name(self, tmp_path: Path) -> None:
        save_small(tmp_path / "c.pth")
        torch.save(small_network("unet_resnet50").state_dict(), tmp_path / "a.pth")
        (tmp_path / "b.pth").write_bytes(b"no checkpoint")
        (tmp_path / "d.pt").write_bytes(b"another suffix")
        (tmp_path / "orphan.json").write_text("{}")
        listing = list_checkpoints(tmp_path)
        assert [entry.name for entry in listing] == ["a", "b", "c"]
        assert [entry.reason is None for entry in listing] == [True, False, True]
        assert [entry.path.name for entry in listing] == ["a.pth", "b.pth", "c.pth"]
        assert listing[2].manifest is not None
        assert listing[2].manifest.training is not None
        assert listing[1].bytes == len(b"no checkpoint")

    def test_a_folder_and_a_dangling_link_named_like_checkpoints_are_passed_over(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "folder.pth").mkdir()
        (tmp_path / "link.pth").symlink_to(tmp_path / "absent.pth")
        assert list_checkpoints(tmp_path) == []

    def test_a_link_to_a_checkpoint_is_listed_under_its_own_name(self, tmp_path: Path) -> None:
        save_small(tmp_path / "x.pth")
        (tmp_path / "current.pth").symlink_to("x.pth")
        (tmp_path / "current.json").symlink_to("x.json")
        assert [(e.name, e.reason) for e in list_checkpoints(tmp_path)] == [
            ("current", None),
            ("x", None),
        ]

    def test_the_best_checkpoint_of_a_run_is_listed_under_the_runs_name(
        self, tmp_path: Path
    ) -> None:
        save_small(tmp_path / "roads" / "checkpoints" / "best.pth")
        save_small(tmp_path / "roads" / "checkpoints" / "last.pth")
        save_small(tmp_path / ".hidden" / "checkpoints" / "best.pth")
        (listed,) = list_checkpoints(tmp_path)
        assert listed.name == "roads"
        assert listed.reason is None
        assert listed.manifest is not None
        assert listed.manifest.name == "roads"
        assert load_checkpoint(listed.path, name=listed.name).manifest == listed.manifest

    def test_a_file_goes_before_a_run_of_the_same_name(self, tmp_path: Path) -> None:
        save_small(tmp_path / "roads" / "checkpoints" / "best.pth")
        save_small(tmp_path / "roads.pth")
        save_small(tmp_path / "a.pth")
        assert find_checkpoints(tmp_path) == {
            "a": tmp_path / "a.pth",
            "roads": tmp_path / "roads.pth",
        }

    def test_one_bad_file_of_any_kind_does_not_hide_the_others(self, tmp_path: Path) -> None:
        save_small(tmp_path / "good.pth")
        (tmp_path / "a.pth").write_bytes(b"")
        torch.save([1, 2], tmp_path / "b.pth")
        torch.save({}, tmp_path / "c.pth")
        torch.save({"fc.weight": torch.zeros(2, 3)}, tmp_path / "d.pth")
        save_small(tmp_path / "e.pth")
        (tmp_path / "e.json").unlink()
        (tmp_path / "e.json").mkdir()
        reasons = {entry.name: entry.reason for entry in list_checkpoints(tmp_path)}
        assert [name for name, reason in reasons.items() if reason is None] == ["good"]
        assert len(reasons) == 6
