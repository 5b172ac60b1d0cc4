"""Whole files of the six formats, made from real photographs: what mutations start from."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms

SIDES = (120, 40, 240)  # of the longer edge; most are small, so that mutations find the headers
CAT = Path(__file__).parents[2] / "docs" / "cat.jpg"
PHOTOGRAPHS = (
    *("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"),
    *("camera.png", "text.png"),
)
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
MAX_DATA_FILES = 40


@dataclass(frozen=True)
class Seed:
    """`format` is Pillow's name of it."""

    name: str
    format: str
    content: bytes


def make_seeds(data: Path | None = None) -> list[Seed]:
    """Always the same for the same installed photographs; those in the folder `data` as well."""
    paths = [*_bundled(), *(_files_of(data) if data is not None else ())]
    return [seed for number, path in enumerate(paths) for seed in _seeds_of(path, number)]


def _bundled() -> Iterator[Path]:
    yield CAT
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        return
    folder = Path(spec.origin).parent / "data"
    yield from (folder / name for name in PHOTOGRAPHS if (folder / name).is_file())


def _files_of(data: Path) -> list[Path]:
    found = sorted(path for path in data.rglob("*") if path.suffix.lower() in SUFFIXES)
    return found[:: max(1, len(found) // MAX_DATA_FILES)][:MAX_DATA_FILES]


def _seeds_of(path: Path, number: int) -> Iterator[Seed]:
    with Image.open(path) as image:
        photograph = image.convert("RGB")
    side = SIDES[number % len(SIDES)]
    photograph.thumbnail((side, side))
    for kind, (format, prepared, options) in _kinds(photograph).items():
        stream = io.BytesIO()
        prepared.save(stream, format, **options)
        yield Seed(f"{path.stem}, {kind}", format, stream.getvalue())


def _kinds(image: Image.Image) -> dict[str, tuple[str, Image.Image, dict[str, Any]]]:
    """Every way of storing pixels, and of saying things about them, that Pillow writes."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "a camera", 72.0
    about: dict[str, Any] = {"exif": exif, "icc_profile": _profile()}
    frames: dict[str, Any] = {
        "save_all": True,
        "append_images": [image.rotate(90 * turn) for turn in (1, 2)],
        "duration": 50,
    }
    grey, palette, clear = image.convert("L"), image.quantize(64), image.convert("RGBA")
    clear.putalpha(grey)
    deep = grey.convert("I;16")
    return {
        "JPEG": ("JPEG", image, about),
        "progressive JPEG": ("JPEG", image, {"progressive": True, "subsampling": 0}),
        "JPEG with restarts": ("JPEG", grey, {"restart_marker_rows": 1}),
        "CMYK JPEG": ("JPEG", image.convert("CMYK"), {}),
        "MPO": ("MPO", image, frames),
        "PNG": ("PNG", image, about),
        "palette PNG": ("PNG", palette, {"transparency": 3}),
        "transparent PNG": ("PNG", clear, {}),
        "16-bit PNG": ("PNG", deep, {}),
        "1-bit PNG": ("PNG", grey.convert("1"), {}),
        "animated PNG": ("PNG", image, frames),
        "TIFF": ("TIFF", image, about),
        "LZW TIFF": ("TIFF", image, {"compression": "tiff_lzw"}),
        "deflated TIFF": ("TIFF", deep, {"compression": "tiff_adobe_deflate"}),
        "JPEG TIFF": ("TIFF", image, {"compression": "jpeg"}),
        "fax TIFF": ("TIFF", grey.convert("1"), {"compression": "group4"}),
        "packed TIFF": ("TIFF", palette, {"compression": "packbits"}),
        "float TIFF": ("TIFF", grey.convert("F"), {}),
        "big TIFF": ("TIFF", clear, {"big_tiff": True}),
        "TIFF of pages": ("TIFF", grey, {"save_all": True, "append_images": [grey]}),
        "WebP": ("WEBP", image, about),
        "lossless WebP": ("WEBP", clear, {"lossless": True}),
        "animated WebP": ("WEBP", image, frames),
        "GIF": ("GIF", palette, {"comment": b"a photograph"}),
        "animated GIF": ("GIF", image, {**frames, "transparency": 3}),
        "BMP": ("BMP", image, {}),
        "palette BMP": ("BMP", palette, {}),
        "transparent BMP": ("BMP", clear, {}),
    }


def _profile() -> bytes:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = bytes(12)  # when it was made
    profile[84:100] = bytes(16)  # and a hash of that
    return bytes(profile)
