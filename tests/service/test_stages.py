"""Where an image's time went."""

import pytest

from service.stages import STAGES, Stages


def test_a_stage_in_two_parts_is_counted_once_and_shown_twice() -> None:
    stages = Stages()
    stages.add("decode", 1.0, 1.25)
    stages.add("queue", 1.25, 1.5)
    stages.add("decode", 1.5, 2.0)
    assert stages.seconds() == {"decode": 0.75, "queue": 0.25}
    assert [part.stage for part in stages.parts] == ["decode", "queue", "decode"]


def test_tiles_are_one_part_from_the_first_to_the_last() -> None:
    stages = Stages()
    stages.extend("device", 1.0, 2.0)
    stages.add("queue", 0.0, 1.0)
    stages.extend("device", 4.0, 5.0)
    stages.extend("device", 3.0, 3.5)
    device = stages.parts[0]
    assert (device.began, device.ended, device.busy_s) == (1.0, 5.0, 2.5)
    assert len(stages.parts) == 2


def test_what_failed_took_time_too() -> None:
    stages = Stages()
    with pytest.raises(ValueError, match="bad"), stages.timed("decode"):
        raise ValueError("bad")
    assert list(stages.seconds()) == ["decode"]


def test_the_answer_names_every_stage_in_order_and_the_total() -> None:
    stages = Stages()
    stages.add("device", 1.0, 1.0125)
    timing = stages.timing_ms()
    assert list(timing) == [*STAGES, "total"]
    assert timing["device"] == pytest.approx(12.5)
    assert timing["encode"] == 0
