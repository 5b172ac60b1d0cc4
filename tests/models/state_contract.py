"""Keys and shapes of existing checkpoints, spelled out from the design and not from the code."""

Shapes = dict[str, tuple[int, ...]]


def convolution(prefix: str, *weight: int, bias: int) -> Shapes:
    return {f"{prefix}.weight": weight, f"{prefix}.bias": (bias,)}


def batch_norm(prefix: str, channels: int) -> Shapes:
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {
        **{f"{prefix}.{name}": (channels,) for name in vectors},
        f"{prefix}.num_batches_tracked": (),
    }


def conv(prefix: str, before: int, after: int) -> Shapes:
    """The report's `conv(i, o)`: 3x3, BN, ReLU, 3x3, BN, ReLU in one Sequential."""
    return {
        **convolution(f"{prefix}.0", after, before, 3, 3, bias=after),
        **batch_norm(f"{prefix}.1", after),
        **convolution(f"{prefix}.3", after, after, 3, 3, bias=after),
        **batch_norm(f"{prefix}.4", after),
    }
