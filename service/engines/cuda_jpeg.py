"""JPEGs decoded by NVIDIA's nvJPEG, on the circuits that some of its GPUs have for it.

Its pixels differ from libjpeg's, with which networks are trained, by rounding and by how it
enlarges the colour planes: by less than one of 256 levels on average, by tens of them along edges
between colours.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence

import torch
import torchvision
from torch import Tensor

from models.geometry import resize_pixels
from service.engines.cuda_waiting import wait_for_all
from service.engines.engine import Jpeg, is_out_of_memory

logger = logging.getLogger(__name__)

# decoded at a time, where an image is not larger: 18 bytes each until they are resized
MAX_PIXELS = 1 << 24


def decode_resized(
    jpegs: Sequence[Jpeg], height: int, width: int, device: torch.device
) -> tuple[Tensor, set[int]]:
    """uint8 (N, 3, height, width) on the device, and which of them are blank because they could
    not be decoded."""
    groups = list(_groups(jpegs))
    if len(groups) == 1:
        return _resized(_decoded(jpegs, device), height, width, device)
    parts, lost, count = [], set[int](), 0
    for group in groups:
        part, missing = _resized(_decoded(group, device), height, width, device)
        # the decoder may write where what was just resized is still read
        torch.cuda.current_stream(device).synchronize()
        parts.append(part)
        lost |= {count + place for place in missing}
        count += len(group)
    return torch.cat(parts), lost


def _groups(jpegs: Iterable[Jpeg]) -> Iterator[list[Jpeg]]:
    """What is decoded together, in order."""
    group: list[Jpeg] = []
    pixels = 0
    for jpeg in jpegs:
        count = jpeg.height * jpeg.width
        if group and pixels + count > MAX_PIXELS:
            yield group
            group, pixels = [], 0
        group.append(jpeg)
        pixels += count
    if group:
        yield group


def _decoded(jpegs: Sequence[Jpeg], device: torch.device) -> list[Tensor | None]:
    """As stored, uint8 (3, H, W) each. One that is broken fails all that are decoded with it, which
    are then decoded one by one."""
    lengths = [len(jpeg.content) for jpeg in jpegs]
    whole = torch.frombuffer(bytearray().join(jpeg.content for jpeg in jpegs), dtype=torch.uint8)
    contents = torch.split(whole, lengths)
    try:
        images: list[Tensor] = torchvision.io.decode_jpeg(list(contents), mode="RGB", device=device)
    except RuntimeError as error:
        wait_for_all(device)  # nothing may be written to any more
        if is_out_of_memory(error):
            raise
        if len(jpegs) > 1:
            return [image for jpeg in jpegs for image in _decoded([jpeg], device)]
        logger.debug("not decoded on %s: %s", device, error)
        return [None]
    sizes = [(jpeg.height, jpeg.width) for jpeg in jpegs]
    return [
        image if image.shape[1:] == size else None
        for image, size in zip(images, sizes, strict=True)
    ]


def _resized(
    images: Sequence[Tensor | None], height: int, width: int, device: torch.device
) -> tuple[Tensor, set[int]]:
    """Those of one size in one go: what is asked of a GPU costs more than what it does. Nothing is
    put in its place by its number, for which the GPU would be waited for."""
    places: dict[torch.Size | None, list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(None if image is None else image.shape, []).append(place)
    lost = set(places.pop(None, ()))
    found: list[Tensor | None] = [None] * len(images)
    for alike in places.values():
        some = torch.stack([image for place in alike if (image := images[place]) is not None])
        resized = resize_pixels(some, height, width)
        if len(alike) == len(images):
            return resized, lost
        for place, image in zip(alike, resized, strict=True):
            found[place] = image
    blank = torch.zeros(3, height, width, dtype=torch.uint8, device=device)
    return torch.stack([blank if each is None else each for each in found]), lost
