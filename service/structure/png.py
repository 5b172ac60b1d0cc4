"""PNG: chunks are handled one by one in Python, and a profile is inflated for each that is sent."""

from service.errors import TooLargeError

MAX_CHUNKS = 100_000  # of pixels; 20 MiB in the smallest that encoders write are 20,000
MAX_OTHER_CHUNKS = 4000  # an animation has one for each of its frames
MAX_EXIF_CHUNK_BYTES = 1 << 20  # in one chunk; compressed it is measured where it is read
PIXELS = (b"IDAT", b"fdAT")
HOLD_EXIF = (b"eXIf", b"tEXtRaw profile type exif\0")  # chunks that begin so


def require_bounded(content: bytes) -> None:
    place, chunks, others, profiles = 8, 0, 0, 0
    while place + 8 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        kind = content[place + 4 : place + 8]
        if kind in PIXELS:
            chunks += 1
        else:
            others += 1
        profiles += kind == b"iCCP"
        _require(chunks, MAX_CHUNKS, "chunks of pixels")
        _require(others, MAX_OTHER_CHUNKS, "chunks beside its pixels")
        _require(profiles, 1, "colour profile")
        if content.startswith(HOLD_EXIF, place + 4):
            _require(length, MAX_EXIF_CHUNK_BYTES, f"bytes of EXIF in a chunk {kind.decode()}")
        if kind == b"IEND":
            break
        place += 12 + length


def _require(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise TooLargeError(f"the PNG has more than the limit of {limit} {what}")
