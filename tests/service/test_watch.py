"""A retrained checkpoint is served without being asked for, if it can be."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from service.engines.torch_engine import TorchEngine
from service.watch import Looks
from tests.service.answers import classes_of
from tests.service.clients import GOOD, finished, serving
from tests.service.colours import colour_network, save_colours

EVERY_S = 0.02


async def seen(client: httpx.AsyncClient) -> list[str]:
    return classes_of(await client.post("/segment", content=GOOD))


async def reason(client: httpx.AsyncClient) -> str | None:
    (entry,) = (await client.get("/models")).json()["models"]
    found: str | None = entry["reason"]
    return found


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def test_a_new_file_is_served(folder: Path) -> None:
    async def watch() -> None:
        async with serving(folder, watch=EVERY_S) as client:
            before = await client.post("/segment", content=GOOD)
            assert classes_of(before) == ["red"]
            save_colours(folder / "colours.pth", shift=1)

            async def changed() -> bool:
                return await seen(client) == ["green"]

            await until(changed)
            after = await client.post("/segment", content=GOOD)
            assert after.headers["x-model-digest"] != before.headers["x-model-digest"]

    finished(watch())


def test_without_the_option_it_is_not(folder: Path) -> None:
    async def watch() -> None:
        async with serving(folder) as client:
            save_colours(folder / "colours.pth", shift=1)
            await asyncio.sleep(10 * EVERY_S)
            assert await seen(client) == ["red"]

    finished(watch())


def test_half_a_copy_is_not_served_and_the_whole_is(folder: Path, tmp_path: Path) -> None:
    """The weights first, their manifest a while later."""
    save_colours(tmp_path / "new" / "colours.pth", shift=2)

    async def watch() -> None:
        async with serving(folder, watch=EVERY_S) as client:
            shutil.copy(tmp_path / "new" / "colours.pth", folder)

            async def told() -> bool:
                return "sha256" in (await reason(client) or "")

            await until(told)
            assert await seen(client) == ["red"]
            shutil.copy(tmp_path / "new" / "colours.json", folder)

            async def changed() -> bool:
                return await seen(client) == ["blue"]

            await until(changed)
            assert await reason(client) is None

    finished(watch())


def test_a_file_that_is_put_back_is_in_order_again(folder: Path) -> None:
    path = folder / "colours.pth"

    async def watch() -> None:
        async with serving(folder, watch=EVERY_S) as client:
            content = path.read_bytes()
            path.write_bytes(content[:1000])

            async def told() -> bool:
                return "sha256" in (await reason(client) or "")

            async def in_order() -> bool:
                return await reason(client) is None

            await until(told)
            path.write_bytes(content)
            await until(in_order)
            assert await seen(client) == ["red"]

    finished(watch())


def test_what_fails_is_told_once_and_tried_again_with_the_next_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []

    def fail(engine: TorchEngine, count: int) -> None:
        tried.append(count)
        raise ValueError("no kernel for this")

    async def watch() -> None:
        async with serving(folder, watch=EVERY_S) as client:
            with monkeypatch.context() as patch:
                patch.setattr(TorchEngine, "warm_up", fail)
                save_colours(folder / "colours.pth", shift=1)

                async def told() -> bool:
                    return "cannot be loaded" in (await reason(client) or "")

                await until(told)
                await asyncio.sleep(10 * EVERY_S)
            assert len(tried) == 1
            assert await seen(client) == ["red"]
            save_colours(folder / "colours.pth", shift=2)

            async def changed() -> bool:
                return await seen(client) == ["blue"]

            await until(changed)

    finished(watch())
    told = [record for record in caplog.records if "all goes on as it was" in record.message]
    assert len(told) == 1


def test_what_there_was_no_memory_for_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    warm_up = TorchEngine.warm_up

    def fail(engine: TorchEngine, count: int) -> None:
        if len(tried) < 3:
            tried.append(count)
            raise MemoryError
        warm_up(engine, count)

    async def watch() -> None:
        async with serving(folder, watch=EVERY_S) as client:
            monkeypatch.setattr(TorchEngine, "warm_up", fail)
            save_colours(folder / "colours.pth", shift=1)

            async def changed() -> bool:
                return await seen(client) == ["green"]

            await until(changed)
            assert await reason(client) is None

    finished(watch())
    assert len(tried) == 3


def test_the_pause_between_tries_doubles_and_has_an_end() -> None:
    looks, pauses = Looks(), []
    for _ in range(9):
        looks.put_off()
        pauses.append(looks.left_out)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_every_loaded_model_is_looked_at(folder: Path) -> None:
    save_colours(folder / "other.pth", shift=1)

    async def watch() -> None:
        async with serving(folder, watch=EVERY_S) as client:
            await client.post("/models/other/load")
            save_colours(folder / "other.pth", shift=2)

            async def changed() -> bool:
                answer = await client.post("/segment?model=other", content=GOOD)
                return classes_of(answer) == ["blue"]

            await until(changed)
            assert await seen(client) == ["red"]

    finished(watch())


def test_a_file_that_is_gone_changes_nothing(folder: Path) -> None:
    async def watch() -> None:
        async with serving(folder, watch=EVERY_S) as client:
            (folder / "colours.pth").unlink()
            await asyncio.sleep(5 * EVERY_S)
            assert await seen(client) == ["red"]

    finished(watch())


def test_the_folder_failing_ends_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def watch() -> None:
        async with serving(folder, watch=EVERY_S) as client:
            with monkeypatch.context() as patch:

                def broken(*_: Any) -> None:
                    raise OSError("the disk is gone")

                patch.setattr("service.catalog.find_checkpoints", broken)
                await asyncio.sleep(5 * EVERY_S)
            save_colours(folder / "colours.pth", shift=1)

            async def changed() -> bool:
                return await seen(client) == ["green"]

            await until(changed)

    finished(watch())


def test_a_manifest_that_is_missing_between_two_copies_changes_nothing(
    folder: Path, tmp_path: Path
) -> None:
    """What would be guessed in its place is another size of input and other names of classes."""
    save_colours(tmp_path / "new" / "colours.pth", shift=1)

    async def watch() -> None:
        async with serving(folder, watch=EVERY_S) as client:
            before = (await client.get("/models/colours")).json()
            (folder / "colours.json").unlink()

            async def told() -> bool:
                return "manifest is missing" in (await reason(client) or "")

            await until(told)
            shutil.copy(tmp_path / "new" / "colours.pth", folder)
            await asyncio.sleep(5 * EVERY_S)
            assert (await client.get("/models/colours")).json() == before
            assert await seen(client) == ["red"]
            shutil.copy(tmp_path / "new" / "colours.json", folder)

            async def changed() -> bool:
                return await seen(client) == ["green"]

            await until(changed)
            assert await reason(client) is None

    finished(watch())


def test_without_a_manifest_it_is_served_to_who_asks_for_it(folder: Path) -> None:
    async def watch() -> None:
        async with serving(folder, watch=EVERY_S) as client:
            (folder / "colours.json").unlink()
            assert (await client.post("/models/colours/load")).status_code == 201
            assert (await client.get("/models/colours")).json()["input"]["height"] == 256

    finished(watch())


def test_a_bare_file_follows_a_bare_file(folder: Path) -> None:
    (folder / "colours.json").unlink()

    async def watch() -> None:
        async with serving(folder, watch=EVERY_S) as client:
            before = await client.post("/segment", content=GOOD)
            torch.save(colour_network(shift=1).state_dict(), folder / "next")
            (folder / "next").replace(folder / "colours.pth")

            async def changed() -> bool:
                after = await client.post("/segment", content=GOOD)
                return bool(after.headers["x-model-digest"] != before.headers["x-model-digest"])

            await until(changed)

    finished(watch())
