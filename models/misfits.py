"""How the tensors of a file differ from those of a network, key by key."""

from collections.abc import Mapping

from torch import Tensor

MAX_LISTED_KEYS = 40


def list_misfits(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Every missing key, other shape and surplus key in words; empty when the state fits."""
    misfits = []
    for key, tensor in expected.items():
        if key not in state:
            if not key.endswith("num_batches_tracked"):  # absent from files of torch < 0.4.1
                misfits.append(f"{key} is missing")
        elif state[key].shape != tensor.shape:
            misfits.append(
                f"{key} is {tuple(state[key].shape)} in the checkpoint, "
                f"{tuple(tensor.shape)} in the model"
            )
    misfits += [f"{key} is not in the model" for key in state if key not in expected]
    left_out = len(misfits) - MAX_LISTED_KEYS
    if left_out > 0:
        misfits = [*misfits[:MAX_LISTED_KEYS], f"and {left_out} more"]
    return misfits
