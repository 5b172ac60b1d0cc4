"""Keeping the audit before training, so that resuming a run does not repeat it."""

import hashlib
import json
from pathlib import Path
from typing import Any

from models.atomic import write_bytes
from trainer.data.dataset import VocFolder
from trainer.data.findings import SplitIds

FORMAT = 1


def state_of(folder: VocFolder, ids: SplitIds) -> str:
    """sha256 over splits, classes, masks, and names and sizes of the images."""
    digest = hashlib.sha256(f"{FORMAT} {folder.border_id} {sorted(ids)}".encode())
    for members in ids.values():
        digest.update(folder.fingerprint(members).encode())
        for image_id in members:
            path = folder.image_path(image_id)
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def read_cache(path: Path, state: str) -> dict[str, Any] | None:
    """What `write_cache` stored for this state; None where there is nothing usable."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["state"] == state and isinstance(content["audit"], dict):
            return dict(content["audit"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # absent, or damaged: the audit is made again
    return None


def write_cache(path: Path, state: str, audit: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, json.dumps({"state": state, "audit": audit}).encode())
