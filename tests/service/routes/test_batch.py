"""POST /segment/batch: several images in one request."""

import asyncio
from pathlib import Path

import httpx
import pytest
import torch

from service import segmenter, upload
from service.app import create_app
from tests.service.answers import mask_of
from tests.service.clients import (
    GOOD,
    LARGE,
    Client,
    assert_problem,
    assert_still_serves,
    async_client_for,
    client_for,
    finished,
    post,
    settings_for,
)
from tests.service.colours import (
    PAINT,
    encoded,
    picture_of,
    plain,
)
from tests.service.forms import part, post_form
from tests.service.images import (
    noise,
    png_claiming,
)
from tests.service.spy import Spy


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

        def failing(sent: upload.Upload, header: upload.Header) -> torch.Tensor:
            if sent.name == "1.png":
                raise ZeroDivisionError
            return decode(sent, header)

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
                files = [("file", ("p", GOOD))] * 4
                sent = asyncio.create_task(client.post("/segment/batch", files=files))
                await asyncio.sleep(0.5)
                spy.free.set()
                await first
                assert len((await sent).json()["results"]) == 4

        finished(load())
        assert spy.sizes == [1, 4]
