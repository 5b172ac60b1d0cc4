"""Where there is no memory for an image, that is said, and the next one is answered."""

from pathlib import Path
from typing import Any, Literal
from unittest.mock import Mock

import pytest

from service import segmenter
from service.app import create_app
from service.budget import Hold
from service.class_map import ClassMap
from service.tiles import TiledImage
from tests.service.clients import assert_problem, assert_still_serves, client_for, settings_for
from tests.service.colours import colour_manifest, encoded, plain, save_colours


@pytest.mark.parametrize(
    ("mode", "step", "what"),
    [
        ("resize", (segmenter, "decode"), "image"),
        ("resize", (ClassMap, "chosen"), "classes"),
        ("tile", (segmenter, "decode"), "image"),
        ("tile", (segmenter, "TiledImage"), "classes"),
        ("tile", (TiledImage, "cut"), "classes"),
        ("tile", (TiledImage, "exchange"), "classes"),
        ("tile", (TiledImage, "finish"), "classes"),
    ],
)
def test_at_whichever_step(
    mode: Literal["resize", "tile"],
    step: tuple[Any, str],
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = colour_manifest().input.model_copy(update={"mode": mode})
    save_colours(tmp_path / "colours.pth", input=spec)
    with client_for(create_app(settings_for(tmp_path))) as client:
        with monkeypatch.context() as patch:
            patch.setattr(*step, Mock(side_effect=MemoryError))
            refused = client.post("/segment", content=encoded(plain(1, 40, 25)))
            assert_problem(refused, 503, f"no memory for the {what}")
            assert refused.headers["retry-after"]
        assert_still_serves(client)


def test_after_it_had_waited_for_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take_now, answers = Hold.take_now, iter([False])

    def taken(hold: Hold, count: int) -> bool:
        return next(answers, True) and take_now(hold, count)

    with client_for(create_app(settings_for(folder))) as client:
        with monkeypatch.context() as patch:
            patch.setattr(Hold, "take_now", taken)
            patch.setattr(segmenter, "decode", Mock(side_effect=MemoryError))
            refused = client.post("/segment", content=encoded(plain(1, 40, 25)))
            assert_problem(refused, 503, "no memory for the image")
            assert next(answers, None) is None
        assert_still_serves(client)
