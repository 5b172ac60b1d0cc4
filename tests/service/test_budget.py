"""The budget of pixels that may be in memory at a time."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from service.budget import Hold, PixelBudget
from tests.service.clients import finished


async def settle() -> None:
    """Lets every task go on until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


class Holder:
    """A task that holds pixels until it is told to let go."""

    def __init__(self, budget: PixelBudget, count: int) -> None:
        self.inside = False
        self.let_go = asyncio.Event()
        self.task = asyncio.create_task(self._hold(budget, count))

    async def _hold(self, budget: PixelBudget, count: int) -> None:
        with budget.hold() as hold:
            await hold.take(count)
            self.inside = True
            await self.let_go.wait()
        self.inside = False


def test_what_does_not_fit_waits_until_enough_is_free() -> None:
    async def check() -> None:
        budget = PixelBudget(100)
        small, large = Holder(budget, 30), Holder(budget, 100)
        await settle()
        assert (small.inside, large.inside) == (True, False)
        small.let_go.set()
        await settle()
        assert large.inside
        large.let_go.set()
        await large.task

    finished(check())


def test_what_fits_together_is_held_together() -> None:
    async def check() -> None:
        budget = PixelBudget(100)
        halves = [Holder(budget, 50) for _ in range(3)]
        await settle()
        assert [half.inside for half in halves] == [True, True, False]
        for half in halves:
            half.let_go.set()
        await asyncio.gather(*(half.task for half in halves))

    finished(check())


def test_small_images_do_not_overtake_a_large_one() -> None:
    async def check() -> None:
        budget = PixelBudget(100)
        first, large, small = Holder(budget, 30), Holder(budget, 100), Holder(budget, 30)
        await settle()
        assert (first.inside, large.inside, small.inside) == (True, False, False)
        first.let_go.set()
        await settle()
        assert (large.inside, small.inside) == (True, False)
        large.let_go.set()
        small.let_go.set()
        await small.task

    finished(check())


def hold_and_fail(hold: Hold) -> None:
    assert hold.take_now(100)
    raise ValueError("broken image")


def test_a_failure_gives_its_pixels_back() -> None:
    async def check() -> None:
        budget = PixelBudget(100)
        with pytest.raises(ValueError, match="broken image"), budget.hold() as hold:
            hold_and_fail(hold)
        assert budget.hold().take_now(100)

    finished(check())


def test_who_gives_up_waiting_takes_nothing_and_blocks_nobody() -> None:
    async def check() -> None:
        budget = PixelBudget(100)
        first, gone, last = Holder(budget, 60), Holder(budget, 100), Holder(budget, 40)
        await settle()
        gone.task.cancel()
        await settle()
        assert (gone.inside, last.inside) == (False, True)
        first.let_go.set()
        last.let_go.set()
        await last.task
        assert budget.hold().take_now(100)

    finished(check())


def test_neither_photographs_nor_small_images_wait_for_large_ones() -> None:
    async def check() -> None:
        budget = PixelBudget(1600)
        large = [Holder(budget, 1600), Holder(budget, 1600)]
        photographs = [Holder(budget, 400) for _ in range(3)]
        small = [Holder(budget, 100) for _ in range(5)]
        await settle()
        assert [holder.inside for holder in large] == [True, False]
        assert [holder.inside for holder in photographs] == [True, True, False]
        assert [holder.inside for holder in small] == [*[True] * 4, False]
        assert (budget.held, budget.limit, budget.waiting) == (2800, 2800, 3)
        everyone = large + photographs + small
        for holder in everyone:
            holder.let_go.set()
        await asyncio.gather(*(holder.task for holder in everyone))
        assert budget.held == 0

    finished(check())


def test_only_who_waits_is_aside() -> None:
    async def check() -> None:
        budget, aside = PixelBudget(100), []

        @contextmanager
        def noted() -> Iterator[None]:
            aside.append("begun")
            yield
            aside.append("over")

        async def hold(let_go: asyncio.Event) -> None:
            with budget.hold() as holding:
                await holding.take(100, aside=noted)
                await let_go.wait()

        let_go = asyncio.Event()
        first = asyncio.create_task(hold(let_go))
        await settle()
        assert aside == []
        second = asyncio.create_task(hold(let_go))
        await settle()
        assert aside == ["begun"]
        let_go.set()
        await asyncio.gather(first, second)
        assert aside == ["begun", "over"]

    finished(check())


def test_threads_take_what_is_free_and_no_more() -> None:
    async def check() -> None:
        budget = PixelBudget(4000)
        holds = [budget.hold() for _ in range(64)]
        with ThreadPoolExecutor(16) as threads:
            taken = list(threads.map(lambda hold: hold.take_now(250), holds))
        assert taken.count(True) == 4  # of a quarter of the largest, in the share of the small
        assert budget.held == 1000
        for hold in holds:
            hold.give_back()
        assert budget.held == 0

    finished(check())


def test_no_thread_overtakes_who_waits() -> None:
    async def check() -> None:
        budget = PixelBudget(100)
        first, waiting = Holder(budget, 60), Holder(budget, 100)
        await settle()
        with ThreadPoolExecutor(1) as thread:
            assert not thread.submit(budget.hold().take_now, 40).result()
        for holder in (first, waiting):
            holder.let_go.set()
        await asyncio.gather(first.task, waiting.task)

    finished(check())


def test_what_a_thread_gives_back_goes_to_who_waits() -> None:
    async def check() -> None:
        budget = PixelBudget(100)
        taken = budget.hold()
        assert taken.take_now(60)
        waiting = Holder(budget, 100)
        await settle()
        assert not waiting.inside
        # from a thread that does not wake the loop by its own end
        threading.Thread(target=taken.give_back).start()
        waiting.let_go.set()
        await asyncio.wait_for(waiting.task, 20)
        assert budget.held == 0

    finished(check())
