"""POST /segment: right answers to every kind of upload."""

import io
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from models import build, list_architectures
from service.app import create_app
from tests.service.answers import classes_of, mask_of
from tests.service.clients import (
    GOOD,
    Client,
    assert_problem,
    client_for,
    settings_for,
)
from tests.service.colours import (
    CLASSES,
    decoded,
    encoded,
    expected_answer,
    picture_of,
    save_colours,
)
from tests.service.forms import part, post_form
from tests.service.images import (
    grey_16_bit,
    red_in_mode,
    several_frames,
    turned_jpeg,
    upright_picture,
)

TURNED_NAMES = ["red", "blue"]


class TestAnswer:
    @pytest.mark.parametrize(
        ("width", "height"), [(32, 32), (120, 75), (33, 200), (7, 5), (300, 9), (1, 1), (1, 150)]
    )
    def test_labels_figures_and_mask_match_a_brute_force(
        self, client: Client, width: int, height: int
    ) -> None:
        picture = picture_of(width, height, seed=5)
        response = client.post("/segment", files={"file": ("p.png", encoded(picture))})
        assert response.status_code == 200
        answer = response.json()
        expected = expected_answer(picture)
        assert (answer["model"], answer["width"], answer["height"]) == ("colours", width, height)
        assert expected.clear.all()
        assert expected.agrees(decoded(mask_of(answer)))
        for entry in answer["classes"]:
            index = entry["id"]
            assert entry["name"] == CLASSES.names[index]
            assert tuple(entry["color"]) == CLASSES.classes[index].color
            assert entry["pixels"] == expected.pixels[index]
            assert entry["fraction"] == pytest.approx(expected.pixels[index] / (width * height))
            assert entry["mean_confidence"] == pytest.approx(expected.confidence[index], abs=1e-5)
        pixels = [entry["pixels"] for entry in answer["classes"]]
        assert pixels == sorted(pixels, reverse=True)
        assert all(pixels)
        assert sum(pixels) == width * height
        assert sum(entry["fraction"] for entry in answer["classes"]) == pytest.approx(1)

    def test_the_answer_has_the_fields_of_the_contract(self, client: Client) -> None:
        answer = client.post("/segment", content=GOOD).json()
        assert set(answer) == {"model", "width", "height", "classes", "mask", "timing_ms"}
        assert set(answer["classes"][0]) >= {
            *("id", "name", "color", "pixels", "fraction", "mean_confidence")
        }
        assert all(value >= 0 for value in answer["timing_ms"].values())

    def test_the_mask_alone_is_the_mask_in_the_json(self, client: Client) -> None:
        content = encoded(picture_of(61, 47))
        alone = client.post("/segment", content=content, headers={"Accept": "image/png"})
        assert alone.status_code == 200
        assert alone.headers["content-type"] == "image/png"
        assert alone.content == mask_of(client.post("/segment", content=content).json())
        with Image.open(io.BytesIO(alone.content)) as mask:
            assert mask.size == (61, 47)
            palette = mask.getpalette()
        assert palette is not None
        colors = [value for entry in CLASSES.classes for value in entry.color]
        assert palette[: len(colors)] == colors

    def test_the_query_chooses_the_representation_too(self, client: Client) -> None:
        png = client.post("/segment?output=png", content=GOOD)
        assert png.headers["content-type"] == "image/png"
        headers = {"Accept": "image/png"}
        json = client.post("/segment?output=json", content=GOOD, headers=headers)
        assert json.headers["content-type"] == "application/json"
        assert {png.headers["vary"], json.headers["vary"]} == {"Accept"}

    def test_what_answered_is_named_in_the_headers(
        self, client: Client, served_folder: Path
    ) -> None:
        for headers in ({}, {"Accept": "image/png"}):
            response = client.post("/segment", content=GOOD, headers=headers)
            assert response.headers["x-model"] == "colours"
            weights = client.get("/models/colours").json()["weights"]
            assert response.headers["x-model-digest"] == f"sha256:{weights['sha256']}"

    def test_the_stages_are_timed_in_the_header_as_in_the_body(self, client: Client) -> None:
        response = client.post("/segment", content=GOOD)
        header = response.headers["server-timing"]
        assert re.fullmatch(r"[a-z]+;dur=\d+\.\d+(, [a-z]+;dur=\d+\.\d+)*", header)
        stages = {name: float(ms) for name, ms in re.findall(r"([a-z]+);dur=([\d.]+)", header)}
        body = response.json()["timing_ms"]
        assert set(stages) == set(body) >= {"decode", "queue", "device", "encode", "total"}
        for name, value in stages.items():
            assert value == pytest.approx(body[name], abs=0.06)
        assert body["total"] >= body["decode"] + body["device"]

    def test_the_active_model_may_be_named(self, client: Client) -> None:
        assert client.post("/segment?model=colours", content=GOOD).status_code == 200


class TestUploads:
    @pytest.mark.parametrize(
        "content_type",
        [
            None,
            "image/png",
            "image/jpeg",
            "IMAGE/PNG; q=1",
            "application/octet-stream",
            "application/x-www-form-urlencoded",
        ],
    )
    def test_the_image_may_be_the_body(self, client: Client, content_type: str | None) -> None:
        headers = {} if content_type is None else {"Content-Type": content_type}
        assert classes_of(client.post("/segment", content=GOOD, headers=headers)) == ["red"]

    def test_other_fields_beside_the_file_are_ignored(self, client: Client) -> None:
        body = part("note", b"hello", filename=None) + part("file", GOOD) + b"--edge--\r\n"
        assert classes_of(post_form(client, body)) == ["red"]

    @pytest.mark.parametrize("filename", ["", "../../etc/passwd", "b\xc3\xa4r.png", "a" * 3000])
    def test_the_file_s_name_is_of_no_matter(self, client: Client, filename: str) -> None:
        body = part("file", GOOD, filename=filename) + b"--edge--\r\n"
        assert classes_of(post_form(client, body)) == ["red"]

    def test_a_photograph_taken_sideways_is_answered_upright(self, client: Client) -> None:
        response = client.post("/segment", content=turned_jpeg())
        assert classes_of(response) == TURNED_NAMES
        answer = response.json()
        assert (answer["width"], answer["height"]) == (30, 20)
        labels = decoded(mask_of(answer))
        expected = expected_answer(upright_picture()).labels
        assert (labels == expected).mean() > 0.98
        assert set(labels[:8].flat) == {1}
        assert set(labels[12:].flat) == {3}

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            pytest.param(red_in_mode("RGB", "JPEG"), ["red"], id="JPEG"),
            pytest.param(red_in_mode("CMYK", "JPEG"), ["red"], id="CMYK JPEG"),
            pytest.param(red_in_mode("L", "JPEG"), ["dark"], id="grey JPEG"),
            pytest.param(several_frames("MPO"), ["red"], id="multi-picture JPEG"),
            pytest.param(red_in_mode("RGBA", "PNG"), ["red"], id="RGBA"),
            pytest.param(red_in_mode("LA", "PNG"), ["dark"], id="LA"),
            pytest.param(red_in_mode("L", "PNG"), ["dark"], id="L"),
            pytest.param(red_in_mode("P", "PNG"), ["red"], id="P"),
            pytest.param(red_in_mode("1", "PNG"), ["dark"], id="1 bit"),
            pytest.param(grey_16_bit("PNG"), ["dark"], id="16-bit PNG"),
            pytest.param(grey_16_bit("TIFF"), ["dark"], id="16-bit TIFF"),
            pytest.param(red_in_mode("RGB", "TIFF"), ["red"], id="TIFF"),
            pytest.param(several_frames("TIFF"), ["red"], id="multi-page TIFF"),
            pytest.param(several_frames("GIF"), ["red"], id="animated GIF"),
            pytest.param(several_frames("WEBP"), ["red"], id="animated WebP"),
            pytest.param(red_in_mode("RGB", "WEBP"), ["red"], id="WebP"),
            pytest.param(red_in_mode("RGB", "BMP"), ["red"], id="BMP"),
        ],
    )
    def test_every_kind_of_image_is_answered(
        self, client: Client, content: bytes, expected: list[str]
    ) -> None:
        response = client.post("/segment", files={"file": ("photo", content)})
        assert classes_of(response) == expected
        answer = response.json()
        assert (answer["width"], answer["height"]) == (24, 16)
        assert decoded(mask_of(answer)).shape == (16, 24)

    @pytest.mark.parametrize("name", list_architectures())
    def test_a_plain_state_dict_is_served_by_its_name(self, tmp_path: Path, name: str) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = build(name, num_classes=5, base_channels=4)
        torch.save(network.state_dict(), tmp_path / "mine.pth")
        with client_for(create_app(settings_for(tmp_path, model="mine"))) as client:
            assert client.get("/models/mine").json()["architecture"] == name
            answer = client.post("/segment", content=encoded(picture_of(90, 70))).json()
        assert answer["model"] == "mine"
        assert sum(entry["pixels"] for entry in answer["classes"]) == 90 * 70
        assert all(entry["id"] < 5 for entry in answer["classes"])
        assert decoded(mask_of(answer)).max() < 5

    def test_a_bare_state_dict_has_its_digest_in_the_header(self, tmp_path: Path) -> None:
        torch.save(build("unet", num_classes=3, base_channels=4).state_dict(), tmp_path / "b.pth")
        with client_for(create_app(settings_for(tmp_path, model="b"))) as client:
            response = client.post("/segment", content=GOOD)
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", response.headers["x-model-digest"])


def test_other_checkpoints_in_the_folder_do_not_answer(folder: Path) -> None:
    save_colours(folder / "other.pth")
    with client_for(create_app(settings_for(folder))) as client:
        response = client.post("/segment?model=other", content=GOOD)
        assert_problem(response, 404, "'other' is not loaded")
