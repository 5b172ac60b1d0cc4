"""Folders of the server are cut off what is answered."""

from unittest.mock import Mock

import pytest
import torch

from models.manifest import Metrics, TrainingRecord, manifest_classes
from service.engines.choose import Choice
from service.entries import loaded_entry
from service.redaction import (
    manifest_without_folders,
    metrics_without_folders,
    record_without_folders,
    without_folders,
)
from tests.service.colours import CLASSES, colour_manifest


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/srv/models/best.pth: No such file", "best.pth: No such file"),
        ("[Errno 2] No such file: '/srv/my models/a b.pth'", "[Errno 2] No such file: 'a b.pth'"),
        ('cannot open "/home/me/x.xml", sorry', 'cannot open "x.xml", sorry'),
        ("fit --data /data/VOC --out=/runs/one/", "fit --data VOC --out="),
        ("in ~/runs/a.pth and ~/b", "in a.pth and b"),
        (r"C:\Users\me\a.pth: gone", "a.pth: gone"),
        (r"\\server\share\a.pth", "a.pth"),
        ("(/opt/venv/lib/x.so)", "(x.so)"),
        ("OSError:/tmp/x.bin", "OSError:x.bin"),
        ("file:///etc/x.bin gone", "x.bin gone"),
        (
            "width/height 3/4 and/or https://a.example/b",
            "width/height 3/4 and/or https://a.example/b",
        ),
        (
            "a.pth: sha256 is 12…, its manifest says 34…",
            "a.pth: sha256 is 12…, its manifest says 34…",
        ),
        ("fit --data data/VOC2012 --out runs/voc", "fit --data data/VOC2012 --out runs/voc"),
    ],
)
def test_the_last_part_of_a_path_is_left(text: str, left: str) -> None:
    assert without_folders(text) == left


@pytest.mark.parametrize("piece", ["'/", '"/a', "/", "/a ", "a/", "~/", "file://", chr(92) * 2])
def test_hostile_text_takes_no_time(piece: str) -> None:
    """Quadratic, this would be hours."""
    for redact in (without_folders, record_without_folders):
        assert len(redact(piece * 50_000)) <= len(piece) * 50_000


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("fit --data /srv/Secret Clients/Acme (2026)/scans --out x", "fit --data scans --out x"),
        ("fit --data '/srv/a b/c' -o /srv/d e/f", "fit --data 'c' -o f"),
        ("python /home/me/x.py fit --lr 1e-3", "python x.py fit --lr 1e-3"),
        (r"--data C:\Users\jane doe\scans --seed 0", "--data scans --seed 0"),
        ("VOC2012", "VOC2012"),
        ("https://a.example/b c/d and/or data/VOC", "https://a.example/b c/d and/or data/VOC"),
    ],
)
def test_in_a_record_a_path_may_have_blanks(text: str, left: str) -> None:
    assert record_without_folders(text) == left


def test_no_field_of_a_manifest_names_a_folder() -> None:
    secret = "/srv/Secret Clients/acme"
    metrics = Metrics(
        dataset=f"{secret}/voc",
        split=f"{secret}/val",
        images=1,
        pixel_accuracy=0.5,
        mean_iou=None,
        per_class_iou={"dark": 0.5},
    )
    record = TrainingRecord(
        epoch=1,
        step=1,
        seed=1,
        dataset_fingerprint=f"{secret}/print",
        command=f"fit --data {secret}/voc --out x",
        versions={"torch": "2.10.0+cpu", "host": f"{secret}/.venv"},
        started="2026-05-04T10:00:00+00:00",
        saved=f"{secret}/x",
        images_seen=1,
        resumed_by=f"fit --resume {secret}/run",
    )
    manifest = colour_manifest(metrics=metrics, training=record)
    told = manifest_without_folders(manifest)
    assert "Secret" not in told.model_dump_json()
    assert "acme" not in told.model_dump_json()
    assert told.metrics == metrics_without_folders(metrics)
    assert told.metrics is not None
    assert (told.metrics.dataset, told.metrics.per_class_iou) == ("voc", {"dark": 0.5})
    assert told.training is not None
    assert told.training.versions == {"torch": "2.10.0+cpu", "host": ".venv"}
    assert told.training.started == record.started
    assert told.classes == manifest_classes(CLASSES)


def test_a_class_may_be_called_as_it_likes() -> None:
    classes = manifest_classes(CLASSES)
    odd = classes[0].model_copy(update={"name": "/odd/one"})
    manifest = colour_manifest(classes=(odd, *classes[1:]))
    assert manifest_without_folders(manifest) == manifest


def test_what_an_engine_was_refused_for_names_no_folder_either() -> None:
    engine = Mock(device=torch.device("cpu"))
    engine.name = "torch float32"
    choice = Choice(engine, "found in /srv/x/y", None, ["int8: /srv/x/z.xml"])
    entry = loaded_entry(colour_manifest(), choice, active=True, failure=None)
    assert entry.engine is not None
    assert (entry.engine.reason, entry.engine.refused) == ("found in y", ["int8: z.xml"])
