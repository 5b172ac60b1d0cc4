"""POST /models/{name}/load, activate and unload: what is answered, and what is served then."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from models import save_checkpoint
from service.app import create_app
from service.engines.torch_engine import TorchEngine
from tests.networks import manifest_for, small_network
from tests.service.answers import classes_of
from tests.service.clients import (
    ADMIN_KEYS,
    AS_ADMIN,
    GOOD,
    SMALL_PASSES,
    Client,
    assert_problem,
    assert_still_serves,
    client_for,
    finished,
    settings_for,
)
from tests.service.colours import save_colours


@pytest.fixture
def pair(folder: Path) -> Path:
    """`colours`, and `other`, which says green where `colours` says red."""
    save_colours(folder / "other.pth", shift=1)
    return folder


@contextmanager
def administered(folder: Path, **changes: Any) -> Iterator[Client]:
    """A started app, asked by an administrator."""
    given = {"api_keys": ADMIN_KEYS, "batch_pixels": SMALL_PASSES, **changes}
    with client_for(create_app(settings_for(folder, **given)), headers=AS_ADMIN) as client:
        yield client


@pytest.fixture
def serving(pair: Path) -> Iterator[Client]:
    with administered(pair) as client:
        yield client


def statuses(client: Client) -> dict[str, str]:
    return {entry["name"]: entry["status"] for entry in client.get("/models").json()["models"]}


def reason_of(client: Client, name: str) -> str | None:
    entries = client.get("/models").json()["models"]
    found: str | None = next(entry["reason"] for entry in entries if entry["name"] == name)
    return found


def said(response: httpx.Response) -> tuple[str, list[str]]:
    """The model that answered, and the classes it saw."""
    assert response.json()["model"] == response.headers["x-model"]
    return response.headers["x-model"], classes_of(response)


class TestLoad:
    def test_a_loaded_model_answers_those_who_ask_for_it(self, serving: Client) -> None:
        answer = serving.post("/models/other/load")
        assert answer.status_code == 201
        entry = answer.json()
        assert (entry["name"], entry["status"]) == ("other", "loaded")
        assert entry["engine"]["name"] == "torch float32"
        assert statuses(serving) == {"colours": "active", "other": "loaded"}
        asked = serving.post("/segment?model=other", content=GOOD)
        assert said(asked) == ("other", ["green"])
        assert asked.headers["x-model-digest"] == f"sha256:{entry['sha256']}"
        assert said(serving.post("/segment", content=GOOD)) == ("colours", ["red"])
        batch = serving.post("/segment/batch?model=other", files={"file": GOOD})
        assert batch.headers["x-model"] == "other"
        assert batch.json()["results"][0]["result"]["model"] == "other"

    def test_again_it_changes_nothing(self, serving: Client) -> None:
        first = serving.post("/models/other/load").json()
        again = serving.post("/models/other/load")
        assert (again.status_code, again.json()) == (200, first)
        assert serving.post("/models/colours/load").status_code == 200
        assert statuses(serving) == {"colours": "active", "other": "loaded"}

    def test_no_more_than_the_limit(self, serving: Client, pair: Path) -> None:
        save_colours(pair / "third.pth", shift=2)
        assert serving.post("/models/other/load").status_code == 201
        refused = serving.post("/models/third/load")
        assert_problem(refused, 409, "--max-loaded-models 2", "unload")
        assert serving.post("/models/other/unload").status_code == 204
        assert serving.post("/models/third/load").status_code == 201

    def test_a_model_that_is_not_loaded_is_refused_with_those_that_are(
        self, serving: Client
    ) -> None:
        refused = serving.post("/segment?model=other", content=GOOD)
        assert_problem(refused, 404, "'other' is not loaded", "'colours' is")
        serving.post("/models/other/load")
        refused = serving.post("/segment?model=third", content=GOOD)
        assert_problem(refused, 404, "'third' is not loaded", "'colours', 'other' are")

    def test_a_file_that_changed_takes_its_own_place(self, serving: Client, pair: Path) -> None:
        """Loaded or active: retraining overwrites a checkpoint."""
        serving.post("/models/other/load")
        for name in ("other", "colours"):
            before = serving.post(f"/segment?model={name}", content=GOOD)
            save_colours(pair / f"{name}.pth", shift=2)
            assert serving.post(f"/models/{name}/load").status_code == 201
            after = serving.post(f"/segment?model={name}", content=GOOD)
            assert said(after) == (name, ["blue"])
            assert after.headers["x-model-digest"] != before.headers["x-model-digest"]
        assert statuses(serving) == {"colours": "active", "other": "loaded"}

    def test_a_file_that_was_only_touched_is_not_loaded_again(
        self, serving: Client, pair: Path
    ) -> None:
        for path in pair.iterdir():
            path.write_bytes(path.read_bytes())
        assert serving.post("/models/colours/load").status_code == 200


class TestActivate:
    def test_it_answers_from_then_on(self, serving: Client) -> None:
        answer = serving.post("/models/other/activate")
        assert (answer.status_code, answer.json()["status"]) == (200, "active")
        assert said(serving.post("/segment", content=GOOD)) == ("other", ["green"])
        assert serving.get("/readyz").json()["model"] == "other"
        assert serving.get("/models").json()["active"] == "other"
        assert statuses(serving) == {"colours": "loaded", "other": "active"}
        back = serving.post("/models/colours/activate")
        assert (back.status_code, back.json()["status"]) == (200, "active")
        assert_still_serves(serving)

    def test_what_answered_before_goes_where_there_is_room_for_one(self, pair: Path) -> None:
        with administered(pair, max_loaded_models=1) as client:
            assert client.post("/models/other/activate").status_code == 200
            assert statuses(client) == {"colours": "available", "other": "active"}
            assert_problem(client.post("/segment?model=colours", content=GOOD), 404)
            assert said(client.post("/segment", content=GOOD)) == ("other", ["green"])

    def test_what_was_loaded_beside_it_stays(self, serving: Client, pair: Path) -> None:
        save_colours(pair / "third.pth", shift=2)
        serving.post("/models/other/load")
        serving.post("/models/third/activate")
        assert statuses(serving) == {"colours": "available", "other": "loaded", "third": "active"}

    def test_a_file_that_changed_is_what_is_activated(self, serving: Client, pair: Path) -> None:
        serving.post("/models/other/load")
        save_colours(pair / "other.pth", shift=2)
        assert serving.post("/models/other/activate").status_code == 200
        assert said(serving.post("/segment", content=GOOD)) == ("other", ["blue"])

    def test_what_is_in_memory_needs_no_file(self, serving: Client, pair: Path) -> None:
        serving.post("/models/other/load")
        (pair / "other.pth").unlink()
        assert serving.post("/models/other/activate").status_code == 200
        assert said(serving.post("/segment", content=GOOD)) == ("other", ["green"])


class TestUnload:
    def test_it_answers_no_more(self, serving: Client) -> None:
        serving.post("/models/other/load")
        answer = serving.post("/models/other/unload")
        assert (answer.status_code, answer.content) == (204, b"")
        assert_problem(serving.post("/segment?model=other", content=GOOD), 404, "'other'")
        assert statuses(serving) == {"colours": "active", "other": "available"}
        assert serving.post("/models/other/unload").status_code == 204
        assert_still_serves(serving)

    def test_the_active_one_is_refused(self, serving: Client) -> None:
        refused = serving.post("/models/colours/unload")
        assert_problem(refused, 409, "'colours'", "active", "activate another")
        assert_still_serves(serving)


@pytest.mark.parametrize("action", ["load", "activate", "unload"])
@pytest.mark.parametrize("name", ["nobody", "%2e%2e%2fcolours", "colours.pth", ".colours"])
def test_only_names_that_are_listed_are_known(serving: Client, action: str, name: str) -> None:
    assert_problem(serving.post(f"/models/{name}/{action}"), 404)
    assert_still_serves(serving)


@pytest.mark.parametrize("action", ["load", "activate", "unload"])
def test_nothing_is_changed_before_it_is_ready(folder: Path, action: str) -> None:
    app = create_app(settings_for(folder, api_keys=ADMIN_KEYS))

    async def early() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(f"/models/colours/{action}", headers=AS_ADMIN)

    assert_problem(finished(early()), 503, "not ready")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def truncate_bare(path: Path) -> None:
    truncate(path)
    path.with_suffix(".json").unlink()


def wrong_hash(path: Path) -> None:
    beside = path.with_suffix(".json")
    manifest = json.loads(beside.read_text())
    manifest["weights"]["sha256"] = "0" * 64
    beside.write_text(json.dumps(manifest))


def one_channel(path: Path) -> None:
    network = small_network("unet", in_channels=1)
    save_checkpoint(path, network.state_dict(), manifest_for(network, "unet"))


class TestFailures:
    @pytest.mark.parametrize("action", ["load", "activate"])
    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (truncate, "sha256"),
            (truncate_bare, "cannot be read"),
            (wrong_hash, "sha256"),
            (one_channel, "1 channels"),
        ],
    )
    def test_a_bad_checkpoint_is_refused_with_the_reason(
        self,
        serving: Client,
        pair: Path,
        action: str,
        damage: Callable[[Path], None],
        reason: str,
    ) -> None:
        damage(pair / "other.pth")
        assert_problem(serving.post(f"/models/other/{action}"), 422, "'other'", reason)
        assert statuses(serving)["colours"] == "active"
        assert statuses(serving)["other"] in ("invalid", "available")
        assert reason in (reason_of(serving, "other") or "")
        assert_still_serves(serving)

    @pytest.mark.parametrize("action", ["load", "activate"])
    def test_a_bad_new_file_leaves_the_old_model_answering(
        self, serving: Client, pair: Path, action: str
    ) -> None:
        """And says why in the list, until a good one is loaded."""
        serving.post("/models/other/load")
        for name in ("colours", "other"):
            truncate(pair / f"{name}.pth")
            assert_problem(serving.post(f"/models/{name}/{action}"), 422, "sha256")
            assert "sha256" in (reason_of(serving, name) or "")
        assert statuses(serving) == {"colours": "active", "other": "loaded"}
        assert said(serving.post("/segment?model=other", content=GOOD)) == ("other", ["green"])
        assert_still_serves(serving)
        save_colours(pair / "other.pth", shift=2)
        assert serving.post("/models/other/load").status_code == 201
        assert reason_of(serving, "other") is None

    def test_no_engine_at_all(self, serving: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(engine: TorchEngine, *_: Any, **__: Any) -> None:
            raise RuntimeError("no such instruction")

        monkeypatch.setattr(TorchEngine, "__init__", refuse)
        refused = serving.post("/models/other/activate")
        assert_problem(refused, 422, "'other'", "torch float32: no such instruction")
        assert statuses(serving) == {"colours": "active", "other": "available"}
        assert_still_serves(serving)

    def test_an_engine_that_the_golden_images_refuse(
        self, pair: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next one is taken, as at the start; the list says so."""
        monkeypatch.setattr("service.engines.choose.agreement", lambda labels, reference: 0.5)
        with administered(pair, precision="bfloat16") as client:
            engine = client.post("/models/other/load").json()["engine"]
        assert engine["name"] == "torch float32"
        assert "torch bfloat16: agrees with float32 on 50.00%" in engine["refused"][0]

    @pytest.mark.parametrize(
        ("error", "status", "told"),
        [
            (torch.OutOfMemoryError("CUDA out of memory"), 503, "no memory"),
            (MemoryError(), 503, "no memory"),
            (RuntimeError("kernel of /secret/place"), 422, "log has the details"),
        ],
    )
    def test_an_engine_that_fails_while_it_is_warmed_up(
        self,
        serving: Client,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
        status: int,
        told: str,
    ) -> None:
        def fail(engine: TorchEngine, count: int) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(TorchEngine, "warm_up", fail)
            for action in ("load", "activate"):
                refused = serving.post(f"/models/other/{action}")
                assert_problem(refused, status, "'other'", told)
                assert "secret" not in refused.text
                assert ("retry-after" in refused.headers) == (status == 503)
        assert statuses(serving) == {"colours": "active", "other": "available"}
        assert told in (reason_of(serving, "other") or "")
        assert_still_serves(serving)
        assert serving.post("/models/other/load").status_code == 201
