"""Photographs in rows, with a caption under each and the colours of the classes below."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from models.classes import VOC_BORDER_COLOR, ClassSet, Color
from trainer.data.dataset import VocFolder
from trainer.data.duplicates import Pair
from trainer.errors import DatasetError
from trainer.pictures.lettering import font_file
from trainer.pictures.samples import indexed_image

CELL = 256  # longest side of a photograph on a sheet
MARGIN = 12
CAPTION = 18
LETTER_SIZE = 12
COLUMNS = 4
OPACITY = 0.55  # of the mask over the photograph
MAX_LISTED_COLORS = 64

Captioned = tuple[Image.Image, str]


def draw_samples(folder: VocFolder, ids: list[str], *, count: int) -> Image.Image | None:
    """Up to `count` images from all over `ids` under their masks; None if none can be read."""
    chosen = np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)
    cells, present = [], set()
    for index in chosen:
        try:
            overlay, values = _overlay(folder, ids[index])
        except DatasetError:
            continue  # a problem that the audit lists
        cells.append((overlay, ids[index]))
        present |= values
    return _sheet(cells, COLUMNS, _legend(folder.class_set, present)) if cells else None


def draw_pairs(folder: VocFolder, pairs: list[Pair], *, count: int) -> Image.Image | None:
    """The first `count` pairs side by side, two a row; None if there are none."""
    cells: list[Captioned] = []
    for pair in pairs[:count]:
        names = (pair.first, f"{pair.second} (distance {pair.distance})")
        for image_id, caption in zip((pair.first, pair.second), names, strict=True):
            cells.append((_shrunk(_photograph(folder, image_id)), caption))
    return _sheet(cells, COLUMNS, []) if cells else None


def _photograph(folder: VocFolder, image_id: str) -> Image.Image:
    pixels = folder.read_image(image_id).permute(1, 2, 0).numpy()  # (H, W, 3)
    return Image.fromarray(np.ascontiguousarray(pixels))


def _shrunk(image: Image.Image, method: Image.Resampling = Image.Resampling.BOX) -> Image.Image:
    scale = CELL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, method)


def _overlay(folder: VocFolder, image_id: str) -> tuple[Image.Image, set[int]]:
    """The photograph under its mask, and the label values in it."""
    labels = folder.read_pair(image_id)[1]
    mask = indexed_image(labels, folder.class_set).convert("RGB")
    photograph = _shrunk(_photograph(folder, image_id))
    colors = _shrunk(mask, Image.Resampling.NEAREST)
    return Image.blend(photograph, colors, OPACITY), set(np.unique(labels.numpy()).tolist())


def _legend(class_set: ClassSet, present: set[int]) -> list[tuple[Color, str]]:
    entries = [(c.color, f"{c.id} {c.name}") for c in class_set.classes if c.id in present]
    if len(entries) > MAX_LISTED_COLORS:
        entries = entries[:MAX_LISTED_COLORS]
    if class_set.ignore_index in present:
        entries.append((VOC_BORDER_COLOR, f"{class_set.ignore_index} ignored"))
    return entries


def _sheet(cells: list[Captioned], columns: int, legend: list[tuple[Color, str]]) -> Image.Image:
    columns = min(columns, len(cells))
    width = MARGIN + columns * (CELL + MARGIN)
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(image.height for image, _ in row) + CAPTION + MARGIN for row in rows]
    places = _wrap([_font(text).getlength(text) for _, text in legend], width)
    below = (places[-1][1] + CAPTION + 2 * MARGIN) if places else 0
    sheet = Image.new("RGB", (width, MARGIN + sum(heights) + round(below)), "white")
    pen = ImageDraw.Draw(sheet)
    top = MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, (image, caption) in enumerate(row):
            left = MARGIN + column * (CELL + MARGIN)
            sheet.paste(image, (left, top))
            text, font = _fit(caption), _font(caption)
            pen.text((left, top + image.height + 2), text, "black", font)
        top += height
    for (x, y), (color, text) in zip(places, legend, strict=True):
        pen.rectangle((x, top + y, x + 14, top + y + 14), fill=color, outline="grey")
        pen.text((x + 20, top + y - 1), text, "black", _font(text))
    return sheet


def _wrap(lengths: Iterable[float], width: int) -> list[tuple[float, float]]:
    """(left, top) of each entry of the legend, from left to right, line by line."""
    places = []
    left, top = float(MARGIN), 0.0
    for length in lengths:
        if left + length + 20 > width - MARGIN and left > MARGIN:
            left, top = float(MARGIN), top + CAPTION + 2
        places.append((left, top))
        left += length + 20 + 2 * MARGIN
    return places


def _font(text: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_file(text), LETTER_SIZE)


def _fit(caption: str) -> str:
    """The start of a caption that is as wide as a cell."""
    text, font = caption, _font(caption)
    while font.getlength(text) > CELL and len(text) > 1:
        text = text[:-2] + "…"
    return text
