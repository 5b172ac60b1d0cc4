"""LitServe, as its documentation's pages "LitAPI", "Batching" and "Request, response format" show
it: an API with its four steps, batches, and a worker for each core."""

# mypy: disable-error-code="import-not-found,misc,index,attr-defined"

import io
import os
from typing import Any

import litserve as ls
import torch
from fastapi import Request, Response
from PIL import Image
from torch import Tensor

from benchmarks.serving.peers.network import (
    BATCH_WAIT_S,
    MAX_BATCH,
    PORT,
    Network,
    png,
    workers,
)

Input = tuple[Tensor, tuple[int, int]]


class SegmentationAPI(ls.LitAPI):
    """An upload's image through the network, one batch at a time."""

    def setup(self, device: str) -> None:
        self.network = Network()

    def decode_request(self, request: Request) -> Input:
        image = Image.open(io.BytesIO(request["file"].file.read()))
        return self.network.input_of(image), image.size

    def batch(self, inputs: list[Input]) -> tuple[Tensor, list[tuple[int, int]]]:
        return torch.stack([pixels for pixels, _ in inputs]), [size for _, size in inputs]

    def predict(self, batch: tuple[Tensor, list[tuple[int, int]]]) -> list[Any]:
        pixels, sizes = batch
        return list(zip(self.network.logits(pixels), sizes, strict=True))

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: tuple[Tensor, tuple[int, int]]) -> Response:
        logits, (width, height) = output
        return Response(png(self.network.mask(logits, width, height)), media_type="image/png")


def main() -> None:
    api = SegmentationAPI(max_batch_size=MAX_BATCH, batch_timeout=BATCH_WAIT_S)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=workers())
    server.run(
        host="127.0.0.1",
        port=int(os.environ[PORT]),
        generate_client_file=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
