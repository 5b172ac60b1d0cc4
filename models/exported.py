"""What an exported network says of itself, so that it is recognised without its checkpoint."""

import json
from typing import Any

RUNTIME_INFO = "segmentation"  # the section of an OpenVINO file's runtime information
CHECKPOINT_SHA256 = "checkpoint_sha256"


def checkpoint_sha256(model: Any) -> str | None:
    """Of the checkpoint that an OpenVINO model was made from; None where it does not say."""
    path = [RUNTIME_INFO, CHECKPOINT_SHA256]
    if not model.has_rt_info(path):
        return None
    digest = json.loads(model.get_rt_info(path).astype(str))
    return digest if isinstance(digest, str) else None


def is_int8(model: Any) -> bool:
    """Whether an OpenVINO model is quantised: its graph then clips activations to their ranges."""
    return any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())
