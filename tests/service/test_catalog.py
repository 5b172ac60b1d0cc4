"""The folder of checkpoints: what is listed, what is served, what is read again."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models import ListedCheckpoint, build, inspect_checkpoint, save_checkpoint
from service.catalog import Catalog, load_active
from service.engines.choose import Wishes, choose_engine
from service.entries import loaded_entry
from service.errors import StartupError, UnknownModelError
from service.schemas import ModelEntry
from tests.networks import manifest_for, small_network
from tests.service.colours import colour_network, save_colours


def rewrite_manifest(path: Path, **changes: Any) -> None:
    beside = path.with_suffix(".json")
    beside.write_text(json.dumps({**json.loads(beside.read_text()), **changes}))


class Payload:
    """Creates a file when unpickled by a careless reader."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def catalog(folder: Path) -> Catalog:
    return Catalog(folder)


@pytest.fixture
def served(folder: Path) -> ModelEntry:
    """`colours`, loaded."""
    checkpoint = load_active(folder, "colours")
    choice = choose_engine(checkpoint, Wishes(device="cpu", engine="torch", precision="float32"))
    return loaded_entry(checkpoint.manifest, choice, active=True, failure=None)


@pytest.fixture
def inspected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of checkpoints that are read and hashed from now on."""
    names: list[str] = []

    def inspect(path: Path, **options: Any) -> ListedCheckpoint:
        names.append(path.name)
        return inspect_checkpoint(path, **options)

    monkeypatch.setattr("service.catalog.inspect_checkpoint", inspect)
    return names


def entry(catalog: Catalog, name: str) -> ModelEntry:
    return {found.name: found for found in catalog.entries()}[name]


def change_weights(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def truncate_bare(path: Path) -> None:
    truncate(path)
    path.with_suffix(".json").unlink()


def rename_architecture(path: Path) -> None:
    rewrite_manifest(path, architecture="transformer9000")


def break_json(path: Path) -> None:
    path.with_suffix(".json").write_text("{")


def claim_an_impossible_width(path: Path) -> None:
    rewrite_manifest(path, arguments={"num_classes": 4, "base_channels": 10**12, "in_channels": 3})


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def head_without_classes(path: Path) -> None:
    state = colour_network().state_dict()
    state["convUp_fin.weight"] = torch.zeros(0, 4, 1, 1)
    state["convUp_fin.bias"] = torch.zeros(0)
    torch.save(state, path)
    path.with_suffix(".json").unlink()


def more_classes_than_a_mask_holds(path: Path) -> None:
    torch.save(build("unet", num_classes=300, base_channels=2).state_dict(), path)
    path.with_suffix(".json").unlink()


def foreign_keys(path: Path) -> None:
    torch.save({"encoder.weight": torch.zeros(3)}, path)
    path.with_suffix(".json").unlink()


def not_a_state(path: Path) -> None:
    torch.save([torch.zeros(3)], path)
    path.with_suffix(".json").unlink()


class TestEntries:
    def test_the_served_one_is_active_and_the_others_available(
        self, folder: Path, catalog: Catalog, served: ModelEntry
    ) -> None:
        network = small_network("unet_resnet50", num_classes=7)
        save_checkpoint(
            folder / "another.pth", network.state_dict(), manifest_for(network, "unet_resnet50")
        )
        entries = catalog.entries([served])
        assert [(e.name, e.status) for e in entries] == [
            ("another", "available"),
            ("colours", "active"),
        ]
        assert entries[0].architecture == "unet_resnet50"
        assert entries[0].num_classes == 7
        assert entries[0].reason is None
        saved = json.loads((folder / "another.json").read_text())
        assert entries[0].sha256 == saved["weights"]["sha256"]
        assert entries[0].bytes == (folder / "another.pth").stat().st_size

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (change_weights, "sha256"),
            (truncate, "sha256"),
            (truncate_bare, "cannot be read"),
            (rename_architecture, "transformer9000"),
            (break_json, "spoilt.json"),
            (claim_an_impossible_width, "base_channels"),
            (empty_file, "sha256"),
            (head_without_classes, "num_classes"),
            (more_classes_than_a_mask_holds, "300"),
            (foreign_keys, "encoder.weight"),
            (not_a_state, "list"),
        ],
    )
    def test_a_bad_checkpoint_is_listed_as_invalid_with_the_reason(
        self, folder: Path, catalog: Catalog, damage: Callable[[Path], None], reason: str
    ) -> None:
        save_colours(folder / "spoilt.pth")
        damage(folder / "spoilt.pth")
        spoilt = entry(catalog, "spoilt")
        assert spoilt.status == "invalid"
        assert spoilt.reason is not None
        assert reason in spoilt.reason
        assert str(folder) not in spoilt.reason
        assert entry(catalog, "colours").status == "available"

    def test_pickled_code_is_never_executed(
        self, folder: Path, catalog: Catalog, tmp_path: Path
    ) -> None:
        marker = tmp_path / "executed"
        torch.save({"convDown1.0.weight": Payload(marker)}, folder / "evil.pth")
        (folder / "raw.pth").write_bytes(pickle.dumps(Payload(marker)))
        assert entry(catalog, "evil").status == "invalid"
        assert entry(catalog, "raw").status == "invalid"
        assert not marker.exists()
        assert "nothing was executed" in (entry(catalog, "evil").reason or "")
        with pytest.raises(StartupError, match="--model evil"):
            load_active(folder, "evil")
        assert not marker.exists()

    def test_half_written_and_hidden_files_are_not_listed(
        self, folder: Path, catalog: Catalog
    ) -> None:
        shutil.copy(folder / "colours.pth", folder / ".colours.pth.x1y2.tmp")
        shutil.copy(folder / "colours.pth", folder / ".hidden.pth")
        shutil.copy(folder / "colours.pth", folder / "colours.pth.part")
        (folder / "folder.pth").mkdir()
        assert [found.name for found in catalog.entries()] == ["colours"]

    def test_a_run_folder_is_listed_by_its_name(self, folder: Path, catalog: Catalog) -> None:
        save_colours(folder / "monday" / "checkpoints" / "best.pth")
        assert [found.name for found in catalog.entries()] == ["colours", "monday"]
        assert catalog.manifest("monday").name == "monday"

    def test_the_served_one_stays_listed_when_its_file_is_gone(
        self, folder: Path, catalog: Catalog, served: ModelEntry
    ) -> None:
        size = (folder / "colours.pth").stat().st_size
        (folder / "colours.pth").unlink()
        (found,) = catalog.entries([served])
        assert (found.name, found.status, found.bytes) == ("colours", "active", size)

    def test_the_served_one_is_described_as_loaded_when_its_file_has_changed(
        self, folder: Path, catalog: Catalog, served: ModelEntry
    ) -> None:
        network = small_network("unet", num_classes=3, base_channels=8)
        save_checkpoint(folder / "colours.pth", network.state_dict(), manifest_for(network, "unet"))
        assert catalog.entries([served]) == [served]

    def test_a_load_that_failed_is_told_until_the_file_itself_is_bad(
        self, folder: Path, catalog: Catalog
    ) -> None:
        failures = {"colours": "there was no memory", "gone": "never mind"}
        (found,) = catalog.entries(failures=failures)
        assert (found.status, found.reason) == ("available", "there was no memory")
        truncate(folder / "colours.pth")
        (found,) = catalog.entries(failures=failures)
        assert found.status == "invalid"
        assert "sha256" in (found.reason or "")


class TestReading:
    def test_an_unchanged_file_is_read_once(
        self, folder: Path, catalog: Catalog, inspected: list[str]
    ) -> None:
        save_colours(folder / "other.pth")
        first = catalog.entries()
        assert inspected == ["colours.pth", "other.pth"]
        assert catalog.entries() == first
        catalog.manifest("other")
        assert inspected == ["colours.pth", "other.pth"]

    def test_a_new_checkpoint_appears_and_a_removed_one_disappears(
        self, folder: Path, catalog: Catalog
    ) -> None:
        catalog.entries()
        save_colours(folder / "new.pth")
        assert entry(catalog, "new").status == "available"
        (folder / "new.pth").unlink()
        assert [found.name for found in catalog.entries()] == ["colours"]

    def test_a_changed_file_alone_is_read_again(
        self, folder: Path, catalog: Catalog, inspected: list[str]
    ) -> None:
        save_colours(folder / "other.pth")
        assert entry(catalog, "other").status == "available"
        inspected.clear()
        change_weights(folder / "other.pth")
        assert entry(catalog, "other").status == "invalid"
        assert inspected == ["other.pth"]

    def test_a_changed_manifest_is_read_again(self, folder: Path, catalog: Catalog) -> None:
        save_colours(folder / "other.pth")
        assert entry(catalog, "other").status == "available"
        rename_architecture(folder / "other.pth")
        assert entry(catalog, "other").status == "invalid"

    def test_a_repaired_file_is_available_again(self, folder: Path, catalog: Catalog) -> None:
        save_colours(folder / "other.pth")
        good = (folder / "other.pth").read_bytes()
        truncate(folder / "other.pth")
        assert entry(catalog, "other").status == "invalid"
        (folder / "other.pth").write_bytes(good)
        assert entry(catalog, "other").status == "available"


class TestManifest:
    def test_a_listed_name_gives_its_manifest(self, folder: Path, catalog: Catalog) -> None:
        saved = save_colours(folder / "other.pth")
        assert catalog.manifest("other") == saved

    @pytest.mark.parametrize(
        "name", ["", "..", "../colours", "/etc/passwd", "colours.pth", "colours/", "Colours", "*"]
    )
    def test_only_listed_names_are_known(self, catalog: Catalog, name: str) -> None:
        with pytest.raises(UnknownModelError) as caught:
            catalog.manifest(name)
        assert repr(name) in caught.value.detail

    def test_an_invalid_checkpoint_gives_the_reason_instead(
        self, folder: Path, catalog: Catalog
    ) -> None:
        save_colours(folder / "spoilt.pth")
        rename_architecture(folder / "spoilt.pth")
        with pytest.raises(UnknownModelError, match=r"'spoilt' is invalid.*transformer9000"):
            catalog.manifest("spoilt")


class TestLoadActive:
    def test_the_only_checkpoint_needs_no_name(self, folder: Path) -> None:
        assert load_active(folder, None).manifest.name == "colours"

    def test_a_file_name_does_as_well(self, folder: Path) -> None:
        assert load_active(folder, "colours.pth").manifest.name == "colours"

    def test_several_checkpoints_are_listed_to_choose_from(self, folder: Path) -> None:
        save_colours(folder / "other.pth")
        with pytest.raises(StartupError, match=r"colours, other; choose one with --model"):
            load_active(folder, None)

    @pytest.mark.parametrize("present", [True, False])
    def test_an_empty_or_absent_folder_is_named(self, tmp_path: Path, present: bool) -> None:
        empty = tmp_path / "empty"
        if present:
            empty.mkdir()
        with pytest.raises(StartupError) as caught:
            load_active(empty, None)
        assert f"--checkpoints {empty}" in str(caught.value)

    def test_an_unknown_name_lists_the_known_ones(self, folder: Path) -> None:
        with pytest.raises(StartupError, match=r"--model best: not in .*, which holds colours"):
            load_active(folder, "best")

    def test_a_checkpoint_for_other_channels_is_refused(self, folder: Path) -> None:
        network = small_network("unet", in_channels=1)
        save_checkpoint(folder / "grey.pth", network.state_dict(), manifest_for(network, "unet"))
        with pytest.raises(StartupError, match="--model grey: takes 1 channels"):
            load_active(folder, "grey")

    def test_a_damaged_checkpoint_is_refused_by_name(self, folder: Path) -> None:
        change_weights(folder / "colours.pth")
        with pytest.raises(StartupError, match=r"--model colours: .*sha256"):
            load_active(folder, "colours")

    def test_weights_that_do_not_fit_are_described(self, folder: Path) -> None:
        path = folder / "colours.pth"
        torch.save(build("unet", num_classes=7, base_channels=4).state_dict(), path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        weights = {"file": path.name, "sha256": digest, "bytes": 1, "dtype": "float32"}
        rewrite_manifest(path, weights=weights)
        with pytest.raises(StartupError, match="checkpoint has 7 classes, model has 4"):
            load_active(folder, "colours")
