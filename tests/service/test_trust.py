"""Which checkpoints are read: those inside the folder, and where hashes are asked for, those."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from models import ListedCheckpoint
from models.checkpoint import find_checkpoints
from models.errors import CheckpointError
from service.app import create_app
from service.catalog import load_active
from service.errors import StartupError
from service.schemas import ModelEntry
from service.trust import Trust
from tests.service.clients import GOOD, assert_problem, client_for, settings_for
from tests.service.colours import save_colours


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def listed(folder: Path, **settings: Any) -> dict[str, ModelEntry]:
    with client_for(create_app(settings_for(folder, **settings))) as client:
        models = client.get("/models").json()["models"]
    return {entry["name"]: ModelEntry.model_validate(entry) for entry in models}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A checkpoint that is none of the folder's."""
    save_colours(tmp_path / "outside" / "secret.pth")
    return tmp_path / "outside" / "secret.pth"


class TestLinks:
    def test_a_checkpoint_elsewhere_is_listed_as_invalid_and_not_served(
        self, folder: Path, outside: Path
    ) -> None:
        (folder / "linked.pth").symlink_to(outside)
        found = listed(folder)["linked"]
        assert found.status == "invalid"
        assert found.reason is not None
        assert "symbolic link" in found.reason
        assert str(outside.parent) not in found.reason
        assert found.bytes == 0  # its size is the other file's
        with pytest.raises(StartupError, match=r"--model linked: .*symbolic link"):
            load_active(folder, "linked")

    def test_a_manifest_elsewhere_is_not_read(self, folder: Path, outside: Path) -> None:
        save_colours(folder / "other.pth")
        (folder / "other.json").unlink()
        (folder / "other.json").symlink_to(outside.with_suffix(".json"))
        assert listed(folder)["other"].status == "invalid"

    def test_neither_is_one_that_waits_for_its_weights(self, folder: Path, outside: Path) -> None:
        """Where a save stands between its two renames."""
        save_colours(folder / "other.pth")
        (folder / ".other.json.next").symlink_to(outside.with_suffix(".json"))
        found = listed(folder)["other"]
        assert found.status == "invalid"
        assert "symbolic link" in (found.reason or "")

    def test_links_in_a_circle_disturb_nobody(self, folder: Path) -> None:
        save_colours(folder / "other.pth")
        (folder / "other.json").unlink()
        (folder / "other.json").symlink_to("other.json")
        (folder / "circle.pth").symlink_to("circle.pth")
        found = listed(folder)
        assert {name: entry.status for name, entry in found.items()} == {
            "colours": "active",
            "other": "invalid",
        }

    def test_a_run_folder_elsewhere_is_not_read(self, folder: Path, tmp_path: Path) -> None:
        save_colours(tmp_path / "runs" / "monday" / "checkpoints" / "best.pth")
        (folder / "monday").symlink_to(tmp_path / "runs" / "monday")
        assert listed(folder)["monday"].status == "invalid"
        assert listed(folder)["monday"].bytes == 0

    def test_a_link_that_turns_outwards_while_serving_is_seen(
        self, folder: Path, outside: Path
    ) -> None:
        """Though size and time of what it shows are the same."""
        save_colours(folder / "kept" / "other.pth")
        link = folder / "link.pth"
        link.symlink_to(folder / "kept" / "other.pth")
        with client_for(create_app(settings_for(folder))) as client:
            assert client.get("/models/link").status_code == 200
            twin = outside.with_name("twin.pth")
            twin.hardlink_to(folder / "kept" / "other.pth")
            link.unlink()
            link.symlink_to(twin)
            assert_problem(client.get("/models/link"), 404, "symbolic link")
            link.unlink()
            link.symlink_to(folder / "kept" / "other.pth")
            assert client.get("/models/link").status_code == 200

    def test_links_within_the_folder_and_to_the_folder_are_fine(
        self, folder: Path, tmp_path: Path
    ) -> None:
        (folder / "latest.pth").symlink_to("colours.pth")
        (folder / "latest.json").symlink_to("colours.json")
        (tmp_path / "elsewhere").symlink_to(folder)
        assert listed(tmp_path / "elsewhere")["latest"].status == "available"


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "a\x7f"])
def test_a_name_that_would_confuse_a_log_or_header_is_invalid(folder: Path, name: str) -> None:
    save_colours(folder / f"{name}.pth")
    assert listed(folder)[name].status == "invalid"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such name")
def test_a_name_that_is_no_text_hides_no_other(folder: Path) -> None:
    (folder / os.fsdecode(b"bad\xff.pth")).write_bytes((folder / "colours.pth").read_bytes())
    found = listed(folder)
    assert {name: entry.status for name, entry in found.items()} == {
        r"bad\udcff": "invalid",
        "colours": "active",
    }


def test_a_name_in_another_script_is_served_and_said(folder: Path) -> None:
    save_colours(folder / "색깔.pth")
    with client_for(create_app(settings_for(folder, model="색깔"))) as client:
        response = client.post("/segment", content=GOOD)
        assert response.status_code == 200, response.text
        assert unquote(response.headers["x-model"]) == "색깔"
        assert client.get("/models").json()["active"] == "색깔"


class TestAllowed:
    def test_others_are_neither_parsed_nor_served(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save_colours(folder / "other.pth", metrics=None)
        (folder / "other.pth").write_bytes((folder / "other.pth").read_bytes() + b"\0")
        parsed: list[str] = []

        def inspect(path: Path, *, name: str) -> ListedCheckpoint:
            parsed.append(name)
            return ListedCheckpoint(name, path, None, "x", 0)

        monkeypatch.setattr("service.catalog.inspect_checkpoint", inspect)
        found = listed(folder, allowed_sha256=[sha256(folder / "colours.pth")])
        assert found["other"].status == "invalid"
        assert "is not one of the 1 allowed" in (found["other"].reason or "")
        assert found["other"].bytes == (folder / "other.pth").stat().st_size
        assert parsed == ["colours"]

    def test_the_service_does_not_start_with_another(self, folder: Path) -> None:
        with pytest.raises(StartupError, match=r"--model colours: .*not one of the 1 allowed"):
            create_app(settings_for(folder, allowed_sha256=["0" * 64]))

    def test_what_counts_is_what_was_loaded(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file is replaced between the first look and the reading."""
        trust = Trust(folder, ["0" * 64])
        monkeypatch.setattr(trust, "require", lambda path: None)
        with pytest.raises(StartupError, match="not one of the 1 allowed"):
            load_active(folder, "colours", trust)

    def test_hashes_may_stand_in_a_file(self, folder: Path, tmp_path: Path) -> None:
        hashes = tmp_path / "SHA256SUMS"
        digest = sha256(folder / "colours.pth")
        hashes.write_text(f"# ours\n\n{digest.upper()}  colours.pth\n{'0' * 64} *x.pth\n")
        trust = Trust(folder, [str(hashes)])
        trust.require(folder / "colours.pth")
        assert load_active(folder, "colours", trust).manifest.name == "colours"

    def test_an_empty_file_allows_nothing(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "none").write_text("# none\n")
        with pytest.raises(CheckpointError, match="not one of the 0 allowed"):
            Trust(folder, [str(tmp_path / "none")]).require(folder / "colours.pth")

    @pytest.mark.parametrize(
        ("given", "content"),
        [("no-such-file", None), ("0" * 63, None), ("list", b"abc\n"), ("list", b"\xff\xff")],
    )
    def test_what_is_no_hash_stops_the_start(
        self, folder: Path, tmp_path: Path, given: str, content: bytes | None
    ) -> None:
        if content is not None:
            (tmp_path / given).write_bytes(content)
        with pytest.raises(StartupError, match="--allowed-sha256"):
            Trust(folder, [str(tmp_path / given)])


def test_a_served_manifest_names_no_folder_of_the_machine_it_was_trained_on(folder: Path) -> None:
    beside = folder / "colours.json"
    content = json.loads(beside.read_text())
    record = {
        "epoch": 1,
        "step": 1,
        "seed": 1,
        "dataset_fingerprint": "x",
        "command": "python -m trainer fit --data /home/me/VOC --out /home/me/runs/one",
        "versions": {},
        "started": "x",
        "saved": "x",
        "images_seen": 1,
        "resumed_by": "fit --out '/home/me/my runs/one'",
    }
    beside.write_text(json.dumps({**content, "training": record}))
    save = folder / "other.pth"
    save.write_bytes((folder / "colours.pth").read_bytes())
    save.with_suffix(".json").write_text(beside.read_text())
    with client_for(create_app(settings_for(folder))) as client:
        for name in ("colours", "other"):
            answer = client.get(f"/models/{name}").text
            assert "/home/me" not in answer
            assert "--data VOC" in answer


def test_a_name_is_looked_up_and_never_made_a_path(folder: Path, outside: Path) -> None:
    assert set(find_checkpoints(folder)) == {"colours"}
    for name in ("../outside/secret", str(outside.with_suffix("")), "..", "./colours"):
        with pytest.raises(StartupError, match="not in"):
            load_active(folder, name)
