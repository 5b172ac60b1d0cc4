"""Ray Serve, as its documentation's pages "Serve a Text Generator with Request Batching" and
"Dynamic Request Batching" show it: a deployment with a replica for each core and `serve.batch`."""

# mypy: disable-error-code="attr-defined,import-not-found,untyped-decorator"

import io
import os
import time

import ray
import torch
from PIL import Image
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.serving.peers.network import (
    BATCH_WAIT_S,
    MAX_BATCH,
    PORT,
    Network,
    png,
    workers,
)


@serve.deployment(num_replicas=workers(), ray_actor_options={"num_cpus": 1})
class Segmentation:
    """Uploads are gathered into batches, each of which is answered at once."""

    def __init__(self) -> None:
        self.network = Network()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)
    async def segment(self, contents: list[bytes]) -> list[bytes]:
        images = [Image.open(io.BytesIO(content)) for content in contents]
        inputs = torch.stack([self.network.input_of(image) for image in images])
        logits = self.network.logits(inputs)
        return [
            png(self.network.mask(logits[index], image.width, image.height))
            for index, image in enumerate(images)
        ]

    async def __call__(self, request: Request) -> Response:
        if request.method == "GET":
            return Response("ready")  # the proxy's own health says nothing of the replicas
        return Response(await self.segment(await request.body()), media_type="image/png")


def main() -> None:
    ray.init(include_dashboard=False, num_cpus=workers(), log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ[PORT])})
    serve.run(Segmentation.bind())
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
