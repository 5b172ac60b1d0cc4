"""The labelled images of a run."""

from dataclasses import dataclass

from trainer.config import FitConfig
from trainer.data.audit_cache import state_of
from trainer.data.dataset import VocFolder


@dataclass(frozen=True)
class RunData:
    """A folder and the ids of both splits, no more of them than the run is limited to."""

    folder: VocFolder
    train_ids: list[str]
    val_ids: list[str]

    @classmethod
    def open(cls, config: FitConfig) -> "RunData":
        folder = VocFolder.open(config.data, border=config.border)
        train, val = (folder.split(name) for name in (config.train_split, config.val_split))
        return cls(folder, train[: config.limit], val[: config.limit])

    def fingerprint(self) -> str:
        """Of what is trained on, for the checkpoints."""
        return self.folder.fingerprint(self.train_ids)

    def state(self, config: FitConfig) -> str:
        """Of all that a resumed run must find as it was."""
        splits = {config.train_split: self.train_ids, config.val_split: self.val_ids}
        return state_of(self.folder, splits)
