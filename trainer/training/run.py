"""Wires one training run: data, network, optimizer, loop, and the folder that keeps it all."""

import copy
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from models.checkpoint import stored_state
from models.manifest import Manifest, Metrics
from trainer.config import FitConfig
from trainer.data.class_weights import median_frequency_weights
from trainer.data.loader import TrainingLoader, loader_processes
from trainer.data.training_set import Sample
from trainer.distributed import Processes
from trainer.errors import DatasetError, WorkerError
from trainer.evaluation.evaluate import Evaluation
from trainer.precision import Precision
from trainer.progress import Reporter
from trainer.reading import read_batches
from trainer.training.history import EpochRecord, best_epoch
from trainer.training.interrupt import Interrupt, StopRequested
from trainer.training.loop import RunningTotals, train_epoch
from trainer.training.optimise import count_parameters, set_learning_rate
from trainer.training.prepare import (
    build_learner,
    build_network,
    check_dataset,
    input_spec,
    load_starting_weights,
    settle,
)
from trainer.training.provenance import command_line, describe_checkpoint, now
from trainer.training.resume import state_to_resume
from trainer.training.run_data import RunData
from trainer.training.run_folder import Picture, RunFolder, saved_config
from trainer.training.state import Progress, restore, save_state
from trainer.training.tensorboard import require_tensorboard
from trainer.training.validate import validate

logger = logging.getLogger(__name__)

T = TypeVar("T")

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
        self.device = device
        self.kept = RunFolder(config.out, writes=processes.first)
        self.data, state = self._together(self._open)
        saved = None if state is None else saved_config(state)
        self.config = config = settle(config, saved, device, world=processes.world)
        self.precision = Precision(device, bf16=config.precision == "bfloat16")
        class_set = self.data.folder.class_set
        self.network = build_network(config, len(class_set), processes, device)
        self.spec = input_spec(config, self.network)
        self.loader = TrainingLoader(
            config, self.data.folder, self.data.train_ids, device=device, processes=processes
        )
        self.progress = Progress(started=now(), command=command_line())
        images = len(self.data.train_ids) + len(self.data.val_ids)
        reporter.begin("checking the dataset", total=images)
        audit = check_dataset(
            config, self.data, self.kept, processes, device, self._on_checked_image
        )
        self.fingerprint = self._together(self.data.fingerprint)
        self.data_state = self._together(lambda: self.data.state(config))
        balanced = config.recipe.class_weights == "median_frequency"
        self.learner = build_learner(
            config,
            self.network,
            self.spec,
            self.precision,
            processes,
            ignore_index=class_set.ignore_index,
            class_weights=median_frequency_weights(audit) if balanced else None,
        )
        if state is not None:
            self._restore(state)

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.data.train_ids) // self.config.batch_size)

    def execute(self) -> Evaluation | None:
        """Trains to the last epoch; returns the last validation, None when nothing was left."""
        self._together(self._prepare)
        evaluation = None
        while self.progress.epoch <= self.config.epochs and not self._stopped_early():
            try:
                self._train_epoch()
                evaluation = self._finish_epoch()
            except (StopRequested, DatasetError, WorkerError):
                self._save_state()  # all come between steps, where the state is whole
                raise
        return evaluation

    def _together(self, work: Callable[[], T]) -> T:
        """What fails in one process ends all of them, by the same error."""
        return self.processes.together(work, self.device)

    def _open(self) -> tuple[RunData, dict[str, Any] | None]:
        """The data, and the state to go on from."""
        config = self.config
        data = RunData.open(config)
        if config.tensorboard:
            require_tensorboard()
        if config.resume:
            return data, state_to_resume(config, self.kept, data)
        if self.processes.first:
            self.kept.require_unused()
        return data, None

    def _prepare(self) -> None:
        config = self.config
        if not config.resume:
            load_starting_weights(config, self.network, self.data.folder, self._manifest(None))
        self.kept.write_config(config)
        if not config.resume:
            self._save_state()  # so that --resume works from the first step on
        logger.info(
            "%s, %.1f M parameters, %d classes, %d training and %d validation images, %s %s",
            config.arch,
            count_parameters(self.network) / 1e6,
            len(self.data.folder.class_set),
            len(self.data.train_ids),
            len(self.data.val_ids),
            self.precision.device,
            "bfloat16" if self.precision.bf16 else "float32",
        )

    def _on_checked_image(self) -> None:
        self.interrupt.check()
        self.reporter.advance(1)

    def _restore(self, state: dict[str, Any]) -> None:
        self.progress = restore(state, self.network, self.learner.averaged, self.learner.optimizer)
        self.progress.resumed_by = command_line()
        logger.info(
            "resuming in epoch %d after %d batches", self.progress.epoch, self.progress.batches
        )

    def _train_epoch(self) -> None:
        """The rest of the epoch that `progress` stands in."""
        config, progress = self.config, self.progress
        images = len(self.data.train_ids)
        done = min(progress.batches * config.batch_size, images)
        self.reporter.begin(f"epoch {progress.epoch}/{config.epochs}", total=images, done=done)
        began = time.monotonic()
        train_epoch(
            self.learner,
            self._batches(),
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
            (images - done) / (time.monotonic() - began),
        )

    def _batches(self) -> Iterator[Sample]:
        """The rest of the epoch. Between two steps the processes meet, and all of them stop where
        one has had a signal, an image that cannot be read, or no room for the state."""
        progress = self.progress
        batches = read_batches(self.loader.epoch(progress.epoch, skip=progress.batches))

        def between_steps() -> Sample | None:
            if progress.batches and progress.step % STATE_EVERY_STEPS == 0:
                self._save_state()
            self.interrupt.check()
            return next(batches, None)

        while (batch := self._together(between_steps)) is not None:
            yield batch

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

    def _finish_epoch(self) -> Evaluation | None:
        """Validates, records and saves; afterwards `progress` stands at the next epoch."""
        progress, config = self.progress, self.config
        ends = progress.epoch == config.epochs
        keeps = ends or progress.epoch % config.checkpoint_every == 0
        validates = keeps or progress.epoch % config.validate_every == 0
        stored = self._stored_state()
        evaluation = self._validate(stored, draws=keeps) if validates else None
        self._together(lambda: self._keep(stored, evaluation, keeps=keeps))
        return evaluation

    def _keep(
        self, stored: Mapping[str, Tensor], evaluation: Evaluation | None, *, keeps: bool
    ) -> None:
        progress = self.progress
        self._record(evaluation)
        self._save_checkpoints(stored, evaluation, keeps=keeps)
        self.kept.write_history(progress.history, tensorboard=self.config.tensorboard)
        progress.epoch += 1
        progress.batches = 0
        progress.totals = RunningTotals()
        self._save_state()

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
        metrics = (
            evaluation.metrics(self.data.folder, self.config.val_split) if evaluation else None
        )
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
        share = self.processes.share_of(self.data.val_ids)
        self.reporter.begin("validation", total=len(share))

        def on_image() -> None:
            self.interrupt.check()
            self.reporter.advance(1)

        network = copy.deepcopy(self.network)
        network.load_state_dict(stored)
        evaluation, pictures = validate(
            network,
            self.data.folder,
            share,
            self.spec,
            self.device,
            self.processes,
            workers=loader_processes(self.config, self.device, self.processes.world),
            pictured=set(self.data.val_ids[: self.config.samples]) if draws else set(),
            on_image=on_image,
        )
        self._together(lambda: self._save_pictures(pictures))
        return evaluation

    def _save_pictures(self, pictures: list[Picture]) -> None:
        self.kept.save_pictures(self.progress.epoch, pictures, self.data.folder)

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
            class_set=self.data.folder.class_set,
            spec=self.spec,
            fingerprint=self.fingerprint,
            images_per_epoch=len(self.data.train_ids),
            metrics=metrics,
            processes=self.processes.world,
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
                self.data_state,
            )
