"""What a resumed run goes on from."""

import json
from typing import Any

from trainer.config import FitConfig
from trainer.errors import ConfigError
from trainer.training.run_data import RunData
from trainer.training.run_folder import RunFolder
from trainer.training.state import load_state


def state_to_resume(config: FitConfig, kept: RunFolder, data: RunData) -> dict[str, Any]:
    """The state to go on from; refused before anything is written when it is another run's."""
    state = load_state(kept.state_path)
    differences = config.differences(json.loads(state["config"]))
    if differences:
        raise ConfigError("--resume: the run was started otherwise: " + "; ".join(differences))
    if state["fingerprint"] != data.state(config):
        raise ConfigError(
            f"--resume: --data {config.data} is not what the run was started on: ids, "
            f"classes, masks or images of {config.train_split} or {config.val_split} were changed"
        )
    return state
