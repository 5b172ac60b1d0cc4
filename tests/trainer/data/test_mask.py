"""Reading label masks."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models.classes import VOC_BORDER_COLOR, ClassSet, SegmentationClass, voc_classes, voc_color
from tests.trainer.datasets import THREE_CLASSES, Bytes
from trainer.data.mask import Reading, decode_mask, read_mask
from trainer.errors import DatasetError

IDS = np.array([[0, 1, 2, 255], [2, 2, 1, 0], [255, 0, 0, 1]], dtype=np.uint8)


def with_palette(values: Bytes, palette: bytes) -> Image.Image:
    image = Image.fromarray(values)
    image.putpalette(palette)
    return image


def in_class_colors(ids: Bytes) -> Image.Image:
    return with_palette(ids, THREE_CLASSES.palette())


def in_another_order(ids: Bytes) -> Image.Image:
    """Index 7 is drawn in class 0's colour, 5 in class 1's, 1 in class 2's, 0 in the border's."""
    stored = {0: 7, 1: 5, 2: 1, 255: 0}
    palette = bytearray(768)
    for class_id, index in stored.items():
        color = voc_border_or_class_color(class_id)
        palette[3 * index : 3 * index + 3] = bytes(color)
    return with_palette(np.vectorize(stored.__getitem__)(ids).astype(np.uint8), bytes(palette))


def voc_border_or_class_color(class_id: int) -> tuple[int, int, int]:
    return VOC_BORDER_COLOR if class_id == 255 else THREE_CLASSES.classes[class_id].color


def in_foreign_colors(ids: Bytes) -> Image.Image:
    palette = bytes(value for index in range(256) for value in (index, 100, 255 - index))
    return with_palette(ids, palette)


ENCODINGS: dict[str, Callable[[Bytes], Image.Image]] = {
    "palette in class colours": in_class_colors,
    "palette in another order, read by colour": in_another_order,
    "palette of foreign colours, read by index": in_foreign_colors,
    "8-bit index": Image.fromarray,
    "16-bit index": lambda ids: Image.fromarray(ids.astype(np.uint16)),
    "RGB colours": lambda ids: in_class_colors(ids).convert("RGB"),
    "RGBA colours": lambda ids: in_class_colors(ids).convert("RGBA"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_the_same_ids(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    ENCODINGS[encoding](IDS).save(path)
    labels = read_mask(path, THREE_CLASSES)
    assert labels.dtype == torch.uint8
    assert labels.tolist() == IDS.tolist()


def test_the_16_bit_mask_of_these_tests_is_one(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    ENCODINGS["16-bit index"](IDS).save(path)
    with Image.open(path) as image:
        assert image.mode.startswith("I")


def test_a_one_bit_mask_holds_classes_0_and_1(tmp_path: Path) -> None:
    bits: NDArray[np.bool_] = np.array([[True, False, True], [False, False, True]])
    path = tmp_path / "m.png"
    Image.fromarray(bits).save(path)
    with Image.open(path) as image:
        assert image.mode == "1"
    assert read_mask(path, THREE_CLASSES).tolist() == [[1, 0, 1], [0, 0, 1]]


def test_a_palette_of_four_entries_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    with_palette(IDS % 3, THREE_CLASSES.palette()[:12]).save(path)
    assert read_mask(path, THREE_CLASSES).tolist() == (IDS % 3).tolist()


BORDER_IDS = np.array([[0, 255, 15], [255, 255, 0]], dtype=np.uint8)
VOC_ENCODINGS: dict[str, Callable[[Bytes], Image.Image]] = {
    "palette": lambda ids: with_palette(ids, voc_classes().palette()),
    "index": Image.fromarray,
    "RGB": lambda ids: with_palette(ids, voc_classes().palette()).convert("RGB"),
}


@pytest.mark.parametrize("encoding", VOC_ENCODINGS)
def test_vocs_border_becomes_the_border_class(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    VOC_ENCODINGS[encoding](BORDER_IDS).save(path)
    labels = read_mask(path, voc_classes(border="class"), border_id=21)
    assert labels.tolist() == [[0, 21, 15], [21, 21, 0]]


@pytest.mark.parametrize("encoding", VOC_ENCODINGS)
def test_vocs_border_stays_ignored(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    VOC_ENCODINGS[encoding](BORDER_IDS).save(path)
    assert read_mask(path, voc_classes(border="ignore")).tolist() == BORDER_IDS.tolist()


def test_a_class_of_the_border_colour_wins_over_ignoring_it(tmp_path: Path) -> None:
    class_set = ClassSet(
        (SegmentationClass(0, "a", (9, 9, 9)), SegmentationClass(1, "b", VOC_BORDER_COLOR))
    )
    path = tmp_path / "m.png"
    Image.new("RGB", (2, 1), VOC_BORDER_COLOR).save(path)
    assert read_mask(path, class_set).tolist() == [[1, 1]]


def test_another_ignore_value_is_kept(tmp_path: Path) -> None:
    class_set = ClassSet(THREE_CLASSES.classes, ignore_index=9)
    path = tmp_path / "m.png"
    Image.fromarray(np.array([[9, 2, 9]], dtype=np.uint8)).save(path)
    assert read_mask(path, class_set).tolist() == [[9, 2, 9]]


@pytest.mark.parametrize("ignore_index", [253, 254, 255])
def test_border_colour_is_ignored_whatever_the_ignore_value(
    ignore_index: int, tmp_path: Path
) -> None:
    class_set = ClassSet(THREE_CLASSES.classes, ignore_index=ignore_index)
    path = tmp_path / "m.png"
    Image.new("RGB", (3, 1), VOC_BORDER_COLOR).save(path)
    assert read_mask(path, class_set).tolist() == [[ignore_index] * 3]


def test_255_classes_are_read_by_colour(tmp_path: Path) -> None:
    class_set = ClassSet(
        tuple(SegmentationClass(index, f"class {index}", voc_color(index)) for index in range(255))
    )
    ids = np.arange(255, dtype=np.uint8).reshape(15, 17)
    path = tmp_path / "m.png"
    with_palette(ids, class_set.palette()).convert("RGB").save(path)
    assert read_mask(path, class_set).tolist() == ids.tolist()


def test_an_unknown_value_is_named_with_file_and_pixel_count(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    Image.fromarray(np.array([[7, 7, 0], [1, 7, 3]], dtype=np.uint8)).save(path)
    with pytest.raises(DatasetError) as caught:
        read_mask(path, THREE_CLASSES)
    message = str(caught.value)
    assert str(path) in message
    assert "7 (3 pixels), 3 (1 pixels)" in message
    assert "0..2" in message
    assert "255 is ignored" in message


def test_an_unknown_16_bit_value_is_not_wrapped_to_8_bits(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    Image.fromarray(np.array([[256, 0], [1, 256]], dtype=np.uint16)).save(path)
    with pytest.raises(DatasetError, match=r"256 \(2 pixels\)"):
        read_mask(path, THREE_CLASSES)


def test_an_unknown_index_of_a_palette_mask_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    in_class_colors(np.array([[0, 1], [9, 9]], dtype=np.uint8)).save(path)
    with pytest.raises(DatasetError, match=r"9 \(2 pixels\)"):
        read_mask(path, THREE_CLASSES)


def test_an_unknown_colour_is_named_with_its_channels(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 2), (255, 0, 0))
    image.paste((10, 200, 30), (0, 0, 3, 1))
    path = tmp_path / "m.png"
    image.save(path)
    with pytest.raises(DatasetError, match=r"colour \(10, 200, 30\) \(3 pixels\)") as caught:
        read_mask(path, THREE_CLASSES)
    assert str(path) in str(caught.value)


def test_many_unknown_values_are_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    Image.fromarray(np.arange(50, 62, dtype=np.uint8)[None]).save(path)
    with pytest.raises(DatasetError, match="and 7 more"):
        read_mask(path, THREE_CLASSES)


def png(header: bytes, body: bytes) -> bytes:
    """A file with the depths and layouts that Pillow does not write."""
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def grey_png(samples: Bytes, *, bits: int) -> bytes:
    """`samples` (H, W) of `bits` bits."""
    height, width = samples.shape
    planes = np.unpackbits(samples[..., None], axis=-1)[..., 8 - bits :]  # (H, W, bits)
    lines = np.packbits(planes.reshape(height, -1), axis=1)
    body = b"".join(b"\0" + line.tobytes() for line in lines)
    return png(struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0), body)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_grey_samples_of_few_bits_are_the_values_stored(bits: int, tmp_path: Path) -> None:
    """Pillow shows the 3 of a 2-bit file as 255, which would be ignored."""
    four = ClassSet((*THREE_CLASSES.classes, SegmentationClass(3, "blue", (0, 0, 255))))
    ids = np.array([[0, 1, 2, 3, 1], [3, 3, 0, 2, 1]], dtype=np.uint8)
    path = tmp_path / "m.png"
    path.write_bytes(grey_png(ids, bits=bits))
    assert read_mask(path, four).tolist() == ids.tolist()


ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)  # first line and column, steps of both


def test_an_interlaced_mask_is_read(tmp_path: Path) -> None:
    ids = (np.indices((9, 11)).sum(0) % 3).astype(np.uint8)
    body = b"".join(
        b"\0" + line.tobytes()
        for top, left, down, right in ADAM7
        for line in ids[top::down, left::right]
        if line.size
    )
    path = tmp_path / "m.png"
    path.write_bytes(png(struct.pack(">IIBBBBB", 11, 9, 8, 0, 0, 0, 1), body))
    assert read_mask(path, THREE_CLASSES).tolist() == ids.tolist()


def test_grey_with_an_opaque_alpha_channel_holds_indices(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    grey = Image.fromarray(IDS)
    Image.merge("LA", (grey, Image.new("L", grey.size, 255))).save(path)
    assert read_mask(path, THREE_CLASSES).tolist() == IDS.tolist()


@pytest.mark.parametrize("alpha", [0, 254])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_refused_with_its_pixel_count(
    mode: str, alpha: int, tmp_path: Path
) -> None:
    path = tmp_path / "m.png"
    mask = Image.new(mode, (3, 3), (0,) * (len(mode) - 1) + (255,))
    mask.paste((0,) * (len(mode) - 1) + (alpha,), (0, 0, 2, 1))
    mask.save(path)
    with pytest.raises(DatasetError, match=r"m\.png: transparent in 2 pixels"):
        read_mask(path, THREE_CLASSES)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (Path.mkdir, "is a folder, not a mask"),
        (os.mkfifo, "is a pipe or device, not a mask"),
        (lambda path: path.symlink_to("nowhere"), "the mask is missing; the link leads nowhere"),
        (lambda path: path.symlink_to(path.name), "the mask is missing; the link leads nowhere"),
    ],
)
def test_what_is_no_file_is_not_opened(
    make: Callable[[Path], object], complaint: str, tmp_path: Path
) -> None:
    """A pipe without a writer would be waited for."""
    path = tmp_path / "m.png"
    make(path)
    with pytest.raises(DatasetError, match=rf"m\.png: {complaint}$"):
        read_mask(path, THREE_CLASSES)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_is_refused_whatever_its_name(mode: str, tmp_path: Path) -> None:
    """A grey JPEG of 0 and 1 decodes to known values, some of them wrong."""
    path = tmp_path / "m.png"
    Image.fromarray(IDS % 2).convert(mode).save(path, format="JPEG")
    with pytest.raises(DatasetError, match=r"m\.png: a JPEG file under a PNG's name"):
        read_mask(path, THREE_CLASSES)


def test_a_mask_in_another_format_is_pointed_at(tmp_path: Path) -> None:
    Image.fromarray(IDS).save(tmp_path / "m [1].bmp")
    with pytest.raises(DatasetError, match=r"mask is missing; m \[1\]\.bmp is there, but masks"):
        read_mask(tmp_path / "m [1].png", THREE_CLASSES)


def test_colours_of_16_bits_are_refused(tmp_path: Path) -> None:
    """Values written unscaled would all become black, and black is a class."""
    path = tmp_path / "m.png"
    samples = np.ones((2, 2, 3), dtype=">u2")
    body = b"".join(b"\0" + line.tobytes() for line in samples)
    path.write_bytes(png(struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0), body))
    with pytest.raises(DatasetError, match=r"m\.png: 16 bits a channel"):
        read_mask(path, THREE_CLASSES)


def test_smoothed_edges_are_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    image = Image.new("RGB", (40, 40))
    ImageDraw.Draw(image).ellipse((5, 5, 30, 30), fill=(255, 0, 0))
    image.resize((23, 23), Image.Resampling.BILINEAR).save(path)
    with pytest.raises(DatasetError, match=r"m\.png: unknown .* were its edges smoothed"):
        read_mask(path, THREE_CLASSES)


READINGS: dict[str, tuple[Callable[[Bytes], Image.Image], Reading]] = {
    "in class colours": (in_class_colors, Reading.PLAIN),
    "in another order": (in_another_order, Reading.BY_COLOR),
    "in foreign colours": (in_foreign_colors, Reading.BY_INDEX),
    "without a palette": (Image.fromarray, Reading.PLAIN),
}


@pytest.mark.parametrize("case", READINGS)
def test_how_a_palette_was_read_is_told(case: str, tmp_path: Path) -> None:
    encode, reading = READINGS[case]
    path = tmp_path / "m.png"
    encode(IDS).save(path)
    assert decode_mask(path, THREE_CLASSES).reading == reading


def zero_padded(ids: Bytes) -> Image.Image:
    """The class colours and then black, which is class 0's, up to index 255."""
    return with_palette(ids, THREE_CLASSES.palette()[:9].ljust(768, b"\0"))


@pytest.mark.parametrize("ids", [IDS, IDS[:1, 1:], IDS[:1, 3:]])
def test_a_zero_padded_palette_leaves_the_ignored_value_ignored(ids: Bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    zero_padded(ids).save(path)
    assert read_mask(path, THREE_CLASSES).tolist() == ids.tolist()


@pytest.mark.parametrize("beside", [0, 1])
def test_a_zero_padded_palette_hides_no_unknown_index(beside: int, tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    zero_padded(np.array([[beside, 77, 77]], dtype=np.uint8)).save(path)
    with pytest.raises(DatasetError, match=r"m\.png: unknown mask values 77 \(2 pixels\)"):
        read_mask(path, THREE_CLASSES)


@pytest.mark.parametrize("ids", [[[7, 9, 5]], [[255, 5, 1]]])
def test_padding_in_another_order_is_not_taken_for_a_class(
    ids: list[list[int]], tmp_path: Path
) -> None:
    """Black stands for class 0 at index 7; so it does at 9 and 255, which pad the palette."""
    image = in_another_order(IDS)
    padded = Image.fromarray(np.array(ids, dtype=np.uint8))
    padded.putpalette(image.getpalette() or [])
    path = tmp_path / "m.png"
    padded.save(path)
    with pytest.raises(DatasetError, match=r"m\.png: unknown mask values"):
        read_mask(path, THREE_CLASSES)


def test_a_border_class_is_found_by_its_colour_at_the_ignored_index(tmp_path: Path) -> None:
    """As in VOC's own masks, when `classes.json` names the border."""
    border = SegmentationClass(3, "border", VOC_BORDER_COLOR)
    path = tmp_path / "m.png"
    in_class_colors(IDS).save(path)
    labels = read_mask(path, ClassSet((*THREE_CLASSES.classes, border)))
    assert labels.tolist() == np.where(IDS == 255, 3, IDS).tolist()


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing\.png: the mask is missing"):
        read_mask(tmp_path / "nothing.png", THREE_CLASSES)


def test_a_mask_cut_short_anywhere_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    ids = np.random.default_rng(0).integers(0, 3, (40, 40), dtype=np.uint8)
    in_class_colors(ids).save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 20, 37):  # the last bytes are the end marker alone
        path.write_bytes(whole[:length])
        with pytest.raises(DatasetError, match=r"m\.png"):
            read_mask(path, THREE_CLASSES)


def test_a_file_that_is_no_picture_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    path.write_text("labels")
    with pytest.raises(DatasetError, match=r"m\.png: cannot be read as a mask"):
        read_mask(path, THREE_CLASSES)
