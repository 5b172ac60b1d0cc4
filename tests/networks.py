"""Small networks and manifests for the tests that need one but are about something else."""

import torch
from torch import Tensor, nn

from models import Manifest, build
from models.classes import ClassSet, SegmentationClass, voc_color
from models.manifest import Arguments, InputSpec, TrainingRecord, manifest_classes
from models.network import SegmentationNetwork


def randomise(network: nn.Module, *, seed: int = 0) -> None:
    """Gives batch norms statistics and scales as training would, so none of them is a no-op."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.weight.uniform_(0.8, 1.6, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)


def small_network(
    name: str,
    *,
    num_classes: int = 5,
    base_channels: int = 4,
    in_channels: int = 3,
    seed: int = 0,
) -> SegmentationNetwork:
    """A narrow network in evaluation mode; the same seed gives the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build(
            name, num_classes=num_classes, base_channels=base_channels, in_channels=in_channels
        )
    randomise(network, seed=seed)
    return network.eval()


def random_images(*shape: int, seed: int = 0) -> Tensor:
    """Normally distributed float images (N, C, H, W)."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def manifest_for(network: SegmentationNetwork, architecture: str) -> Manifest:
    """A manifest that names the classes "thing 0", … and says it was trained."""
    classes = ClassSet(
        tuple(
            SegmentationClass(index, f"thing {index}", voc_color(index))
            for index in range(network.num_classes)
        )
    )
    channels = network.in_channels
    return Manifest(
        name="unsaved",
        architecture=architecture,
        arguments=Arguments(
            num_classes=network.num_classes,
            base_channels=network.base_channels,
            in_channels=channels,
        ),
        classes=manifest_classes(classes),
        input=InputSpec(
            height=64,
            width=96,
            mean=(network.mean * channels)[:channels],
            std=(network.std * channels)[:channels],
            stride=network.stride,
        ),
        training=TrainingRecord(
            epoch=4,
            step=120,
            seed=7,
            dataset_fingerprint="abc",
            command="python -m trainer fit",
            versions={"torch": torch.__version__},
            started="2024-01-01T00:00:00+00:00",
            saved="2024-01-01T01:00:00+00:00",
            images_seen=960,
        ),
    )
