"""The budget of pixels that may be decoded at a time."""

import threading

import pytest

from service.segmenter import PixelBudget

WAIT_S = 10.0


def test_what_does_not_fit_waits_until_enough_is_free() -> None:
    budget = PixelBudget(100)
    entered = threading.Event()

    def large() -> None:
        with budget.hold(100):
            entered.set()

    with budget.hold(1):
        thread = threading.Thread(target=large, daemon=True)
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(WAIT_S)
    thread.join(WAIT_S)


def test_what_fits_together_is_decoded_together() -> None:
    budget = PixelBudget(100)
    both = threading.Barrier(2)

    def half() -> None:
        with budget.hold(50):
            both.wait(WAIT_S)  # breaks when the two are not inside at once

    thread = threading.Thread(target=half, daemon=True)
    thread.start()
    half()
    thread.join(WAIT_S)
    assert not both.broken


def test_a_failure_gives_its_pixels_back() -> None:
    budget = PixelBudget(100)

    def failing() -> None:
        with budget.hold(100):
            raise ValueError("broken image")

    with pytest.raises(ValueError, match="broken image"):
        failing()
    entered = threading.Event()

    def whole() -> None:
        with budget.hold(100):
            entered.set()

    threading.Thread(target=whole, daemon=True).start()
    assert entered.wait(WAIT_S)
