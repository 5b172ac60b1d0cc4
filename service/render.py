"""The mask as a file: an indexed PNG that is the class map and the colour picture in one."""

import io

from PIL import Image
from torch import Tensor

from models.classes import ClassSet


def indexed_png(labels: Tensor, class_set: ClassSet) -> bytes:
    """uint8 (H, W) labels -> PNG whose palette is the class colours.

    As few bits per pixel as the palette needs, which Pillow sees to, and the lowest compression:
    most of a large mask's encoding time is spent on bytes that a deeper format or level would not
    shrink.
    """
    image = Image.fromarray(labels.numpy())
    image.putpalette(class_set.palette()[: 3 * len(class_set)])
    stream = io.BytesIO()
    image.save(stream, format="PNG", compress_level=1)
    return stream.getvalue()
