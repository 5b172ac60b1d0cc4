"""Networks to serve: of full size, with weights that nobody trained, and the carried one.

Random weights choose nearly at random between classes that are as good as equal, and the smallest
rounding changes the mask; a service that holds its faster arithmetic against float32 would rightly
refuse to use it. So batch norm gets the statistics of photographs, transposed convolutions
interpolate, and the last layer is set so that the classes are ranges of the strongest feature:
masks of a few areas, as trained ones are.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.serving.errors import BenchmarkError
from benchmarks.serving.request import Photograph
from models import Checkpoint, Manifest, build, load_checkpoint, save_checkpoint
from models.classes import voc_classes
from models.geometry import network_input, resize_pixels
from models.manifest import Arguments, InputSpec, manifest_classes
from models.network import SegmentationNetwork
from models.pixels import open_image, rgb_pixels

SEED = 0
BATCH = 4
SIDE = 256
USED_CLASSES = 3  # the others are never chosen, as most are not in one photograph
BACKGROUND = 0.8  # share of the pixels that class 0 takes
HAT = torch.tensor([0.5, 1.0, 0.5])  # between two pixels, half of each
CPU = torch.device("cpu")


def make_checkpoint(
    folder: Path, architecture: str, pictures: list[Photograph], *, name: str | None = None
) -> Path:
    """Writes a full-width network of VOC's 22 classes for 256x256 and returns its `.pth`."""
    torch.manual_seed(SEED)
    classes = voc_classes(border="class")
    network = build(architecture, num_classes=len(classes))
    spec = InputSpec(mean=network.mean, std=network.std, stride=network.stride)
    inputs = network_inputs(pictures[: 2 * BATCH], spec)
    with torch.no_grad():
        _smooth(network)
        _settle(network, inputs)
        _decide(network, inputs)
    path = folder / f"{name or architecture}.pth"
    manifest = Manifest(
        name=path.stem,
        architecture=architecture,
        arguments=Arguments(num_classes=len(classes)),
        classes=manifest_classes(classes),
        input=spec,
    )
    save_checkpoint(path, network.state_dict(), manifest)
    return path


def copy_checkpoint(source: Path, folder: Path) -> Path:
    """A `.pth` and its manifest beside the made ones, so that one folder serves all."""
    if not source.is_file():
        raise BenchmarkError(f"--carried {source}: no such checkpoint")
    for path in (source, source.with_suffix(".json")):
        if path.exists():
            shutil.copy(path, folder / path.name)
    return folder / source.name


def twin(source: Path) -> Path:
    """The same weights beside it, as another model."""
    path = source.with_name(f"{source.stem}-twin.pth")
    for found in (source, source.with_suffix(".json")):
        if found.exists():
            shutil.copy(found, path.with_suffix(found.suffix))
    return path


def in_tiles(source: Path, folder: Path) -> Path:
    """The same weights, to be slid over images at their own resolution."""
    checkpoint = load_checkpoint(source)
    spec = checkpoint.manifest.input.model_copy(update={"mode": "tile"})
    path = folder / f"{source.stem}-tiles.pth"
    save_checkpoint(
        path,
        checkpoint.network.state_dict(),
        checkpoint.manifest.model_copy(update={"input": spec}),
    )
    return path


def network_inputs(pictures: list[Photograph], spec: InputSpec) -> Tensor:
    """float32 (N, 3, h, w), as the service prepares uploads in the mode `resize`."""
    pixels = []
    for picture in pictures:
        with open_image(picture.path) as image:
            pixels.append(resize_pixels(rgb_pixels(image), spec.height, spec.width))
    return network_input(torch.stack(pixels), spec, CPU)


def channels_last(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype = torch.float32
) -> SegmentationNetwork:
    """A copy: the checkpoint's own stays as it is."""
    moved: SegmentationNetwork = deepcopy(checkpoint.network).to(  # type: ignore[call-overload]
        device, dtype, memory_format=torch.channels_last
    )
    return moved.eval()


def _batches(inputs: Tensor) -> list[Tensor]:
    return [inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH)]


def _smooth(network: SegmentationNetwork) -> None:
    """Transposed convolutions of stride 2 begin as interpolation between pixels, which Long et al.
    (2015) start from. Random ones leave a checkerboard on everything: up to nine tenths of a mask
    are then borders, where a trained network's has a few hundredths."""
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            assert (module.kernel_size, module.stride) == ((3, 3), (2, 2))
            module.weight.copy_(module.weight[:, :, 1:2, 1:2] * HAT[:, None] * HAT)


def _settle(network: SegmentationNetwork, inputs: Tensor) -> None:
    """Batch norm's statistics: the mean over a few batches, instead of mean 0 and variance 1."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.train()
    for batch in _batches(inputs):
        network(batch)
    network.eval()


def _decide(network: SegmentationNetwork, inputs: Tensor) -> None:
    """logit k = slope * (k * u - t_1 - ... - t_k): class k where the feature u exceeds t_k and
    not t_(k + 1)."""
    head = _head(network)
    with _inputs_of(head) as seen:
        for batch in _batches(inputs):
            network(batch)
    features = torch.cat([f.permute(0, 2, 3, 1).flatten(0, 2) for f in seen])[::7]  # (pixels, C)
    center = features.mean(0)
    direction = torch.linalg.svd(features[::7] - center, full_matrices=False)[2][0]  # (C,)
    strength = (features - center) @ direction  # u
    shares = torch.linspace(BACKGROUND, 0.999, USED_CLASSES - 1)
    reach = float(strength.abs().max())
    unused = reach * (2 + torch.arange(head.out_channels - USED_CLASSES))
    thresholds = torch.cat([torch.zeros(1), torch.quantile(strength, shares), unused])
    rank = torch.arange(head.out_channels)
    slope = 10 / strength.std()
    head.weight.copy_((slope * rank[:, None] * direction).view_as(head.weight))
    assert head.bias is not None
    head.bias.copy_(-slope * (thresholds.cumsum(0) + rank * (center @ direction)))


def _head(network: SegmentationNetwork) -> nn.Conv2d:
    """The layer that makes the logits."""
    return [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.out_channels == network.num_classes
    ][-1]


@contextmanager
def _inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()
