"""Names in any script: which installed fonts have the letters, and what to do where none has."""

import logging
from contextlib import suppress
from functools import cache
from pathlib import Path

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

logger = logging.getLogger(__name__)

FIRST_FONT = "DejaVu Sans"  # comes with matplotlib
FALLBACK_FONTS = (  # for letters beyond Latin, Greek and Cyrillic
    "Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans KR", "Noto Sans JP",
    "Noto Sans SC", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo",
    "Hiragino Sans", "Hiragino Kaku Gothic ProN", "PingFang SC", "Yu Gothic", "Microsoft YaHei",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "IPAexGothic", "Arial Unicode MS",
)  # fmt: skip


def class_label(class_id: int, name: str) -> str:
    """The name; behind its id where it will be drawn with empty boxes in place of letters."""
    if _wanted(name) <= frozenset().union(*map(_letters, _files())):
        return name
    _advise()
    return f"{class_id} {name}"


def draw_as_written(figure: Figure) -> None:
    """Gives every text the fonts that have its letters, and takes no dollars for a formula."""
    for text in figure.findobj(Text):
        text.set_fontfamily(list(_families()))
        text.set_parse_math(False)


def font_file(text: str) -> Path:
    """The first font that has all letters of a text; the first of all where none has."""
    wanted = _wanted(text)
    return next((file for file in _files() if wanted <= _letters(file)), _files()[0])


def _wanted(text: str) -> set[int]:
    return {ord(letter) for letter in text if not letter.isspace()}


def _files() -> list[Path]:
    return [Path(font_manager.findfont(family)) for family in _families()]


@cache
def _letters(file: Path) -> frozenset[int]:
    return frozenset(font_manager.get_font(file).get_charmap())


@cache
def _families() -> tuple[str, ...]:
    installed = set(font_manager.get_font_names())
    if installed.isdisjoint(FALLBACK_FONTS):
        _look_for_new_fonts()
        installed = set(font_manager.get_font_names())
    return (FIRST_FONT, *(name for name in FALLBACK_FONTS if name in installed))


def _look_for_new_fonts() -> None:
    """matplotlib keeps its list of fonts on disk and does not notice what was installed since."""
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - known):
        with suppress(OSError, RuntimeError, ValueError):  # one that matplotlib cannot draw with
            font_manager.fontManager.addfont(path)


@cache
def _advise() -> None:
    """Once."""
    logger.warning(
        "no installed font has the letters of every class name, so that pictures name some by id; "
        "install one, for Chinese, Japanese and Korean Noto Sans CJK (Debian: fonts-noto-cjk)"
    )
