"""Wires one training run: data, network, optimizer, loop, and the folder that keeps it all."""

import copy
import json
import logging
import time
from pathlib import Path

import torch
from torch import Tensor

from models import build, load_checkpoint, save_checkpoint
from models.atomic import write_bytes
from models.checkpoint import stored_state
from models.devices import choose_device, use_bf16
from models.manifest import InputSpec, Manifest, Metrics
from models.network import SegmentationNetwork
from models.weights import require_fit
from trainer.config import FitConfig
from trainer.dataset import VocFolder
from trainer.errors import ConfigError
from trainer.evaluate import Evaluation, evaluate_network, require_same_classes
from trainer.history import EpochRecord, write_history
from trainer.interrupt import Interrupt, StopRequested
from trainer.loader import loader_processes, training_loader
from trainer.loop import Precision, RunningTotals, train_epoch
from trainer.optimise import build_optimizer, count_parameters, set_learning_rate
from trainer.pretrained import load_encoder_weights
from trainer.progress import Reporter
from trainer.provenance import command_line, describe_checkpoint, now
from trainer.samples import save_comparison
from trainer.state import Progress, load_state, restore, save_state

logger = logging.getLogger(__name__)

STATE_EVERY_STEPS = 200


class Run:
    """One run folder and the objects that fill it; `execute` is the whole story."""

    def __init__(self, config: FitConfig, reporter: Reporter, interrupt: Interrupt) -> None:
        self.config = config
        self.reporter = reporter
        self.interrupt = interrupt
        self.folder = VocFolder.open(config.data, border=config.border)
        self.train_ids = self.folder.split(config.train_split)[: config.limit]
        self.val_ids = self.folder.split(config.val_split)[: config.limit]
        device = choose_device(config.device)
        self.precision = Precision(device, use_bf16(device, config.precision))
        torch.manual_seed(config.seed)
        network: SegmentationNetwork = build(
            config.arch,
            num_classes=len(self.folder.class_set),
            base_channels=config.base_channels,
        )
        if config.image_size <= network.stride:  # one pixel inside: batch norm needs two values
            raise ConfigError(
                f"--image-size {config.image_size}: {config.arch} needs more than {network.stride}"
            )
        self.spec = InputSpec(
            height=config.image_size,
            width=config.image_size,
            mean=network.mean,
            std=network.std,
            stride=network.stride,
        )
        self.network: SegmentationNetwork = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(network, config.recipe)
        self.progress = Progress(started=now(), command=command_line())
        self.fingerprint = self.folder.fingerprint(self.train_ids)

    @property
    def state_path(self) -> Path:
        return self.config.out / "state.pt"

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.train_ids) // self.config.batch_size)

    def execute(self) -> Evaluation | None:
        """Trains to the last epoch; returns the last validation, None when nothing was left."""
        self._prepare()
        evaluation = None
        while self.progress.epoch <= self.config.epochs:
            try:
                self._train_epoch()
                evaluation = self._finish_epoch()
            except StopRequested:
                self._save_state()
                raise
        return evaluation

    def _prepare(self) -> None:
        config = self.config
        config.out.mkdir(parents=True, exist_ok=True)
        if config.resume:
            self._resume()
        elif self.state_path.exists():
            raise ConfigError(
                f"--out {config.out}: already holds a run; continue it with --resume, or choose "
                "another folder"
            )
        else:
            self._initialise()
            self._save_state()  # so that --resume works from the first step on
        write_bytes(config.out / "config.json", config.to_json().encode())
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
        state = load_state(self.state_path)
        differences = self.config.differences(json.loads(state["config"]))
        if differences:
            raise ConfigError("--resume: the run was started otherwise: " + "; ".join(differences))
        if state["fingerprint"] != self.fingerprint:
            raise ConfigError(
                f"--resume: --data {self.config.data} is not what the run was started on: the ids, "
                f"classes or masks of {self.config.train_split} were changed"
            )
        self.progress = restore(state, self.network, self.optimizer)
        logger.info(
            "resuming in epoch %d after %d batches", self.progress.epoch, self.progress.batches
        )

    def _train_epoch(self) -> None:
        """The rest of the epoch that `progress` stands in."""
        config, progress = self.config, self.progress
        skip = progress.batches * config.batch_size
        self.reporter.begin(
            f"epoch {progress.epoch}/{config.epochs}", total=len(self.train_ids), done=skip
        )
        began = time.monotonic()
        train_epoch(
            self.network,
            training_loader(
                config,
                self.folder,
                self.train_ids,
                self.spec,
                epoch=progress.epoch,
                skip=skip,
                pin_memory=self.precision.device.type == "cuda",
            ),
            self.optimizer,
            self.spec,
            ignore_index=self.folder.class_set.ignore_index,
            precision=self.precision,
            totals=progress.totals,
            before_step=self._set_learning_rate,
            after_step=self._after_step,
        )
        images = len(self.train_ids) - skip
        logger.info(
            "epoch %d/%d: train loss %.4f, accuracy %.4f, %.1f images/s",
            progress.epoch,
            config.epochs,
            progress.totals.mean_loss,
            progress.totals.accuracy,
            images / (time.monotonic() - began),
        )

    def _set_learning_rate(self) -> None:
        set_learning_rate(
            self.optimizer,
            self.config.recipe,
            step=self.progress.step,
            total_steps=self.steps_per_epoch * self.config.epochs,
        )

    def _after_step(self, totals: RunningTotals) -> None:
        self.progress.step += 1
        self.progress.batches += 1
        self.reporter.advance(self.config.batch_size, loss=totals.mean_loss)
        if self.progress.step % STATE_EVERY_STEPS == 0:
            self._save_state()
        self.interrupt.check()

    def _finish_epoch(self) -> Evaluation:
        """Validates, records and saves; afterwards `progress` stands at the next epoch."""
        progress, config = self.progress, self.config
        keeps = progress.epoch % config.checkpoint_every == 0 or progress.epoch == config.epochs
        evaluation = self._validate(keeps)
        self._record(evaluation)
        self._save_checkpoints(evaluation, keeps)
        write_history(config.out, progress.history)
        progress.epoch += 1
        progress.batches = 0
        progress.totals = RunningTotals()
        self._save_state()
        return evaluation

    def _record(self, evaluation: Evaluation) -> None:
        record = EpochRecord(
            epoch=self.progress.epoch,
            step=self.progress.step,
            learning_rate=self.optimizer.param_groups[-1]["lr"],
            train_loss=self.progress.totals.mean_loss,
            train_accuracy=self.progress.totals.accuracy,
            val_loss=evaluation.loss,
            val_accuracy=evaluation.matrix.pixel_accuracy(),
            val_mean_iou=evaluation.matrix.mean_iou(),
        )
        self.progress.history.append(record)
        logger.info(
            "epoch %d/%d: val loss %.4f, accuracy %.4f, mean IoU %.4f",
            record.epoch,
            self.config.epochs,
            record.val_loss,
            record.val_accuracy,
            record.val_mean_iou,
        )

    def _save_checkpoints(self, evaluation: Evaluation, keeps: bool) -> None:
        """`last` always, `best` when it is, and one that stays when `keeps`."""
        progress, config = self.progress, self.config
        names = ["last"]
        score = evaluation.matrix.mean_iou()
        if score > progress.best_score or len(progress.history) == 1:
            progress.best_score = max(score, progress.best_score)  # NaN compares as not greater
            names.append("best")
        if keeps:
            names.append(f"epoch-{progress.epoch:03d}")
        manifest = self._manifest(evaluation.metrics(self.folder, config.val_split))
        for name in names:
            save_checkpoint(
                config.out / "checkpoints" / f"{name}.pth",
                self.network.state_dict(),
                manifest,
                dtype=config.weights_dtype,
            )

    def _validate(self, draws: bool) -> Evaluation:
        config = self.config
        pictured = set(self.val_ids[: config.samples]) if draws else set()
        folder = config.out / "samples" / f"epoch-{self.progress.epoch:03d}"
        self.reporter.begin("validation", total=len(self.val_ids))

        def on_image(image_id: str, labels: Tensor, result: Tensor) -> None:
            self.interrupt.check()
            self.reporter.advance(1)
            if image_id in pictured:
                image = self.folder.read_image(image_id)
                path = folder / f"{image_id.replace(':', '-')}.png"
                save_comparison(path, image, labels, result, self.folder.class_set)

        return evaluate_network(
            self._stored_network(),
            self.folder,
            self.val_ids,
            self.spec,
            Precision(self.precision.device),
            workers=loader_processes(config),
            on_image=on_image,
        )

    def _stored_network(self) -> SegmentationNetwork:
        """What a checkpoint of now holds, so that its figures are those of the file."""
        stored = copy.deepcopy(self.network)
        stored.load_state_dict(stored_state(self.network.state_dict(), self.config.weights_dtype))
        return stored

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
        save_state(
            self.state_path,
            self.network,
            self.optimizer,
            self.progress,
            self.config.to_json(),
            self.fingerprint,
        )
