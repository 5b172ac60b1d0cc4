"""What is uploaded: photographs of one size, of mixed sizes and formats, and very large ones."""

import io
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.serving.errors import BenchmarkError
from benchmarks.serving.request import Photograph

SIZE = (640, 427)  # width, height
QUALITY = 90
GRAIN = 6  # standard deviation of a made-up photograph's noise, of 255
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
FORMATS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "GIF": "image/gif",
}
MIXED_SIZES = ((32, 32), (100, 75), (320, 240), (427, 640), (640, 427), (1024, 768), (1600, 1200))


def photographs(source: list[Path], out: Path, count: int) -> list[Photograph]:
    """`count` JPEGs of 640x427 under `out`: the files of `source`, cut to that shape, in turn, or
    made up where there are none."""
    out.mkdir(parents=True, exist_ok=True)
    pictures = _cut(source) if source else made_up(SIZE)
    return [
        _save(picture, out / f"{index:04d}.jpg", "JPEG")
        for index, picture in zip(range(count), pictures, strict=False)
    ]


def image_files(folder: Path) -> list[Path]:
    """The images of a folder by name; BenchmarkError when it holds none."""
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise BenchmarkError(f"--images {folder}: holds no image ({', '.join(SUFFIXES)})")
    return files


def listed(folder: Path) -> list[Photograph]:
    """What `photographs` has written, read back in its order."""
    found = []
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as image:
            found.append(Photograph(path, FORMATS["JPEG"], *image.size))
    return found


def mixed(pictures: list[Photograph], out: Path) -> list[Photograph]:
    """Every size from 32x32 to 1600x1200 in every format."""
    out.mkdir(parents=True, exist_ok=True)
    made = []
    for number, (kind, media_type) in enumerate(FORMATS.items()):
        for index, size in enumerate(MIXED_SIZES):
            with Image.open(pictures[(number + index) % len(pictures)].path) as image:
                picture = image.convert("RGB").resize(size)
            path = out / f"{size[0]}x{size[1]}.{media_type.partition('/')[2]}"
            made.append(_save(picture, path, kind))
    return made


def large(picture: Photograph, out: Path, width: int, height: int) -> Photograph:
    """A JPEG of any size, covered with copies of one photograph at its own resolution."""
    with Image.open(picture.path) as image:
        pixels = np.asarray(image.convert("RGB"))  # (h, w, 3)
    rows, columns = -(-height // pixels.shape[0]), -(-width // pixels.shape[1])
    covered = np.tile(pixels, (rows, columns, 1))[:height, :width]
    return _save(Image.fromarray(covered), out / f"{width}x{height}.jpg", "JPEG")


def made_up(size: tuple[int, int]) -> Iterator[Image.Image]:
    """Smooth random colours under grain, for ever; a photograph's bytes, nothing to recognise."""
    random = np.random.default_rng(0)
    while True:
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        grainy = smooth + random.normal(0, GRAIN, (size[1], size[0], 1))
        yield Image.fromarray(np.clip(grainy, 0, 255).astype(np.uint8))


def _cut(files: list[Path]) -> Iterator[Image.Image]:
    for path in cycle(files):
        with Image.open(path) as image:
            yield ImageOps.fit(image.convert("RGB"), SIZE)


def _save(picture: Image.Image, path: Path, kind: str) -> Photograph:
    stream = io.BytesIO()
    options = {"quality": QUALITY} if kind in ("JPEG", "WEBP") else {}
    picture.save(stream, format=kind, **options)
    path.write_bytes(stream.getvalue())
    return Photograph(path, FORMATS[kind], *picture.size)
