"""What a file is made of, looked at before a decoder is: decoders do whatever a file asks them to.

Twenty megabytes can ask for hours: a million empty chunks, ten thousand passes over one picture,
a strip that is decoded a million times, a tile of a gigabyte in a picture of one pixel. Limits
are far above what cameras and programs write.
"""

from collections.abc import Callable

from service.structure import bmp, gif, jpeg, png, tiff

CHECKS: dict[bytes, Callable[[bytes], None]] = {
    b"\xff\xd8\xff": jpeg.require_bounded,
    b"\x89PNG\r\n\x1a\n": png.require_bounded,
    b"GIF87a": gif.require_bounded,
    b"GIF89a": gif.require_bounded,
    b"BM": bmp.require_bounded,
    b"II": tiff.require_bounded,
    b"MM": tiff.require_bounded,
}


def require_bounded(content: bytes) -> None:
    """TooLargeError where a file asks for work out of proportion; says nothing of whether it is
    whole, which is the decoder's to find out. WebP's decoder is bounded by the size alone."""
    for signature, check in CHECKS.items():
        if content.startswith(signature):
            check(content)
