"""What must be ready before the first step: a checked dataset, a network, starting weights."""

import logging
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from models import build, load_checkpoint
from models.devices import use_bf16
from models.manifest import InputSpec, Manifest
from models.network import SegmentationNetwork
from models.weights import require_fit
from trainer.config import FitConfig
from trainer.data.audit import TrainingAudit, audit_for_training
from trainer.data.dataset import VocFolder
from trainer.data.loader import loader_processes
from trainer.distributed import Processes
from trainer.errors import ConfigError
from trainer.evaluation.evaluate import require_same_classes
from trainer.losses import SegmentationLoss
from trainer.precision import Precision
from trainer.training.average import averaged_copy
from trainer.training.loop import Learner
from trainer.training.optimise import build_optimizer
from trainer.training.pretrained import load_encoder_weights
from trainer.training.run_data import RunData
from trainer.training.run_folder import RunFolder

logger = logging.getLogger(__name__)


def settle(
    config: FitConfig, saved: FitConfig | None, device: torch.device, *, world: int = 1
) -> FitConfig:
    """The configuration with nothing left open: a resumed run computes as it began, wherever it is
    resumed, and still says which weights it began with."""
    workers = loader_processes(config, device, world)
    config = replace(config, device=str(device), workers=workers)
    if saved is None:
        bf16 = use_bf16(device, config.precision)
        return replace(config, precision="bfloat16" if bf16 else "float32")
    return replace(
        config,
        precision=saved.precision,
        init=saved.init,
        encoder_weights=saved.encoder_weights,
    )


def check_dataset(
    config: FitConfig,
    data: RunData,
    kept: RunFolder,
    processes: Processes,
    device: torch.device,
    on_image: Callable[[], None],
) -> TrainingAudit:
    """Problems of the dataset end the run here. The first process looks, for the others as well,
    and keeps what it found for a resumed run."""

    def look() -> TrainingAudit:
        return audit_for_training(
            data.folder,
            config.train_split,
            config.val_split,
            limit=config.limit,
            on_image=on_image,
            cache=kept.audit_path,
        )

    audit = processes.from_first(look, device)
    for note in audit.notes:
        logger.info("note: %s", note)
    return audit


def build_network(
    config: FitConfig, num_classes: int, processes: Processes, device: torch.device
) -> SegmentationNetwork:
    """With random weights that follow from the seed, channels last."""
    torch.manual_seed(config.seed)
    network = build(config.arch, num_classes=num_classes, base_channels=config.base_channels)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not config.recipe.freeze_batch_norm:  # frozen, they do not look at the batch
        processes.share_norms(network, device)
    return network


def input_spec(config: FitConfig, network: SegmentationNetwork) -> InputSpec:
    """How serving makes a network input of an image; a ConfigError where the size is too small."""
    height, width = config.input_size
    # one pixel inside: batch norm needs two values
    if min(config.training_size) <= network.stride:
        name = "crop-size" if config.crop_size else "image-size"
        value = config.crop_size or config.image_size
        raise ConfigError(f"--{name} {value}: {config.arch} needs more than {network.stride}")
    return InputSpec(
        mode=config.input_mode,
        height=height,
        width=width,
        mean=network.mean,
        std=network.std,
        stride=network.stride,
    )


def build_learner(
    config: FitConfig,
    network: SegmentationNetwork,
    spec: InputSpec,
    precision: Precision,
    processes: Processes,
    *,
    ignore_index: int,
    class_weights: Tensor | None,
) -> Learner:
    """The recipe put into objects. `network` keeps plain state_dict keys, whatever is around it."""
    recipe = config.recipe
    called = processes.wrap(network, precision.device)
    pretrained = bool(config.encoder_weights or config.init)
    return Learner(
        network=torch.compile(called) if config.compile else called,  # type: ignore[arg-type]
        optimizer=build_optimizer(network, recipe, pretrained=pretrained),
        loss=SegmentationLoss(
            recipe, ignore_index=ignore_index, class_weights=class_weights, total=processes.total
        ),
        spec=spec,
        precision=precision,
        averaged=averaged_copy(network, recipe.ema_decay) if recipe.ema_decay else None,
        clip_norm=recipe.clip_norm,
        freeze_batch_norm=recipe.freeze_batch_norm,
    )


def load_starting_weights(
    config: FitConfig, network: SegmentationNetwork, folder: VocFolder, manifest: Manifest
) -> None:
    """Those of `--encoder-weights` and `--init`; `manifest` describes this run's network."""
    if config.encoder_weights:
        path = load_encoder_weights(network, config.encoder_weights)
        logger.info("encoder weights from %s", path.name)
    if config.init:
        initial = load_checkpoint(config.init)
        require_same_classes(initial.manifest, folder, name=f"--init {config.init}")
        require_fit(initial.network.state_dict(), manifest, name=f"--init {config.init}")
        network.load_state_dict(initial.network.state_dict())
        logger.info("weights from %s", config.init)
