"""JPEG: each scan is a pass over the whole picture, and a scan may be twelve bytes long."""

import re

from service.errors import TooLargeError

MAX_SCANS = 100  # libtiff's limit for JPEG within TIFF; encoders write ten
MAX_SEGMENTS = 1000  # a colour profile may take 255, extended XMP a few hundred
MAX_EXIF_BYTES = 1 << 20  # it has one segment of 64 KiB, or a few
MAX_JUNK_BYTES = 1 << 16  # between segments, where none belongs; Pillow steps through it

MARKER = re.compile(rb"\xff[^\x00\xff]")
AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # restarts belong to the scan
# markers without a length: TEM, RSTn, SOI, EOI; and those of no meaning, which decoders that look
# for a restart step over as if they had none: what lies behind them is a marker again
ALONE = frozenset({*range(0x01, 0xC0), *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
SCAN, END, EXIF = 0xDA, 0xD9, 0xE1


def require_bounded(content: bytes) -> None:
    scans = segments = exif = junk = place = 0
    while found := (AFTER_SCAN if scans else MARKER).search(content, place):
        segments += 1
        junk += 0 if scans else found.start() - place
        code, place = content[found.start() + 1], found.end()
        if code == END and scans:
            break
        if code in ALONE:
            continue
        length = max(2, int.from_bytes(content[place : place + 2], "big"))
        if code == EXIF and content.startswith(b"Exif\0\0", place + 2):
            exif += length
        scans += code == SCAN
        place += length
        _require(scans, MAX_SCANS, "scans")
        _require(segments, MAX_SEGMENTS, "segments")
        _require(exif, MAX_EXIF_BYTES, "bytes of EXIF")
        _require(junk, MAX_JUNK_BYTES, "bytes between its segments")


def _require(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise TooLargeError(f"the JPEG has more than the limit of {limit} {what}")
