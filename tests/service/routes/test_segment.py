"""POST /segment and POST /segment/batch: right answers, and every way to be refused."""

import asyncio
import base64
import gc
import io
import re
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from models import build, list_architectures
from service import segmenter, upload
from service.app import create_app
from service.engines.torch_engine import TorchEngine
from tests.service.clients import (
    GOOD,
    Client,
    assert_problem,
    assert_still_serves,
    async_client_for,
    client_for,
    finished,
    settings_for,
)
from tests.service.colours import (
    CLASSES,
    PAINT,
    decoded,
    encoded,
    expected_answer,
    picture_of,
    plain,
    save_colours,
)
from tests.service.images import (
    grey_16_bit,
    png_claiming,
    png_with_chunk,
    red_in_mode,
    several_frames,
    turned_jpeg,
    upright_picture,
)
from tests.service.server import Server

TURNED_NAMES = ["red", "blue"]


def classes_of(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [entry["name"] for entry in response.json()["classes"]]


def mask_of(answer: dict[str, Any]) -> bytes:
    assert answer["mask"]["media_type"] == "image/png"
    return base64.b64decode(answer["mask"]["data"], validate=True)


def part(name: str, content: bytes, *, filename: str | None = "a.png") -> bytes:
    """One part of a multipart body with the boundary `edge`."""
    named = "" if filename is None else f'; filename="{filename}"'
    head = f'--edge\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def post_form(client: Client, body: bytes, *, path: str = "/segment") -> httpx.Response:
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    return client.post(path, content=body, headers=headers)


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


def noise(format: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return encoded(pixels, format)


BAD_IMAGES = [
    pytest.param(noise("JPEG")[:3000], id="truncated JPEG"),
    pytest.param(noise("PNG")[:3000], id="truncated PNG"),
    pytest.param(noise("PNG").replace(b"IDAT", b"IDAX"), id="broken PNG"),
    pytest.param(b"\xff\xd8\xff\xe0" + bytes(500), id="broken JPEG"),
    pytest.param(noise("WEBP")[:2000], id="truncated WebP"),
    pytest.param(noise("TIFF")[:2000], id="truncated TIFF"),
    pytest.param(b"", id="empty"),
    pytest.param(b"a letter, not an image", id="text"),
    pytest.param(encoded(plain(1, 16, 16), "ICO"), id="ICO"),
    pytest.param(encoded(plain(1, 16, 16), "PPM"), id="PPM"),
]

LARGE = GOOD + bytes(100_001 - len(GOOD))  # one byte over the limit; decoders stop at IEND


class TestRefusals:
    @pytest.mark.parametrize("content", BAD_IMAGES)
    @pytest.mark.parametrize("form", [False, True], ids=["raw", "form"])
    def test_what_is_no_good_image_is_refused(
        self, client: Client, content: bytes, form: bool
    ) -> None:
        if form:
            response = client.post("/segment", files={"file": ("photo", content)})
        else:
            response = client.post("/segment", content=content)
        assert_problem(response, 400)
        assert_still_serves(client)

    @pytest.mark.parametrize("exif", [b"zz", b"II*\x00"])
    def test_broken_metadata_never_is_the_service_s_fault(
        self, client: Client, exif: bytes
    ) -> None:
        content = png_with_chunk(b"eXIf", exif)
        assert client.post("/segment", content=content).status_code in (200, 400)

    @pytest.mark.parametrize(
        ("body", "named"),
        [
            (part("file", b"red, please", filename=None), "text"),
            (part("image", GOOD), "'image'"),
            (part("image", GOOD) + part("photo", GOOD), "'image', 'photo'"),
            (part("file", GOOD) * 2, "/segment/batch"),
            (part("file", GOOD) * 3, "/segment/batch"),
            (b"", "no field"),
        ],
        ids=["text", "wrong name", "wrong names", "two files", "three files", "no field"],
    )
    def test_a_form_without_exactly_one_file_is_refused(
        self, client: Client, body: bytes, named: str
    ) -> None:
        response = post_form(client, body + b"--edge--\r\n")
        assert_problem(response, 422, "'file'", named)
        assert_still_serves(client)

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("multipart/form-data", part("file", GOOD)),
            ("multipart/form-data; boundary=", part("file", GOOD)),
            ("multipart/form-data; boundary=edge", b"garbage"),
            ("multipart/form-data; boundary=edge", b"\x00\xff" * 500),
            ("multipart/form-data; boundary=other", part("file", GOOD) + b"--edge--\r\n"),
            ("multipart/form-data; boundary=edge", b"--edge\r\nnonsense\r\n\r\nx\r\n--edge--\r\n"),
            (
                "multipart/form-data; boundary=edge",
                b"--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n--edge--\r\n",
            ),
            ("multipart/form-data; boundary=edge; charset=undefined", part("file", GOOD)),
            ("multipart/form-data; boundary=" + "e" * 5000, part("file", GOOD)),
        ],
        ids=[
            "no boundary",
            "empty boundary",
            "garbage",
            "binary garbage",
            "other boundary",
            "no header",
            "no name",
            "strange charset",
            "long boundary",
        ],
    )
    def test_a_malformed_form_is_refused(
        self, client: Client, content_type: str, body: bytes
    ) -> None:
        headers = {"Content-Type": content_type}
        response = client.post("/segment", content=body, headers=headers)
        assert_problem(response, 400)
        assert_still_serves(client)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_a_form_that_was_cut_off_is_refused(self, client: Client) -> None:
        response = post_form(client, part("file", GOOD)[:-20])
        assert response.status_code in (400, 422)
        assert_problem(response, response.status_code)
        gc.collect()  # Starlette leaves the unfinished part's file open, and that warns
        assert_still_serves(client)

    @pytest.mark.parametrize(
        "content_type", ["text/plain", "application/json", "video/mp4", "multipart/mixed", "x"]
    )
    def test_a_type_that_holds_no_image_is_refused_by_name(
        self, client: Client, content_type: str
    ) -> None:
        headers = {"Content-Type": content_type}
        response = client.post("/segment", content=GOOD, headers=headers)
        assert_problem(response, 415, repr(content_type), "multipart/form-data", "image/*")

    def test_several_accept_headers_count_as_one(self, client: Client) -> None:
        headers = [("Accept", "text/html"), ("Accept", "image/png")]
        response = client.post("/segment", content=GOOD, headers=headers)
        assert response.headers["content-type"] == "image/png"

    def test_an_accept_that_leaves_nothing_is_refused_by_name(self, client: Client) -> None:
        response = client.post("/segment", content=GOOD, headers={"Accept": "text/html"})
        assert_problem(response, 406, "'text/html'", "application/json, image/png")

    def test_an_unknown_model_is_refused_by_name(self, client: Client) -> None:
        for path in ("/segment", "/segment/batch"):
            response = client.post(f"{path}?model=nobody", content=GOOD)
            assert_problem(response, 404, "'nobody'", "'colours'")

    def test_an_unknown_output_is_refused_with_the_choices(self, client: Client) -> None:
        response = client.post("/segment?output=gif", content=GOOD)
        assert_problem(response, 422, "output", "json", "png")

    def test_the_limit_in_bytes_is_exact(self, client: Client) -> None:
        assert classes_of(client.post("/segment", content=LARGE[:-1])) == ["red"]
        assert classes_of(client.post("/segment", files={"file": LARGE[:-1]})) == ["red"]
        assert_problem(client.post("/segment", content=LARGE), 413, "100001", "100000")
        assert_problem(client.post("/segment", files={"file": LARGE}), 413, "100001", "100000")
        assert_still_serves(client)

    @pytest.mark.parametrize("size", [200_000, 3_000_000])
    def test_a_body_far_over_the_limit_is_refused(self, client: Client, size: int) -> None:
        assert_problem(client.post("/segment", content=GOOD + bytes(size)), 413, "limit")
        assert_problem(client.post("/segment", files={"file": GOOD + bytes(size)}), 413, "limit")
        assert_still_serves(client)

    def test_a_body_sent_in_chunks_over_the_limit_is_refused(self, server: Server) -> None:
        def chunks() -> Iterator[bytes]:
            yield GOOD
            for _ in range(30):
                yield bytes(10_000)

        response = httpx.post(f"{server.url}/segment", content=chunks(), timeout=30)
        assert_problem(response, 413, "limit")

    @pytest.mark.usefixtures("bounded_memory")
    def test_too_many_pixels_are_refused_before_decoding(self, client: Client) -> None:
        response = client.post("/segment", content=png_claiming(60_000, 60_000))
        assert_problem(response, 413, "60000x60000 = 3600000000", "1000000")
        assert_still_serves(client)

    def test_a_good_png_over_the_limit_in_pixels_is_refused(self, client: Client) -> None:
        response = client.post("/segment", content=encoded(plain(1, 1001, 1000)))
        assert_problem(response, 413, "1001x1000 = 1001000", "1000000")
        assert classes_of(client.post("/segment", content=encoded(plain(1, 1000, 1000)))) == ["red"]

    @pytest.mark.usefixtures("bounded_memory")
    def test_a_size_of_32_bits_is_refused(self, client: Client) -> None:
        header = struct.pack("<IIiHHIIiiII", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0)
        bitmap = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header
        assert client.post("/segment", content=bitmap).status_code in (400, 413)
        assert client.post("/segment", content=png_claiming(2**31 - 1, 2**31 - 1)).status_code in (
            400,
            413,
        )


Run = Callable[..., Tensor]


class Spy:
    """Notes the size of every pass; can hold the device and let marked images fail."""

    def __init__(self, original: Run) -> None:
        self.original = original
        self.sizes: list[int] = []
        self.busy = threading.Event()
        self.free = threading.Event()
        self.free.set()
        self.failing_paint: list[int] = []

    def run(self, engine: TorchEngine, pixels: Tensor, *, alone: bool) -> Tensor:
        self.sizes.append(len(pixels))
        self.busy.set()
        assert self.free.wait(30)
        if any(unit[:, 0, 0].tolist() == self.failing_paint for unit in pixels):
            raise RuntimeError("the device stumbled")
        return self.original(engine, pixels, alone=alone)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """On the device of every app made from now on; there is no warm-up."""
    found = Spy(TorchEngine.run)

    def run(engine: TorchEngine, pixels: Tensor, *, alone: bool) -> Tensor:
        return found.run(engine, pixels, alone=alone)

    monkeypatch.setattr(TorchEngine, "run", run)
    monkeypatch.setattr(TorchEngine, "warm_up", lambda engine, count: None)
    return found


async def post(client: httpx.AsyncClient, content: bytes) -> httpx.Response:
    return await client.post("/segment", files={"file": ("p", content)})


def untimed(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    del answer["timing_ms"]
    for entry in answer["classes"]:
        entry["mean_confidence"] = round(entry["mean_confidence"], 5)
    return answer


class TestLoad:
    def test_64_uploads_at_once_are_answered_as_each_alone(self, folder: Path, spy: Spy) -> None:
        random = np.random.default_rng(7)
        pictures = [
            picture_of(int(random.integers(1, 150)), int(random.integers(1, 150)), seed=seed)
            for seed in range(64)
        ]
        contents = [encoded(picture) for picture in pictures]

        async def load() -> tuple[list[httpx.Response], list[httpx.Response]]:
            async with async_client_for(create_app(settings_for(folder))) as client:
                together = await asyncio.gather(*(post(client, content) for content in contents))
                spied = list(spy.sizes)
                alone = [await post(client, content) for content in contents]
                assert max(spied) > 1
                assert spy.sizes[len(spied) :] == [1] * 64
                return list(together), alone

        together, alone = finished(load())
        for shared, single, picture in zip(together, alone, pictures, strict=True):
            assert untimed(shared) == untimed(single)
            assert expected_answer(picture).agrees(decoded(mask_of(shared.json())))

    def test_the_queue_that_builds_up_is_the_next_batch(self, folder: Path, spy: Spy) -> None:
        async def load() -> None:
            settings = settings_for(folder, batch_pixels=5 * 32 * 32)
            async with async_client_for(create_app(settings)) as client:
                spy.free.clear()
                first = asyncio.create_task(post(client, GOOD))
                await asyncio.to_thread(spy.busy.wait, 30)
                others = [asyncio.create_task(post(client, GOOD)) for _ in range(11)]
                await asyncio.sleep(0.5)
                spy.free.set()
                assert [r.status_code for r in await asyncio.gather(first, *others)] == [200] * 12

        finished(load())
        assert spy.sizes == [1, 5, 5, 1]

    def test_one_failing_image_does_not_fail_the_others(self, folder: Path, spy: Spy) -> None:
        spy.failing_paint = PAINT[3].tolist()
        sent = [(2, 20), (3, 77), (2, 30), (2, 40)]  # class and width

        async def load() -> list[httpx.Response]:
            async with async_client_for(create_app(settings_for(folder))) as client:
                spy.free.clear()
                first = asyncio.create_task(post(client, GOOD))
                await asyncio.to_thread(spy.busy.wait, 30)
                posts = [
                    asyncio.create_task(post(client, encoded(plain(paint, width, 9))))
                    for paint, width in sent
                ]
                await asyncio.sleep(0.5)
                spy.free.set()
                await first
                return list(await asyncio.gather(*posts))

        answers = finished(load())
        assert spy.sizes[:2] == [1, 4]
        assert [answer.status_code for answer in answers] == [200, 500, 200, 200]
        assert_problem(answers[1], 500)
        assert "stumbled" not in answers[1].text
        assert [a.json()["width"] for a in answers if a.status_code == 200] == [20, 30, 40]

    def test_a_full_queue_is_refused_with_a_time_to_come_back(self, folder: Path, spy: Spy) -> None:
        async def load() -> None:
            settings = settings_for(folder, max_queue=2)
            async with async_client_for(create_app(settings)) as client:
                spy.free.clear()
                first = asyncio.create_task(post(client, GOOD))
                await asyncio.to_thread(spy.busy.wait, 30)
                waiting = [asyncio.create_task(post(client, GOOD)) for _ in range(2)]
                await asyncio.sleep(0.5)
                refused = await post(client, GOOD)
                assert_problem(refused, 503, "2 images are waiting")
                assert int(refused.headers["retry-after"]) >= 1
                assert (await client.get("/healthz")).status_code == 200
                spy.free.set()
                assert [r.status_code for r in await asyncio.gather(first, *waiting)] == [200] * 3
                assert (await post(client, GOOD)).status_code == 200

        finished(load())

    def test_work_of_a_request_that_was_cancelled_is_dropped(self, folder: Path, spy: Spy) -> None:
        async def load() -> None:
            async with async_client_for(create_app(settings_for(folder))) as client:
                spy.free.clear()
                first = asyncio.create_task(post(client, GOOD))
                await asyncio.to_thread(spy.busy.wait, 30)
                gone = asyncio.create_task(post(client, GOOD))
                stays = asyncio.create_task(post(client, GOOD))
                await asyncio.sleep(0.5)
                gone.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await gone
                spy.free.set()
                await asyncio.gather(first, stays)

        finished(load())
        assert spy.sizes == [1, 1]


def batch(client: Client, *contents: bytes) -> httpx.Response:
    files = [("file", (f"{index}.png", content)) for index, content in enumerate(contents)]
    return client.post("/segment/batch", files=files)


class TestBatch:
    def test_several_images_are_answered_in_order(self, client: Client) -> None:
        contents = [encoded(plain(index, 10 + index, 8)) for index in (3, 1, 2, 0)]
        response = batch(client, *contents)
        assert response.status_code == 200
        results = response.json()["results"]
        assert [item["filename"] for item in results] == ["0.png", "1.png", "2.png", "3.png"]
        assert [item["status"] for item in results] == [200] * 4
        assert [item["error"] for item in results] == [None] * 4
        names = [item["result"]["classes"][0]["name"] for item in results]
        assert names == ["blue", "red", "green", "dark"]
        assert [item["result"]["width"] for item in results] == [13, 11, 12, 10]
        assert response.headers["x-model"] == "colours"
        assert response.headers["x-model-digest"].startswith("sha256:")

    def test_an_unforeseen_failure_costs_one_image_its_answer(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decode = upload.decode

        def failing(sent: upload.Upload, **limits: int) -> torch.Tensor:
            if sent.name == "1.png":
                raise MemoryError
            return decode(sent, **limits)

        monkeypatch.setattr(segmenter, "decode", failing)
        results = batch(client, GOOD, GOOD, GOOD).json()["results"]
        assert [item["status"] for item in results] == [200, 500, 200]
        assert results[1]["error"]["request_id"]

    def test_each_result_is_what_the_image_gets_alone(self, client: Client) -> None:
        contents = [encoded(picture_of(40, 30, seed=1)), encoded(picture_of(90, 20, seed=2))]
        results = batch(client, *contents).json()["results"]
        for content, item in zip(contents, results, strict=True):
            alone = client.post("/segment", content=content)
            assert mask_of(item["result"]) == mask_of(alone.json())

    @pytest.mark.usefixtures("bounded_memory")
    @pytest.mark.parametrize("place", [0, 1, 2])
    @pytest.mark.parametrize(
        ("bad", "status"),
        [
            (b"no image", 400),
            (b"", 400),
            (noise("PNG")[:3000], 400),
            (LARGE, 413),
            (png_claiming(6_000, 6_000), 413),
        ],
        ids=["no image", "empty", "truncated", "too many bytes", "too many pixels"],
    )
    def test_a_bad_image_gets_its_own_error_in_its_place(
        self, client: Client, bad: bytes, status: int, place: int
    ) -> None:
        contents = [GOOD, GOOD]
        contents.insert(place, bad)
        response = batch(client, *contents)
        assert response.status_code == 200, response.text
        results = response.json()["results"]
        assert [item["status"] for item in results] == [
            status if index == place else 200 for index in range(3)
        ]
        error = results[place]["error"]
        assert results[place]["result"] is None
        assert (error["status"], error["type"]) == (status, "about:blank")
        assert error["title"]
        assert error["detail"]
        assert_still_serves(client)

    def test_an_image_that_the_network_fails_on_gets_its_own_error(
        self, folder: Path, spy: Spy
    ) -> None:
        spy.failing_paint = PAINT[3].tolist()
        with client_for(create_app(settings_for(folder))) as client:
            results = batch(client, GOOD, encoded(plain(3, 77, 9)), GOOD).json()["results"]
        assert [item["status"] for item in results] == [200, 500, 200]
        assert "stumbled" not in str(results)

    @pytest.mark.parametrize("count", [5, 6, 40])
    def test_too_many_images_are_refused_with_the_limit(self, client: Client, count: int) -> None:
        assert batch(client, *[GOOD] * 4).status_code == 200
        assert_problem(batch(client, *[GOOD] * count), 413, "limit of 4 images")
        assert_still_serves(client)

    def test_too_many_bytes_are_refused_with_the_limit(self, client: Client) -> None:
        assert_problem(batch(client, *[LARGE[:-1]] * 3), 413, "300000")
        assert_still_serves(client)

    def test_a_body_that_is_no_form_is_refused(self, client: Client) -> None:
        for content_type in ("image/png", "application/json"):
            response = client.post(
                "/segment/batch", content=GOOD, headers={"Content-Type": content_type}
            )
            assert_problem(response, 415, "multipart/form-data", "'file'")

    @pytest.mark.parametrize(
        ("body", "named"),
        [
            (part("image", GOOD), "'image'"),
            (part("file", GOOD) + part("file", b"text", filename=None), "text"),
            (b"", "no field"),
        ],
    )
    def test_a_form_without_files_is_refused(self, client: Client, body: bytes, named: str) -> None:
        response = post_form(client, body + b"--edge--\r\n", path="/segment/batch")
        assert_problem(response, 422, "'file'", named)

    def test_a_malformed_form_is_refused(self, client: Client) -> None:
        assert_problem(post_form(client, b"garbage", path="/segment/batch"), 400)

    def test_the_images_of_one_request_share_a_pass(self, folder: Path, spy: Spy) -> None:
        async def load() -> None:
            async with async_client_for(create_app(settings_for(folder))) as client:
                spy.free.clear()
                first = asyncio.create_task(post(client, GOOD))
                await asyncio.to_thread(spy.busy.wait, 30)
                files = [("file", ("p", GOOD))] * 6
                sent = asyncio.create_task(client.post("/segment/batch", files=files))
                await asyncio.sleep(0.5)
                spy.free.set()
                await first
                assert len((await sent).json()["results"]) == 6

        finished(load())
        assert spy.sizes == [1, 6]


def test_other_checkpoints_in_the_folder_do_not_answer(folder: Path) -> None:
    save_colours(folder / "other.pth")
    with client_for(create_app(settings_for(folder))) as client:
        response = client.post("/segment?model=other", content=GOOD)
        assert_problem(response, 404, "'other' is not loaded")
