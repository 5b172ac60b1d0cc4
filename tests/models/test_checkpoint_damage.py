"""Checkpoints that are damaged, half-written or hostile."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from models import (
    CheckpointError,
    inspect_checkpoint,
    list_checkpoints,
    load_checkpoint,
)
from tests.models.test_checkpoint import assert_same_state, save_small
from tests.models.test_weights import Payload, saved
from tests.networks import manifest_for, small_network


def rewrite_manifest(path: Path, **changes: Any) -> None:
    beside = path.with_suffix(".json")
    content = json.loads(beside.read_text())
    beside.write_text(json.dumps({**content, **changes}))


def hidden_files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


class TestDamage:
    def test_one_changed_byte_is_a_hash_mismatch(self, tmp_path: Path) -> None:
        path = tmp_path / "x.pth"
        save_small(path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"x\.pth: sha256 is .*its manifest says"):
            load_checkpoint(path)
        reason = inspect_checkpoint(path).reason
        assert reason is not None
        assert "sha256" in reason

    def test_weights_of_another_run_are_a_hash_mismatch(self, tmp_path: Path) -> None:
        save_small(tmp_path / "a.pth", seed=1)
        save_small(tmp_path / "b.pth", seed=2)
        (tmp_path / "b.pth").replace(tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match="sha256"):
            load_checkpoint(tmp_path / "a.pth")

    @pytest.mark.parametrize("with_manifest", [True, False])
    def test_a_truncated_file_is_refused(self, tmp_path: Path, with_manifest: bool) -> None:
        path = tmp_path / "x.pth"
        save_small(path)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        if not with_manifest:
            (tmp_path / "x.json").unlink()
        with pytest.raises(CheckpointError, match=r"x\.pth"):
            load_checkpoint(path)
        assert inspect_checkpoint(path).reason is not None

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"x\.pth: No such file"):
            load_checkpoint(tmp_path / "x.pth")
        listed = inspect_checkpoint(tmp_path / "x.pth")
        assert listed.reason is not None
        assert "No such file" in listed.reason

    def test_a_manifest_of_other_classes_names_keys_and_counts(self, tmp_path: Path) -> None:
        path = tmp_path / "x.pth"
        save_small(path, num_classes=22)
        network = small_network("unet", num_classes=21)
        other = manifest_for(network, "unet")
        rewrite_manifest(
            path,
            arguments=other.arguments.model_dump(),
            classes=[entry.model_dump() for entry in other.classes],
        )
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        message = str(caught.value)
        assert message.startswith("x.pth does not fit unet: ")
        assert "checkpoint has 22 classes, model has 21" in message
        assert "convUp_fin.weight is (22, 4, 1, 1) in the checkpoint, (21, 4, 1, 1)" in message
        assert "convUp_fin.bias is (22,) in the checkpoint, (21,) in the model" in message
        assert inspect_checkpoint(path).reason == message

    def test_a_manifest_of_another_width_names_a_key_with_both_shapes(self, tmp_path: Path) -> None:
        path = tmp_path / "x.pth"
        save_small(path)
        rewrite_manifest(path, arguments={"num_classes": 5, "base_channels": 8})
        with pytest.raises(
            CheckpointError,
            match=r"convDown1\.0\.weight is \(4, 3, 3, 3\) in the checkpoint, \(8, 3, 3, 3\)",
        ):
            load_checkpoint(path)

    def test_an_unknown_architecture_is_a_checkpoint_error_that_names_the_file(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "x.pth"
        save_small(path)
        rewrite_manifest(path, architecture="unet_plus_plus")
        with pytest.raises(
            CheckpointError, match="unknown architecture 'unet_plus_plus'"
        ) as caught:
            load_checkpoint(path)
        assert "x." in str(caught.value)

    def test_an_unknown_architecture_is_listed_with_the_known_ones(self, tmp_path: Path) -> None:
        path = tmp_path / "x.pth"
        save_small(path)
        rewrite_manifest(path, architecture="unet_plus_plus")
        reason = inspect_checkpoint(path).reason
        assert reason is not None
        assert "unknown architecture 'unet_plus_plus'" in reason
        assert "unet_resnet50" in reason

    @pytest.mark.parametrize(
        ("changes", "complaint"),
        [
            ({"classes": []}, r"x\.json: .*0 classes are named, num_classes is 5"),
            ({"arguments": {"num_classes": 6}}, r"x\.json: .*5 classes .*num_classes is 6"),
            ({"input": None}, r"x\.json: input"),
            ({"format": 9}, r"x\.json: format"),
            ({"weights": None}, r"x\.json: weights: the hash of x\.pth is missing"),
        ],
    )
    def test_a_wrong_manifest_is_refused_with_its_field(
        self, tmp_path: Path, changes: dict[str, Any], complaint: str
    ) -> None:
        path = tmp_path / "x.pth"
        save_small(path)
        rewrite_manifest(path, **changes)
        with pytest.raises(CheckpointError, match=complaint):
            load_checkpoint(path)
        assert inspect_checkpoint(path).manifest is None

    @pytest.mark.parametrize("text", ["", '{"format": 1, "name": "x"', '{"format": 1}'])
    def test_a_broken_manifest_is_refused_rather_than_passed_over(
        self, tmp_path: Path, text: str
    ) -> None:
        path = tmp_path / "x.pth"
        save_small(path)
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"^x\.json: "):
            load_checkpoint(path)

    @pytest.mark.parametrize("width", [10**6, 10**9, 10**30])
    def test_a_manifest_of_an_absurd_width_is_refused_not_built(
        self, tmp_path: Path, width: int
    ) -> None:
        path = tmp_path / "x.pth"
        save_small(path)
        rewrite_manifest(path, arguments={"num_classes": 5, "base_channels": width})
        assert inspect_checkpoint(path).reason is not None
        with pytest.raises(CheckpointError, match=r"^x\."):
            load_checkpoint(path)

    def test_weights_that_claim_an_absurd_width_are_refused_not_built(self, tmp_path: Path) -> None:
        """A few stored bytes, expanded to a shape of terabytes."""
        path = tmp_path / "x.pth"
        state = {
            "convDown1.0.weight": torch.zeros(1).expand(10**9, 3, 3, 3),
            "convUp_fin.weight": torch.zeros(5, 2, 1, 1),
        }
        torch.save(state, path)
        assert inspect_checkpoint(path).reason is not None
        with pytest.raises(CheckpointError, match=r"^x"):
            load_checkpoint(path)

    def test_weights_that_are_not_numbers_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "x.pth"
        state = small_network("unet").state_dict()
        state["convUp_fin.bias"][0] = float("nan")
        torch.save(state, path)
        assert "convUp_fin.bias" in str(inspect_checkpoint(path).reason)
        with pytest.raises(CheckpointError, match=r"^x.*convUp_fin\.bias.*NaN"):
            load_checkpoint(path)

    def test_a_state_without_channels_is_listed_as_invalid(self, tmp_path: Path) -> None:
        path = tmp_path / "x.pth"
        empty = {
            "convDown1.0.weight": torch.zeros(0, 3, 3, 3),
            "convUp_fin.weight": torch.zeros(0, 2, 1, 1),
        }
        torch.save(empty, path)
        assert inspect_checkpoint(path).reason is not None


class TestInterruptedSave:
    """A save that is killed: the old checkpoint stays whole, and nothing half-made is listed."""

    @staticmethod
    def break_torch_save(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[list[str]]:
        """torch.save writes some bytes, notes what a listing shows, and dies."""
        listings: list[list[str]] = []

        def save(_: object, stream: Any) -> None:
            stream.write(b"PK half of a checkpoint")
            stream.flush()
            listings.append([entry.name for entry in list_checkpoints(folder)])
            raise KeyboardInterrupt

        monkeypatch.setattr(torch, "save", save)
        return listings

    def test_the_old_checkpoint_is_intact_and_no_temporary_file_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "last.pth"
        save_small(path, seed=1)
        before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
        self.break_torch_save(monkeypatch, tmp_path)
        with pytest.raises(KeyboardInterrupt):
            save_small(path, seed=2)
        assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before
        assert_same_state(load_checkpoint(path).network, small_network("unet", seed=1))

    def test_a_half_written_file_is_never_listed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        listings = self.break_torch_save(monkeypatch, tmp_path)
        with pytest.raises(KeyboardInterrupt):
            save_small(tmp_path / "new.pth")
        assert listings == [[]]
        assert list_checkpoints(tmp_path) == []

    def test_what_a_power_cut_leaves_behind_is_not_listed(self, tmp_path: Path) -> None:
        (tmp_path / ".last.pth.k3j2h1.tmp").write_bytes(b"PK half")
        (tmp_path / ".last.pth").write_bytes(b"PK half")
        assert list_checkpoints(tmp_path) == []

    def test_a_full_disk_at_the_manifest_leaves_a_checkpoint_that_loads(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """New weights beside the old manifest are a hash mismatch: both files or neither."""
        path = tmp_path / "last.pth"
        save_small(path, seed=1)
        make = tempfile.mkstemp

        def mkstemp(*args: Any, **kwargs: Any) -> tuple[int, str]:
            if ".json" in kwargs.get("prefix", ""):
                raise OSError(28, "No space left on device")
            return make(*args, **kwargs)

        monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
        with pytest.raises(OSError, match="No space left"):
            save_small(path, seed=2)
        monkeypatch.undo()
        assert inspect_checkpoint(path).reason is None
        load_checkpoint(path)
        assert hidden_files(tmp_path) == []

    def test_a_listing_at_any_rename_shows_the_new_checkpoint_whole_or_not_at_all(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Weights without their manifest would be taken for a bare state_dict: other class names,
        other normalisation."""
        listings = []
        rename = os.replace

        def replace(source: str | Path, target: str | Path) -> None:
            rename(source, target)
            listings.append(list_checkpoints(tmp_path))

        monkeypatch.setattr(os, "replace", replace)
        written = save_small(tmp_path / "new.pth")
        assert len(listings) >= 2
        for entry in (entry for listing in listings for entry in listing):
            assert entry.manifest == written


class TestHostileFile:
    @pytest.mark.parametrize("form", ["zip", "legacy"])
    @pytest.mark.parametrize("with_manifest", [True, False])
    def test_a_pickled_payload_is_listed_as_invalid_and_never_executed(
        self, tmp_path: Path, form: str, with_manifest: bool
    ) -> None:
        marker = tmp_path / "marker"
        state: dict[str, object] = {**small_network("unet").state_dict()}
        state["payload"] = Payload(marker)
        path = tmp_path / "x.pth"
        if with_manifest:
            save_small(path)
        content = saved(state, _use_new_zipfile_serialization=form == "zip")
        path.write_bytes(content)
        if with_manifest:
            weights = {
                "file": "x.pth",
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
                "dtype": "float32",
            }
            rewrite_manifest(path, weights=weights)
        with pytest.raises(CheckpointError, match="nothing was executed"):
            load_checkpoint(path)
        (listed,) = list_checkpoints(tmp_path)
        assert listed.reason is not None
        assert "nothing was executed" in listed.reason
        assert listed.manifest is None
        assert not marker.exists()
