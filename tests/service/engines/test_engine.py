"""What the errors of engines mean."""

import pytest
import torch

from service.engines.engine import is_out_of_memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("Exception from core.cpp:117:\nstd::bad_alloc"), True),
        (RuntimeError("Exception from plugin.cpp:54:\ncan't alloc"), True),
        (RuntimeError("Exception from plugin.cpp:54:\nstd::future_error: Broken promise"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_known_by_each_runtime_s_words(
    error: Exception, expected: bool
) -> None:
    assert is_out_of_memory(error) is expected
