"""What the processor is good at, in the words of its maker."""

import torch

FEATURES = {
    "amx_bf16": "AMX-BF16",
    "avx512_bf16": "AVX512-BF16",
    "amx_int8": "AMX-INT8",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
}
INT8 = ("AMX-INT8", "AVX512-VNNI", "AVX-VNNI")
BF16 = ("AMX-BF16", "AVX512-BF16")


def features() -> list[str]:
    """Those that decide which precision is fast; none where PyTorch does not tell."""
    # absent from older releases of torch
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return [name for key, name in FEATURES.items() if capabilities.get(key)]


def bf16_features() -> list[str]:
    """What makes bfloat16 fast here."""
    return [name for name in features() if name in BF16]


def int8_feature() -> str | None:
    """What makes int8 fast here, None where nothing does."""
    return next((name for name in features() if name in INT8), None)
