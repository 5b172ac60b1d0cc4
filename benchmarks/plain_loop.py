"""Training as a first script has it: Pillow, a Python loop over the label's pixels, float32."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from trainer.data.dataset import VocFolder


class PlainSet(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of (float32 (3, size, size) in 0..1, int64 (size, size))."""

    def __init__(self, folder: VocFolder, ids: list[str], size: int) -> None:
        self.paths = [(folder.image_path(i), folder.mask_path(i)) for i in ids]
        self.size = size
        self.ids = {entry.color: entry.id for entry in folder.class_set.classes}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.paths[index]
        return self._image(image), self._label(label)

    def _image(self, path: Path) -> Tensor:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.asarray(resized) / 255).permute(2, 0, 1).float()

    def _label(self, path: Path) -> Tensor:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((self.size, self.size), Image.Resampling.NEAREST)
        label = torch.zeros(self.size, self.size, dtype=torch.int64)
        pixels = np.asarray(resized)
        for y in range(self.size):
            for x in range(self.size):
                red, green, blue = pixels[y, x]
                label[y, x] = self.ids.get((int(red), int(green), int(blue)), 0)
        return label


class PlainLoop:
    """A network of its own, Adam and cross entropy; `batches` goes round the images for ever."""

    def __init__(
        self, network: nn.Module, folder: VocFolder, ids: list[str], *, size: int, batch_size: int
    ) -> None:
        self.network = network.train()
        self.optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        self.loss = nn.CrossEntropyLoss()
        self.loader = DataLoader(
            PlainSet(folder, ids, size), batch_size=batch_size, shuffle=True, drop_last=True
        )

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader

    def step(self, images: Tensor, labels: Tensor, device: torch.device) -> None:
        loss = self.loss(self.network(images.to(device)), labels.to(device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
