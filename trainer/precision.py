"""How a pass through a network computes."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """How a step computes: the device, and bf16 autocast where the hardware has it."""

    device: torch.device
    bf16: bool = False

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)
