"""A few hundred cases of `make fuzz`, and that it would notice."""

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.fuzz.amplification import AMPLIFICATIONS
from tests.fuzz.asking import asking
from tests.fuzz.case import make_case
from tests.fuzz.forgery import FORGERIES
from tests.fuzz.record import Record
from tests.fuzz.seeds import Seed, make_seeds
from tests.fuzz.verdict import MAX_CPU_S, MAX_MEMORY_BYTES, Outcome, judge
from tests.fuzz.worker import Plan, outcomes_of
from tests.service.colours import encoded, plain

CASES = 300


@pytest.fixture(scope="module")
def seeds() -> list[Seed]:
    return make_seeds()


@pytest.mark.filterwarnings("ignore")  # Pillow's, about what the files say
def test_damaged_photographs_are_segmented_or_refused(tmp_path: Path, seeds: list[Seed]) -> None:
    record = Record()

    async def ask() -> None:
        async with asking(tmp_path) as asker:
            for number in range(CASES):
                record.add(await asker.outcome(make_case(1, number, seeds)))

    asyncio.run(asyncio.wait_for(ask(), 120))
    assert record.failures == []
    assert record.cases == CASES
    assert record.answers[400, "Not an image"] > CASES / 10
    assert record.answers[200, "JSON"] + record.answers[200, "PNG"] > CASES / 10


def test_a_case_is_the_same_whenever_it_is_made(seeds: list[Seed]) -> None:
    again = make_seeds()
    different = [
        number for number, seed in enumerate(seeds) if seed.content != again[number].content
    ]
    assert different == []
    hashes = [hash(make_case(3, number, seeds)) for number in range(1, 60)]
    assert hashes == [hash(make_case(3, number, again)) for number in range(1, 60)]
    assert len(set(hashes)) > 50
    assert hashes[0] != hash(make_case(4, 1, seeds))


def test_every_format_is_forged(seeds: list[Seed]) -> None:
    assert {seed.format for seed in seeds} == set(FORGERIES)
    steps = Counter(step for number in range(400) for step in make_case(0, number, seeds).steps)
    forgeries = [*FORGERIES.values(), *AMPLIFICATIONS.values()]
    assert {forge.__name__ for forge in forgeries} <= set(steps)


MASK = encoded(plain(1, 4, 4), "PNG")


@pytest.mark.parametrize(
    ("status", "headers", "content", "named"),
    [
        (500, {"content-type": "application/problem+json"}, b"{}", "status 500"),
        (200, {"content-type": "image/png"}, b"no mask", "UnidentifiedImageError"),
        (200, {"content-type": "image/png"}, MASK, "in mode RGB"),
        (200, {"content-type": "application/json"}, b"{}", "KeyError"),
        (400, {"content-type": "application/json"}, b'{"status": 400}', "application/json"),
        (400, {"content-type": "text/plain"}, b"Traceback", "JSONDecodeError"),
    ],
)
def test_a_wrong_answer_is_a_failure(
    status: int, headers: dict[str, str], content: bytes, named: str
) -> None:
    outcome = judge(7, httpx.Response(status, headers=headers, content=content), 0.0, None)
    assert named in (outcome.failure or "")


@pytest.mark.parametrize(
    ("cpu_s", "memory", "named"),
    [(MAX_CPU_S + 1, 0, "s of CPU"), (0, MAX_MEMORY_BYTES + 1, "MiB"), (0, None, None)],
)
def test_a_late_or_large_one_is_too(cpu_s: float, memory: int | None, named: str | None) -> None:
    problem = {"title": "Not an image", "status": 400, "detail": "no", "request_id": "a"}
    response = httpx.Response(
        400,
        headers={"content-type": "application/problem+json", "x-request-id": "a"},
        json=problem,
    )
    failure = judge(7, response, cpu_s, memory).failure
    assert failure is None if named is None else named in (failure or "")


def test_a_process_that_ends_early_fails_its_case_and_the_next_is_gone_on_with() -> None:
    failures = [outcome.failure for outcome in outcomes_of(Plan(0, None, [5, 6]), print)]
    assert failures == ["the process ended with 0"] * 2


def test_failures_are_counted() -> None:
    record = Record()
    record.add(Outcome(1, 200, "PNG", 0.5, 10, None))
    record.add(Outcome(2, 500, "Internal error", 0.1, 20, "status 500"))
    assert [failure.number for failure in record.failures] == [2]
    assert record.lines()[0] == "2 cases, 1 failures"
    assert "case 1" in record.lines()[1]
    assert "case 2" in record.lines()[2]
