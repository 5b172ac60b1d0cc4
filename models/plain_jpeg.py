"""JPEGs whose pixels every decoder reads alike, but for rounding, if they are not damaged: known
from the header, without a library's detours."""

import re
import struct

START, END = b"\xff\xd8", b"\xff\xd9"
BEHIND_SCAN = re.compile(b"\xff[^\x00\xd0-\xd7\xff]")  # restarts belong to the scan
FRAME, SCAN = 0xC0, 0xDA  # of a baseline JPEG
APP0, APP1, APP2, APP14 = 0xE0, 0xE1, 0xE2, 0xEE
KNOWN = frozenset({FRAME, SCAN, 0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)})  # tables, comments
JFIF, EXIF, SEVERAL_PICTURES, ADOBE = b"JFIF\0", b"Exif\0\0", b"MPF\0", b"Adobe"
JFIF_BYTES, ADOBE_BYTES = 14, 12
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
SHORT = 3
ORIENTATION, UPRIGHT = 0x0112, 1
SAMPLINGS = (  # 4:4:4, 4:2:2, 4:2:0, and grey, where others mean nothing and nvJPEG errs
    b"\x11\x11\x11",
    b"\x21\x11\x11",
    b"\x22\x11\x11",
    b"\x11",
)
WHOLE_SPECTRUM = b"\x00\x3f\x00"  # which a baseline scan's header ends with
MAX_BYTES, MAX_SEGMENTS, MAX_HEADER_BYTES = 1 << 22, 100, 1 << 18
MAX_ENTRIES = 200  # of EXIF's first directory; cameras write a dozen

Segments = list[tuple[int, bytes]]  # each with its code


def plain_jpeg_size(content: bytes) -> tuple[int, int] | None:
    """(height, width) of a baseline JPEG of one scan, grey or YCbCr, sampled as cameras do and
    stored upright. None of others, and wherever there is a doubt: where a header does not say
    what its components are, decoders go by habits of their own.

    Takes some microseconds, and one for every two kilobytes of a photograph; of what is made to
    be slow twenty times that, which MAX_BYTES bounds.
    """
    if len(content) > MAX_BYTES:
        return None
    segments, begin = _header(content)
    frames = _bodies(segments, FRAME)
    if len(frames) != 1 or not _is_scanned_whole(frames[0], segments[-1]):
        return None
    is_plain = (
        _is_as_cameras_write(frames[0])
        and _is_grey_or_ycbcr(frames[0], segments)
        and _is_upright(segments)
        and not _bodies(segments, APP2, SEVERAL_PICTURES)
        and _is_ended(content, begin)
    )
    height, width = (int.from_bytes(frames[0][place : place + 2], "big") for place in (1, 3))
    return (height, width) if is_plain and height and width else None


def _header(content: bytes) -> tuple[Segments, int]:
    """The segments that lie one behind the other, up to the first scan's, and where they end; to
    the first that is of another kind, too short for its own length, or one too many."""
    segments: Segments = []
    place = len(START) if content.startswith(START) else len(content)
    while len(segments) < MAX_SEGMENTS and place + 4 <= min(len(content), MAX_HEADER_BYTES):
        code = content[place + 1]
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if content[place] != 0xFF or code not in KNOWN or end < place + 4:
            break
        segments.append((code, content[place + 4 : end]))
        place = end
        if code == SCAN:
            break
    return segments, place


def _bodies(segments: Segments, code: int, prefix: bytes = b"") -> list[bytes]:
    return [body for each, body in segments if each == code and body.startswith(prefix)]


def _is_scanned_whole(frame: bytes, last: tuple[int, bytes]) -> bool:
    """Whether the scan is there, and has every component, once."""
    numbers = _numbers(frame)
    code, scan = last
    whole = len(frame) == 6 + 3 * len(numbers) and len(scan) == 4 + 2 * len(numbers)
    return (
        code == SCAN
        and whole
        and scan[0] == frame[5] == len(numbers)
        and scan[1:-3:2] == numbers
        and scan.endswith(WHOLE_SPECTRUM)
    )


def _is_ended(content: bytes, begin: int) -> bool:
    """Behind the one scan: programs and cameras write all kinds of things after it."""
    found = BEHIND_SCAN.search(content, begin)
    return found is not None and found[0] == END


def _is_as_cameras_write(frame: bytes) -> bool:
    return frame[0] == 8 and frame[7::3] in SAMPLINGS


def _numbers(frame: bytes) -> bytes:
    """What its components are called."""
    return frame[6::3]


def _is_grey_or_ycbcr(frame: bytes, segments: Segments) -> bool:
    if len(_numbers(frame)) == 1:
        return True
    adobe = _bodies(segments, APP14, ADOBE)
    if any(len(body) < ADOBE_BYTES or body[ADOBE_BYTES - 1] != 1 for body in adobe):
        return False
    jfif = _bodies(segments, APP0, JFIF)
    is_jfif = bool(jfif) and all(len(body) >= JFIF_BYTES for body in jfif)
    return _numbers(frame) == bytes((1, 2, 3)) or (_numbers(frame) == bytes(range(3)) and is_jfif)


def _is_upright(segments: Segments) -> bool:
    """As Pillow has it: EXIF says so, or where that is silent other metadata, or nothing does."""
    exif = _bodies(segments, APP1, EXIF)
    if len(exif) > 1:
        return False
    try:
        found = [value for body in exif for value in _orientations(body[len(EXIF) :])]
    except struct.error:  # cut off
        return False
    if found:
        return found == [UPRIGHT]
    return not any(b"Orientation" in body for body in _bodies(segments, APP1))


def _orientations(tiff: bytes) -> list[int]:
    """What the first of its directories says; Pillow's reader takes 40 ms for five thousand
    entries, and this is read in the event loop. struct.error where it is not as it should be."""
    order = BYTE_ORDERS.get(tiff[:4], "no order")
    (start,) = struct.unpack_from(f"{order}L", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    entry = struct.Struct(f"{order}HHLHxx")
    if count > MAX_ENTRIES:
        raise struct.error
    entries = (entry.unpack_from(tiff, start + 2 + index * entry.size) for index in range(count))
    # of another type it is no orientation, nor upright
    return [
        value if (kind, length) == (SHORT, 1) else 0
        for tag, kind, length, value in entries
        if tag == ORIENTATION
    ]
