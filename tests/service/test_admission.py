"""How many requests may be in the service."""

import pytest

from service.admission import CALM_S, Admission, busy_images
from service.batcher import Batcher
from service.errors import OverloadedError
from tests.service.test_batcher import Device


def test_a_place_is_taken_until_its_end_whatever_happens() -> None:
    admission = Admission(lambda: 2)
    with admission.place():
        with pytest.raises(ValueError, match="broken"), admission.place():
            raise ValueError("broken")
        assert admission.inside == 1
    assert admission.inside == 0


def test_who_comes_when_all_are_taken_is_refused_before_and_after_his_upload() -> None:
    admission = Admission(lambda: 2)
    with admission.visit(), admission.place(), admission.place():
        for entry in (admission.visit, admission.place):
            with pytest.raises(OverloadedError, match="2 requests") as refused, entry():
                pass
            assert refused.value.reason == "queue_full"
    with admission.visit(), admission.place():
        assert (admission.visitors, admission.inside) == (1, 1)


def test_uploads_on_their_way_take_no_place() -> None:
    admission = Admission(lambda: 1)
    with admission.visit(), admission.visit(), admission.visit():
        assert (admission.visitors, admission.inside) == (3, 0)
        with admission.place():
            pass
    assert admission.visitors == 0


def test_a_burst_has_more_places_until_someone_is_refused_and_again_when_it_is_calm() -> None:
    now = 100.0
    admission = Admission(lambda: 2, burst=4, clock=lambda: now)
    with admission.place(), admission.place(), admission.place():
        with admission.place(), pytest.raises(OverloadedError), admission.place():
            pass
        assert admission.limit == 2
        with pytest.raises(OverloadedError, match="3 requests"), admission.place():
            pass
    now += CALM_S / 2
    assert admission.limit == 2
    with admission.place(), admission.place(), pytest.raises(OverloadedError), admission.visit():
        pass
    now += CALM_S / 2
    assert admission.limit == 2, "the last refusal counts, not the first"
    now += CALM_S / 2
    assert admission.limit == 4


def test_a_burst_never_has_fewer_places_than_a_lasting_load() -> None:
    assert Admission(lambda: 9, burst=4).limit == 9


def test_who_waits_for_memory_leaves_his_place_to_others_and_takes_it_again() -> None:
    admission = Admission(lambda: 1)
    with admission.place():
        with admission.aside():
            assert (admission.inside, admission.waiting) == (0, 1)
            with (
                admission.place(),
                pytest.raises(OverloadedError, match="1 images are waiting"),
                admission.aside(),
            ):
                pass
        assert (admission.inside, admission.waiting) == (1, 0)
    assert (admission.inside, admission.waiting) == (0, 0)


@pytest.mark.parametrize(
    ("lanes", "capacity", "threads", "places"),
    [
        pytest.param(1, 1, 1, 4, id="a small machine"),
        pytest.param(2, 2, 4, 16, id="a CPU of four cores"),
        pytest.param(1, 64, 16, 160, id="a GPU"),
    ],
)
def test_the_places_follow_from_what_keeps_the_machine_busy(
    lanes: int, capacity: int, threads: int, places: int
) -> None:
    batcher = Batcher(Device(lanes=lanes))
    batcher.capacity = capacity
    assert busy_images(batcher, threads) == places
