"""Counting: bounded, per app, and what is told of a model gone with it."""

import pytest

from service.schemas import ClassStatistics
from service.stages import Stages
from service.telemetry.metrics import MAX_NAMES, Metrics
from tests.service.colours import CLASSES, colour_manifest
from tests.service.scrape import parsed, value


def seen(class_id: int, pixels: int, confidence: float) -> ClassStatistics:
    entry = CLASSES.classes[class_id]
    return ClassStatistics(
        id=class_id,
        name=entry.name,
        color=entry.color,
        pixels=pixels,
        fraction=0.5,
        mean_confidence=confidence,
    )


def text(metrics: Metrics) -> str:
    return metrics.text().decode()


def test_two_apps_in_a_process_count_for_themselves() -> None:
    first, second = Metrics(), Metrics()
    first.rejected("queue_full")
    assert value(parsed(text(first)), "rejections_total", reason="queue_full") == 1
    assert value(parsed(text(second)), "rejections_total", reason="queue_full") is None


def test_a_model_that_is_not_loaded_is_no_label() -> None:
    metrics = Metrics()
    for name in ("colours", "../../etc/passwd", None):
        metrics.answered("/segment", name, 200, 0.01)
    series = parsed(text(metrics))
    assert value(series, "requests_total", route="/segment", model="", status="200") == 3
    assert "passwd" not in text(metrics)


def test_durations_are_in_seconds_and_in_buckets() -> None:
    metrics = Metrics()
    metrics.answered("/segment", None, 200, 0.04)
    series = parsed(text(metrics))
    labels = {"route": "/segment", "status": "200"}
    assert value(series, "request_duration_seconds_sum", **labels) == pytest.approx(0.04)
    assert value(series, "request_duration_seconds_bucket", le="0.03", **labels) == 0
    assert value(series, "request_duration_seconds_bucket", le="0.05", **labels) == 1


def test_share_and_confidence_can_be_read_off_the_counters() -> None:
    metrics = Metrics()
    watched = metrics.watch(colour_manifest(name="colours"))
    watched.image_ended(Stages(), [seen(1, 300, 0.5), seen(2, 100, 1.0)])
    watched.image_ended(Stages(), [seen(1, 100, 0.9)])
    series = parsed(text(metrics))
    red = {"model": "colours", "class": "red"}
    assert value(series, "class_pixels_total", **red) == 400
    assert value(series, "class_confidence_total", **red) == pytest.approx(240)
    assert value(series, "class_pixels_total", model="colours", **{"class": "blue"}) == 0
    assert value(series, "images_total", model="colours") == 2


def test_an_image_that_failed_is_no_image_but_its_stages_are_counted() -> None:
    metrics, stages = Metrics(), Stages()
    watched = metrics.watch(colour_manifest(name="colours"))
    stages.add("decode", 1.0, 1.5)
    watched.image_ended(stages, [])
    series = parsed(text(metrics))
    decode = {"model": "colours", "stage": "decode"}
    assert value(series, "stage_duration_seconds_sum", **decode) == 0.5
    assert value(series, "images_total", model="colours") == 0


def test_passes_tell_units_pixels_and_failures() -> None:
    metrics = Metrics()
    watched = metrics.watch(colour_manifest(name="colours", height=32, width=48))
    watched.pass_ended(4, 0.25, False)
    watched.pass_ended(8, 9.0, True)
    series = parsed(text(metrics))
    assert value(series, "pass_units_sum", model="colours") == 4
    assert value(series, "pass_pixels_sum", model="colours") == 4 * 32 * 48
    assert value(series, "pass_duration_seconds_sum", model="colours") == 0.25
    assert value(series, "failed_passes_total", model="colours") == 1


def test_an_unloaded_model_leaves_what_it_answered_and_nothing_else() -> None:
    metrics = Metrics()
    watched = metrics.watch(colour_manifest(name="passing"))
    metrics.answered("/segment", "passing", 200, 0.01)
    watched.image_ended(Stages(), [seen(1, 300, 0.5)])
    assert "pass_units" in text(metrics)
    watched.close()
    metrics.answered("/segment", "passing", 200, 0.01)  # one that began before
    series = parsed(text(metrics))
    request = {"route": "/segment", "model": "passing", "status": "200"}
    assert value(series, "requests_total", **request) == 2
    assert value(series, "images_total", model="passing") == 1
    left = {name for name, labels in series if ("model", "passing") in labels}
    assert left == {"maskwright_requests_total", "maskwright_images_total"}


def test_the_sum_of_requests_is_what_was_answered_through_many_changes() -> None:
    metrics = Metrics()
    for name in ("a", "b") * 20:
        watched = metrics.watch(colour_manifest(name=name))
        metrics.answered("/segment", name, 200, 0.01)
        watched.image_ended(Stages(), [seen(1, 300, 0.5)])
        watched.close()
    series = parsed(text(metrics))
    for family in ("requests_total", "images_total", "request_duration_seconds_count"):
        counts = [v for (name, _), v in series.items() if name == f"maskwright_{family}"]
        assert sum(counts) == 40, family


def test_there_is_an_end_to_the_names_that_are_told_apart() -> None:
    metrics = Metrics()
    for number in range(2 * MAX_NAMES):
        watched = metrics.watch(colour_manifest(name=f"m{number}"))
        metrics.answered("/segment", f"m{number}", 200, 0.01)
        watched.close()
    series = parsed(text(metrics))
    counts = {labels: v for (name, labels), v in series.items() if name.endswith("requests_total")}
    assert len(counts) == MAX_NAMES + 1
    assert sum(counts.values()) == 2 * MAX_NAMES
    other = {"route": "/segment", "model": "other", "status": "200"}
    assert value(series, "requests_total", **other) == MAX_NAMES


def test_a_confidence_that_is_no_number_spoils_no_sum() -> None:
    metrics = Metrics()
    watched = metrics.watch(colour_manifest(name="colours"))
    watched.image_ended(Stages(), [seen(1, 300, float("nan"))])
    watched.image_ended(Stages(), [seen(1, 100, 0.5)])
    series = parsed(text(metrics))
    assert value(series, "class_confidence_total", model="colours", **{"class": "red"}) == 50


def test_a_model_that_took_the_place_of_its_namesake_goes_on_counting() -> None:
    metrics = Metrics()
    old = metrics.watch(colour_manifest(name="colours"))
    old.pass_ended(1, 0.1, False)
    new = metrics.watch(colour_manifest(name="colours"))
    old.close()
    old.close()
    new.pass_ended(1, 0.1, False)
    assert value(parsed(text(metrics)), "pass_units_count", model="colours") == 2


def test_no_series_tells_when_another_began() -> None:
    metrics = Metrics()
    metrics.rejected("queue_full")
    assert "_created" not in text(metrics)


def test_the_process_is_there() -> None:
    assert "process_resident_memory_bytes" in text(Metrics())
