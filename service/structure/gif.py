"""GIF: what lies before the first frame is read block by block, and a block may hold one byte."""

from service.errors import TooLargeError

MAX_BLOCKS = 100_000  # full ones hold 25 MB
HEADER_BYTES = 13
EXTENSION, FRAME, TRAILER = 0x21, 0x2C, 0x3B


def require_bounded(content: bytes) -> None:
    if len(content) < HEADER_BYTES:
        return
    place, blocks = HEADER_BYTES, 0
    if content[10] & 0x80:
        place += 3 << (content[10] & 7) + 1  # the palette
    within = False  # an extension, which ends with an empty block
    while place < len(content):
        byte = content[place]
        if within:
            within, place = byte > 0, place + 1 + byte
        elif byte in (FRAME, TRAILER):
            return
        else:  # decoders step over what is neither
            within, place = byte == EXTENSION, place + (2 if byte == EXTENSION else 1)
        blocks += 1
        if blocks > MAX_BLOCKS:
            raise TooLargeError(f"the GIF has more than the limit of {MAX_BLOCKS} blocks")
