"""GET /models and GET /models/{name}."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from models import build, save_checkpoint
from models.manifest import Metrics
from service.app import create_app
from tests.networks import manifest_for, small_network
from tests.service.clients import Client, assert_problem, client_for, settings_for
from tests.service.colours import save_colours
from tests.service.server import Server


def test_the_list_has_the_fields_of_the_contract(folder: Path) -> None:
    metrics = Metrics(
        dataset="abc",
        split="val",
        images=3,
        pixel_accuracy=0.9,
        mean_iou=0.5,
        per_class_iou={"dark": 0.5, "red": None},
    )
    saved = save_colours(folder / "colours.pth", metrics=metrics)
    network = small_network("unet", num_classes=7)
    save_checkpoint(folder / "a.pth", network.state_dict(), manifest_for(network, "unet"))
    (folder / "broken.pth").write_bytes(b"no checkpoint")
    with client_for(create_app(settings_for(folder))) as client:
        answer = client.get("/models").json()
    assert set(answer) == {"active", "models"}
    assert answer["active"] == "colours"
    statuses = {entry["name"]: entry["status"] for entry in answer["models"]}
    assert statuses == {"a": "available", "broken": "invalid", "colours": "active"}
    active = answer["models"][2]
    assert saved.weights is not None
    assert active == {
        "name": "colours",
        "architecture": "unet",
        "num_classes": 4,
        "status": "active",
        "metrics": json.loads(metrics.model_dump_json()),
        "sha256": saved.weights.sha256,
        "bytes": saved.weights.bytes,
        "reason": None,
        "engine": {
            "name": "torch float32",
            "device": "cpu",
            "reason": "as asked",
            "agreement": None,
            "refused": [],
        },
    }
    assert "broken.pth" in answer["models"][1]["reason"]
    assert str(folder) not in json.dumps(answer)


def test_a_checkpoint_added_while_serving_appears(folder: Path) -> None:
    with client_for(create_app(settings_for(folder))) as client:
        assert len(client.get("/models").json()["models"]) == 1
        save_colours(folder / "later.pth")
        names = [entry["name"] for entry in client.get("/models").json()["models"]]
        assert names == ["colours", "later"]
        assert client.get("/models/later").status_code == 200


@pytest.mark.parametrize("name", ["colours", "other"])
def test_a_manifest_is_the_file_beside_the_weights(folder: Path, name: str) -> None:
    network = small_network("unet_efficientnet_lite0")
    manifest = manifest_for(network, "unet_efficientnet_lite0")
    save_checkpoint(folder / "other.pth", network.state_dict(), manifest)
    with client_for(create_app(settings_for(folder))) as client:
        response = client.get(f"/models/{name}")
    assert response.status_code == 200
    assert response.json() == json.loads((folder / f"{name}.json").read_text())


def test_a_bare_state_dict_is_listed_with_the_hash_of_its_file(folder: Path) -> None:
    torch.save(build("unet", base_channels=4).state_dict(), folder / "bare.pth")
    with client_for(create_app(settings_for(folder))) as client:
        entry = client.get("/models").json()["models"][0]
    assert (entry["name"], entry["status"], entry["num_classes"]) == ("bare", "available", 22)
    assert entry["sha256"] == hashlib.sha256((folder / "bare.pth").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "path",
    [
        "/models/none",
        "/models/..",
        "/models/../healthz",
        "/models/%2e%2e",
        "/models/%2e%2e%2fcolours",
        "/models/..%5ccolours",
        "/models//etc/passwd",
        "/models/%2fetc%2fpasswd",
        "/models/colours.pth",
        "/models/colours.json",
        "/models/colours%00",
        "/models/.colours",
    ],
)
def test_a_name_that_is_not_listed_is_unknown(server: Server, path: str) -> None:
    assert_problem(server.raw_get(path), 404)


def test_an_unknown_name_is_repeated_and_the_list_named(client: Client) -> None:
    assert_problem(client.get("/models/nobody"), 404, "'nobody'", "/models")


def test_an_invalid_checkpoint_gives_its_reason(folder: Path) -> None:
    save_colours(folder / "spoilt.pth")
    (folder / "spoilt.pth").write_bytes(b"changed")
    with client_for(create_app(settings_for(folder))) as client:
        assert_problem(client.get("/models/spoilt"), 404, "'spoilt' is invalid", "sha256")
