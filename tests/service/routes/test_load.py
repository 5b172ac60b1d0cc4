"""POST /segment from many clients at once."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.app import create_app
from tests.service.answers import mask_of
from tests.service.clients import (
    GOOD,
    assert_problem,
    async_client_for,
    finished,
    post,
    settings_for,
)
from tests.service.colours import (
    PAINT,
    decoded,
    encoded,
    expected_answer,
    picture_of,
    plain,
)
from tests.service.spy import Spy


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
            settings = settings_for(folder, max_queue=64)
            async with async_client_for(create_app(settings)) as client:
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
        assert spy.sizes == [1, 4, 4, 2, 1]

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
            settings = settings_for(folder, max_queue=3)
            async with async_client_for(create_app(settings)) as client:
                spy.free.clear()
                first = asyncio.create_task(post(client, GOOD))
                await asyncio.to_thread(spy.busy.wait, 30)
                waiting = [asyncio.create_task(post(client, GOOD)) for _ in range(2)]
                await asyncio.sleep(0.5)
                refused = await post(client, GOOD)
                assert_problem(refused, 503, "3 requests are being answered")
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
