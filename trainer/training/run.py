"""Wires one training run: data, network, optimizer, loop, and the folder that keeps it all."""

import copy
import logging
import time
from collections.abc import Mapping
from functools import reduce
from operator import add

import torch
from torch import Tensor

from models import build, load_checkpoint
from models.checkpoint import stored_state
from models.devices import use_bf16
from models.manifest import InputSpec, Manifest, Metrics
from models.network import SegmentationNetwork
from models.weights import require_fit
from trainer.config import FitConfig
from trainer.data.audit import TrainingAudit, audit_for_training
from trainer.data.class_weights import median_frequency_weights
from trainer.data.dataset import VocFolder
from trainer.data.loader import loader_processes, training_loader
from trainer.distributed import Processes
from trainer.errors import ConfigError, DatasetError
from trainer.evaluation.evaluate import Evaluation, evaluate_network, require_same_classes
from trainer.losses import SegmentationLoss
from trainer.precision import Precision
from trainer.progress import Reporter
from trainer.training.average import averaged_copy
from trainer.training.history import EpochRecord, best_epoch
from trainer.training.interrupt import Interrupt, StopRequested
from trainer.training.loop import Learner, RunningTotals, train_epoch
from trainer.training.optimise import build_optimizer, count_parameters, set_learning_rate
from trainer.training.pretrained import load_encoder_weights
from trainer.training.provenance import command_line, describe_checkpoint, now
from trainer.training.run_folder import Picture, RunFolder, saved_config
from trainer.training.state import Progress, load_state, restore, save_state
from trainer.training.tensorboard import require_tensorboard

logger = logging.getLogger(__name__)

STATE_EVERY_STEPS = 200


class Run:
    """One run folder and the objects that fill it; `execute` is the whole story."""

    def __init__(
        self,
        config: FitConfig,
        reporter: Reporter,
        interrupt: Interrupt,
        processes: Processes,
        device: torch.device,
    ) -> None:
        self.config = config
        self.reporter = reporter
        self.interrupt = interrupt
        self.processes = processes
        self.kept = RunFolder(config.out, writes=processes.first)
        self.folder = VocFolder.open(config.data, border=config.border)
        self.train_ids = self.folder.split(config.train_split)[: config.limit]
        self.val_ids = self.folder.split(config.val_split)[: config.limit]
        self.precision = Precision(device, use_bf16(device, config.precision))
        if config.tensorboard:
            require_tensorboard()
        torch.manual_seed(config.seed)
        network = build(
            config.arch,
            num_classes=len(self.folder.class_set),
            base_channels=config.base_channels,
        )
        self.spec = _input_spec(config, network)
        self.network: SegmentationNetwork = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.progress = Progress(started=now(), command=command_line())
        if not config.resume and processes.first:
            self.kept.require_unused()
        self.audit = self._audit()
        self.fingerprint = self.folder.fingerprint(self.train_ids)
        self.learner = self._learner()

    def _audit(self) -> TrainingAudit:
        """Problems of the dataset end the run here, before the first step."""
        if not self.processes.first:
            self.processes.wait()  # until the first has kept what it found
        self.reporter.begin("checking the dataset", total=len(self.train_ids) + len(self.val_ids))

        def on_image() -> None:
            self.interrupt.check()
            self.reporter.advance(1)

        audit = audit_for_training(
            self.folder,
            self.config.train_split,
            self.config.val_split,
            limit=self.config.limit,
            on_image=on_image,
            cache=self.kept.audit_path,
        )
        if self.processes.first:
            self.processes.wait()
        for note in audit.notes:
            logger.info("note: %s", note)
        return audit

    def _learner(self) -> Learner:
        recipe, device = self.config.recipe, self.precision.device
        self.processes.share_norms(self.network, device)
        network = self.processes.wrap(self.network, device)
        balanced = recipe.class_weights == "median_frequency"
        pretrained = bool(self.config.encoder_weights or self.config.init)
        return Learner(
            network=torch.compile(network) if self.config.compile else network,  # type: ignore[arg-type]
            optimizer=build_optimizer(self.network, recipe, pretrained=pretrained),
            loss=SegmentationLoss(
                recipe,
                ignore_index=self.folder.class_set.ignore_index,
                class_weights=median_frequency_weights(self.audit) if balanced else None,
                total=self.processes.total,
            ),
            spec=self.spec,
            precision=self.precision,
            averaged=averaged_copy(self.network, recipe.ema_decay) if recipe.ema_decay else None,
            clip_norm=recipe.clip_norm,
            freeze_batch_norm=recipe.freeze_batch_norm,
        )

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.train_ids) // self.config.batch_size)

    def execute(self) -> Evaluation | None:
        """Trains to the last epoch; returns the last validation, None when nothing was left."""
        self._prepare()
        evaluation = None
        while self.progress.epoch <= self.config.epochs and not self._stopped_early():
            try:
                self._train_epoch()
                evaluation = self._finish_epoch()
            except (StopRequested, DatasetError):
                self._save_state()  # both come between steps, where the state is whole
                raise
        return evaluation

    def _prepare(self) -> None:
        config = self.config
        if config.resume:
            self._resume()
        else:
            self._initialise()
        self.kept.write_config(config)
        if not config.resume:
            self._save_state()  # so that --resume works from the first step on
        logger.info(
            "%s, %.1f M parameters, %d classes, %d training and %d validation images, %s %s",
            config.arch,
            count_parameters(self.network) / 1e6,
            len(self.folder.class_set),
            len(self.train_ids),
            len(self.val_ids),
            self.precision.device,
            "bfloat16" if self.precision.bf16 else "float32",
        )

    def _initialise(self) -> None:
        if self.config.encoder_weights:
            path = load_encoder_weights(self.network, self.config.encoder_weights)
            logger.info("encoder weights from %s", path.name)
        if self.config.init:
            initial = load_checkpoint(self.config.init)
            require_same_classes(initial.manifest, self.folder, name=str(self.config.init))
            require_fit(initial.network.state_dict(), self._manifest(None), name="--init")
            self.network.load_state_dict(initial.network.state_dict())
            logger.info("weights from %s", self.config.init)

    def _resume(self) -> None:
        state = load_state(self.kept.state_path)
        differences = self.config.differences(saved_config(state))
        if differences:
            raise ConfigError("--resume: the run was started otherwise: " + "; ".join(differences))
        if state["fingerprint"] != self.fingerprint:
            raise ConfigError(
                f"--resume: --data {self.config.data} is not what the run was started on: the ids, "
                f"classes or masks of {self.config.train_split} were changed"
            )
        self.progress = restore(state, self.network, self.learner.averaged, self.learner.optimizer)
        logger.info(
            "resuming in epoch %d after %d batches", self.progress.epoch, self.progress.batches
        )

    def _train_epoch(self) -> None:
        """The rest of the epoch that `progress` stands in."""
        config, progress = self.config, self.progress
        done = min(progress.batches * config.batch_size, len(self.train_ids))
        self.reporter.begin(
            f"epoch {progress.epoch}/{config.epochs}", total=len(self.train_ids), done=done
        )
        began = time.monotonic()
        batches = training_loader(
            config,
            self.folder,
            self.train_ids,
            epoch=progress.epoch,
            skip=progress.batches,
            pin_memory=self.precision.device.type == "cuda",
            processes=self.processes,
        )
        train_epoch(
            self.learner,
            batches,
            progress.totals,
            before_step=self._set_learning_rate,
            after_step=self._after_step,
        )
        logger.info(
            "epoch %d/%d: train loss %.4f, accuracy %.4f, %.1f images/s",
            progress.epoch,
            config.epochs,
            progress.totals.mean_objective,
            progress.totals.accuracy,
            (len(self.train_ids) - done) / (time.monotonic() - began),
        )

    def _set_learning_rate(self) -> None:
        set_learning_rate(
            self.learner.optimizer,
            self.config.recipe,
            step=self.progress.step,
            total_steps=self.steps_per_epoch * self.config.epochs,
        )

    def _after_step(self, totals: RunningTotals) -> None:
        self.progress.step += 1
        self.progress.batches += 1
        self.reporter.advance(self.config.batch_size, loss=totals.mean_objective)
        if self.progress.step % STATE_EVERY_STEPS == 0:
            self._save_state()
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        """One process may have had the signal alone; all have to stop at the same step."""
        if self.processes.any(self.interrupt.requested, self.precision.device):
            raise StopRequested

    def _finish_epoch(self) -> Evaluation | None:
        """Validates, records and saves; afterwards `progress` stands at the next epoch."""
        progress, config = self.progress, self.config
        ends = progress.epoch == config.epochs
        keeps = ends or progress.epoch % config.checkpoint_every == 0
        validates = keeps or progress.epoch % config.validate_every == 0
        stored = self._stored_state()
        evaluation = self._validate(stored, draws=keeps) if validates else None
        self._record(evaluation)
        self._save_checkpoints(stored, evaluation, keeps=keeps)
        self.kept.write_history(progress.history, tensorboard=config.tensorboard)
        progress.epoch += 1
        progress.batches = 0
        progress.totals = RunningTotals()
        self._save_state()
        return evaluation

    def _record(self, evaluation: Evaluation | None) -> None:
        totals = self.progress.totals
        record = EpochRecord(
            epoch=self.progress.epoch,
            step=self.progress.step,
            learning_rate=self.learner.optimizer.param_groups[-1]["lr"],
            train_loss=totals.mean_objective,
            train_cross_entropy=totals.mean_cross_entropy,
            train_accuracy=totals.accuracy,
            val_loss=evaluation.loss if evaluation else None,
            val_accuracy=evaluation.matrix.pixel_accuracy() if evaluation else None,
            val_mean_iou=evaluation.matrix.mean_iou() if evaluation else None,
        )
        self.progress.history.append(record)
        if evaluation:
            logger.info(
                "epoch %d/%d: val loss %.4f, accuracy %.4f, mean IoU %.4f",
                record.epoch,
                self.config.epochs,
                record.val_loss,
                record.val_accuracy,
                record.val_mean_iou,
            )

    def _save_checkpoints(
        self, stored: Mapping[str, Tensor], evaluation: Evaluation | None, *, keeps: bool
    ) -> None:
        """`last` always, `best` when it is, and one that stays when `keeps`."""
        progress = self.progress
        names = ["last"]
        if best_epoch(progress.history) == progress.epoch:
            names.append("best")
        if keeps:
            names.append(f"epoch-{progress.epoch:03d}")
        metrics = evaluation.metrics(self.folder, self.config.val_split) if evaluation else None
        self.kept.save_checkpoints(names, stored, self._manifest(metrics), self.config)

    def _stopped_early(self) -> bool:
        """Judged at the last validation: epochs after it may have been better."""
        patience, best = self.config.early_stop, best_epoch(self.progress.history)
        if not patience or best is None:
            return False
        measured = [r.epoch for r in self.progress.history if r.val_mean_iou is not None]
        stops = measured[-1] - best >= patience
        if stops:
            logger.info("no better mean IoU since epoch %d: stopped early", best)
        return stops

    def _validate(self, stored: Mapping[str, Tensor], *, draws: bool) -> Evaluation:
        """Each validation image once, divided among the processes; the figures are of all."""
        config, processes = self.config, self.processes
        share = self.val_ids[processes.rank :: processes.world]
        pictured = set(self.val_ids[: config.samples]) if draws else set()
        pictures: list[Picture] = []
        self.reporter.begin("validation", total=len(share))

        def on_image(image_id: str, labels: Tensor, result: Tensor) -> None:
            if processes.world == 1:
                self._stop_if_asked()
            self.reporter.advance(1)
            if image_id in pictured:
                pictures.append(Picture(image_id, labels, result))

        network = copy.deepcopy(self.network)
        network.load_state_dict(stored)
        processes.share_state(network)  # batch statistics differ where each process has its own
        evaluation = evaluate_network(
            network,
            self.folder,
            share,
            self.spec,
            Precision(self.precision.device),
            workers=loader_processes(config),
            on_image=on_image,
        )
        for each in processes.gather(pictures):
            self.kept.save_pictures(self.progress.epoch, each, self.folder)
        total: Evaluation = reduce(add, processes.gather(evaluation))
        return total

    def _stored_state(self) -> dict[str, Tensor]:
        """What a checkpoint of now holds: the averaged weights where there are some, rounded as
        in the file, so that the figures are those of the file."""
        averaged = self.learner.averaged
        network = self.network if averaged is None else averaged.module
        return stored_state(network.state_dict(), self.config.weights_dtype)

    def _manifest(self, metrics: Metrics | None) -> Manifest:
        return describe_checkpoint(
            self.config,
            self.progress,
            class_set=self.folder.class_set,
            spec=self.spec,
            fingerprint=self.fingerprint,
            images_per_epoch=len(self.train_ids),
            metrics=metrics,
        )

    def _save_state(self) -> None:
        if self.processes.first:
            save_state(
                self.kept.state_path,
                self.network,
                self.learner.averaged,
                self.learner.optimizer,
                self.progress,
                self.config.to_json(),
                self.fingerprint,
            )


def _input_spec(config: FitConfig, network: SegmentationNetwork) -> InputSpec:
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
