"""Whether an answer is a whole PNG, without an imaging library: the load generator stays small."""

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
HEADER_BYTES = 33  # signature and the first chunk: length, name, 13 bytes, checksum
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type


def png_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a file that begins and ends as a PNG does; ValueError otherwise."""
    if len(data) < HEADER_BYTES + len(END) or not data.startswith(SIGNATURE):
        raise ValueError(f"not a PNG: {data[:16]!r}")
    if not data.endswith(END):
        raise ValueError(f"a PNG without its end, {len(data)} bytes")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def verify_png(data: bytes) -> None:
    """Checks every chunk's checksum and that the pixels are all there; ValueError otherwise."""
    width, height = png_size(data)
    bits, kind = data[24], data[25]
    pixels = zlib.decompressobj()
    found = 0
    place = len(SIGNATURE)
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        name, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, place + 8 + length)
        if zlib.crc32(name + content) != checksum:
            raise ValueError(f"a PNG whose chunk {name!r} at byte {place} is damaged")
        if name == b"IDAT":
            found += len(pixels.decompress(content))
        place += 12 + length
    row = 1 + (width * bits * CHANNELS[kind] + 7) // 8  # the filter's byte comes first
    if found != row * height:
        raise ValueError(f"a PNG of {width}x{height} with {found} bytes, not {row * height}")
