"""BMP: run lengths are decoded in Python, pixel by pixel."""

import struct

from service.errors import TooLargeError

MAX_RUN_LENGTH_PIXELS = 4_000_000  # a second
SLACK_BYTES = 1 << 16  # header and palette
RLE8, RLE4 = 1, 2
MIN_HEADER_BYTES = 40  # shorter ones, of OS/2, know no compression


def require_bounded(content: bytes) -> None:
    if len(content) < 34:
        return
    size, width, height, _, _, compression = struct.unpack_from("<IiiHHI", content, 14)
    if size < MIN_HEADER_BYTES:
        return
    pixels = abs(width * height)
    if compression in (RLE8, RLE4) and pixels > MAX_RUN_LENGTH_PIXELS:
        raise TooLargeError(
            f"the BMP has {pixels} pixels in run lengths, the limit is {MAX_RUN_LENGTH_PIXELS}; "
            "uncompressed it may have more"
        )
    if compression in (RLE8, RLE4) and len(content) > 2 * pixels + SLACK_BYTES:
        raise TooLargeError(f"the BMP has {len(content)} bytes of run lengths for {pixels} pixels")
