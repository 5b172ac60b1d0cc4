"""How much a pass holds: no more than helps, and no more than fits."""

import threading

import pytest
import torch
from torch import Tensor

from models.manifest import InputSpec
from service.engines.capacity import (
    MAX_SECONDS,
    PASSES,
    TURNS,
    find_capacity,
    pass_size,
    pass_sizes,
)

SPEC = InputSpec(height=8, width=8, mean=(0.5,) * 3, std=(0.5,) * 3, stride=8)


class Paced:
    """An engine whose passes last as told, by a clock of its own."""

    name = "paced"
    precision = "float32"
    device = torch.device("cpu")
    lanes = 1

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, fixed: float, each: float, memory: int = 10**6
    ) -> None:
        self.fixed, self.each, self.memory = fixed, each, memory
        self.now = 0.0
        self.warmed: list[int] = []
        self.forgotten: list[int] = []
        self.runs = 0
        self._turn = threading.Lock()
        monkeypatch.setattr("service.engines.capacity.time.perf_counter", lambda: self.now)

    def warm_up(self, count: int) -> None:
        if count > self.memory:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        self.warmed.append(count)

    def forget(self, count: int) -> None:
        self.forgotten.append(count)

    def run(self, pixels: Tensor, *, alone: bool) -> Tensor:
        with self._turn:
            self.runs += 1
            self.now += self.fixed + self.each * len(pixels)
        return torch.zeros(len(pixels), 2, 8, 8)

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("device", "fixed", "each", "expected"),
    [
        pytest.param("cpu", 0.0, 0.01, 1, id="twice as many take twice as long"),
        pytest.param("cpu", 0.01, 0.0001, 256, id="a pass costs more than its images"),
        pytest.param("cpu", 0.01, 0.01, 4, id="a little of both"),
        pytest.param("cuda", 0.01, 0.01, 16, id="a little of both, on a GPU"),
    ],
)
def test_grows_while_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, device: str, fixed: float, each: float, expected: int
) -> None:
    engine = Paced(monkeypatch, fixed=fixed, each=each)
    engine.device = torch.device(device)
    assert find_capacity(engine, SPEC, max_pixels=256 * 64) == expected
    assert set(engine.warmed) - set(engine.forgotten) == set(pass_sizes(expected))


def test_stops_at_the_pixels_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Paced(monkeypatch, fixed=1e-3, each=0.0)
    assert find_capacity(engine, SPEC, max_pixels=10 * 64) == 8
    assert max(engine.warmed) == 8


def test_stops_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Paced(monkeypatch, fixed=1e-3, each=0.0, memory=5)
    assert find_capacity(engine, SPEC, max_pixels=10**6) == 4
    assert engine.forgotten == [8]  # what a failed attempt left is given back


def test_a_slow_device_is_not_made_to_work_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Paced(monkeypatch, fixed=1.0, each=0.1)
    assert find_capacity(engine, SPEC, max_pixels=10**6) == 1
    assert engine.warmed == [1]
    assert engine.runs == PASSES


def test_a_fast_device_is_asked_several_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some passes may have been held up by others on the machine."""
    engine = Paced(monkeypatch, fixed=0.0, each=0.01)
    assert find_capacity(engine, SPEC, max_pixels=64) == 1
    assert engine.runs == TURNS * PASSES


def test_a_machine_that_gets_faster_meanwhile_does_not_speak_for_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twice as many are held against as many as before at the same time."""
    engine = Paced(monkeypatch, fixed=0.0, each=0.02)
    run = engine.run

    def run_sooner(pixels: Tensor, *, alone: bool) -> Tensor:
        if engine.runs == TURNS * PASSES:
            engine.each = 0.01
        return run(pixels, alone=alone)

    monkeypatch.setattr(engine, "run", run_sooner)
    assert find_capacity(engine, SPEC, max_pixels=10**6) == 1


def test_what_is_loaded_for_another_size_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes of another size come with weights of their own: fewer images would pay more for it."""
    engine = Paced(monkeypatch, fixed=0.0, each=0.01)
    run, sizes = engine.run, engine.warmed  # of all passes so far

    def run_loaded(pixels: Tensor, *, alone: bool) -> Tensor:
        if len(pixels) != sizes[-1]:
            engine.now += 0.05
        sizes.append(len(pixels))
        return run(pixels, alone=alone)

    monkeypatch.setattr(engine, "run", run_loaded)
    assert find_capacity(engine, SPEC, max_pixels=10**6) == 1
    assert 2 in sizes


def test_a_turn_that_others_held_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Paced(monkeypatch, fixed=0.0, each=0.01)
    run, alone_so_far = engine.run, 0

    def run_held_up(pixels: Tensor, *, alone: bool) -> Tensor:
        nonlocal alone_so_far
        if len(pixels) == 1 and engine.runs > TURNS * PASSES:
            alone_so_far += 1
            engine.now += 0.03 if alone_so_far > 2 * PASSES else 0.0  # after the first turn
        return run(pixels, alone=alone)

    monkeypatch.setattr(engine, "run", run_held_up)
    assert find_capacity(engine, SPEC, max_pixels=10**6) == 1
    assert alone_so_far > 2 * PASSES


def test_every_lane_is_busy_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Paced(monkeypatch, fixed=0.01, each=0.01)
    engine.lanes = 3
    together, run = threading.Barrier(3), engine.run

    def run_together(pixels: Tensor, *, alone: bool) -> Tensor:
        together.wait(30)
        return run(pixels, alone=alone)

    monkeypatch.setattr(engine, "run", run_together)
    assert find_capacity(engine, SPEC, max_pixels=10**6) > 1


def test_a_pass_ends_soon_though_every_lane_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here they wait for each other."""
    engine = Paced(monkeypatch, fixed=0.09, each=0.0)
    engine.lanes = 3
    assert engine.lanes * 0.09 * 2 < MAX_SECONDS
    assert find_capacity(engine, SPEC, max_pixels=2 * 64) == 2
    slow = Paced(monkeypatch, fixed=0.19, each=0.0)
    slow.lanes = 3
    assert slow.lanes * 0.19 * 2 > MAX_SECONDS
    assert find_capacity(slow, SPEC, max_pixels=2 * 64) == 1


def test_an_engine_that_fails_on_one_image_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Paced(monkeypatch, fixed=1e-3, each=0.0)

    def fail(count: int) -> None:
        raise RuntimeError("illegal instruction")

    monkeypatch.setattr(engine, "warm_up", fail)
    with pytest.raises(RuntimeError, match="illegal"):
        find_capacity(engine, SPEC, max_pixels=10**6)


def test_passes_that_fail_whatever_the_reason_are_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of fewer images do not, and every runtime has its own words for too little memory."""
    engine = Paced(monkeypatch, fixed=1e-3, each=0.0)
    run = engine.run

    def fail(pixels: Tensor, *, alone: bool) -> Tensor:
        if len(pixels) == 4:
            raise RuntimeError("could not create a primitive")
        return run(pixels, alone=alone)

    monkeypatch.setattr(engine, "run", fail)
    assert find_capacity(engine, SPEC, max_pixels=10**6) == 2
    assert engine.forgotten == [4]
    assert "of 4 images failed: could not create a primitive" in caplog.text


@pytest.mark.parametrize("capacity", range(1, 70))
def test_every_pass_is_of_a_prepared_size(capacity: int) -> None:
    prepared = pass_sizes(capacity)
    assert {pass_size(count) for count in range(1, capacity + 1)} == set(prepared)
    assert prepared[0] == 1
    assert prepared[-1] <= capacity
