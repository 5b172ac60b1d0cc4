"""The mask as a file: an indexed PNG that is the class map and the colour picture in one."""

import io

from PIL import Image
from torch import Tensor

from models.classes import ClassSet


def indexed_png(labels: Tensor, class_set: ClassSet) -> bytes:
    """uint8 (H, W) labels -> PNG whose palette is the class colours.

    As few bits per pixel as the classes need, lowest compression: most of a large mask's
    encoding time is spent on bytes that a deeper format or level would not shrink.
    """
    count = len(class_set)
    bits = next(bits for bits in (1, 2, 4, 8) if count <= 1 << bits)
    image = Image.fromarray(labels.numpy())
    image.putpalette(class_set.palette()[: 3 * count])
    stream = io.BytesIO()
    image.save(stream, format="PNG", bits=bits, compress_level=1)
    return stream.getvalue()
