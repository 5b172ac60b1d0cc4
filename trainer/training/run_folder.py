"""The folder that keeps a run: configuration, state, checkpoints, history, samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from models import save_checkpoint
from models.atomic import remove_leftovers, write_bytes
from models.manifest import Manifest
from trainer.config import FitConfig
from trainer.data.dataset import VocFolder
from trainer.errors import ConfigError
from trainer.pictures.samples import file_name, save_comparison
from trainer.training.history import EpochRecord, write_history
from trainer.training.tensorboard import write_scalars


@dataclass(frozen=True)
class Picture:
    """A validation image's labels and what the network made of them, uint8 (H, W) each."""

    image_id: str
    labels: Tensor
    result: Tensor


@dataclass(frozen=True)
class RunFolder:
    """Every write of a run goes through here; only one process `writes`."""

    path: Path
    writes: bool = True

    @property
    def state_path(self) -> Path:
        return self.path / "state.pt"

    @property
    def audit_path(self) -> Path:
        return self.path / "audit.json"

    @property
    def best_path(self) -> Path:
        return self.path / "checkpoints" / "best.pth"

    @property
    def last_path(self) -> Path:
        return self.path / "checkpoints" / "last.pth"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    def require_unused(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--out {self.path}: is a file, not a folder")
        if self.state_path.exists():
            raise ConfigError(
                f"--out {self.path}: already holds a run; continue it with --resume, or choose "
                "another folder"
            )

    def write_config(self, config: FitConfig) -> None:
        if self.writes:
            self.path.mkdir(parents=True, exist_ok=True)
            for folder in (self.path, self.path / "checkpoints"):
                remove_leftovers(folder)
            write_bytes(self.path / "config.json", config.to_json().encode())

    def save_checkpoints(
        self, names: list[str], state: Mapping[str, Tensor], manifest: Manifest, config: FitConfig
    ) -> None:
        if not self.writes:
            return
        for name in names:
            path = self.path / "checkpoints" / f"{name}.pth"
            save_checkpoint(path, state, manifest, dtype=config.weights_dtype)

    def write_history(self, history: list[EpochRecord], *, tensorboard: bool) -> None:
        if not self.writes:
            return
        write_history(self.path, history)
        if tensorboard:
            write_scalars(self.path / "tensorboard", history[-1])

    def save_pictures(self, epoch: int, pictures: list[Picture], folder: VocFolder) -> None:
        if not self.writes:
            return
        target = self.path / "samples" / f"epoch-{epoch:03d}"
        for picture in pictures:
            path = target / f"{file_name(picture.image_id)}.png"
            image = folder.read_image(picture.image_id)
            save_comparison(path, image, picture.labels, picture.result, folder.class_set)

    def latest_samples(self, limit: int) -> list[Path]:
        """The first of the pictures drawn with the last kept checkpoint."""
        epochs = sorted((self.path / "samples").glob("epoch-*"))
        return sorted(epochs[-1].glob("*.png"))[:limit] if epochs else []


def saved_config(state: Mapping[str, object]) -> FitConfig:
    """The configuration inside a loaded `state.pt`."""
    return FitConfig.from_json(str(state["config"]))
