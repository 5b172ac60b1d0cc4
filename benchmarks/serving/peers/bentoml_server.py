"""BentoML, as its documentation's pages "Define input and output types" and "Parallelize requests
handling" show it: an image in, an image out, a worker process for each core.

Its adaptive batching needs a second service, between which images or logits would be copied from
process to process; on processors a batch saves less than that costs.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator"

import bentoml
from PIL.Image import Image

from benchmarks.serving.peers.network import Network, workers


@bentoml.service(workers=workers(), traffic={"timeout": 300})
class Segmentation:
    """An upload's image through the network."""

    def __init__(self) -> None:
        self.network = Network()

    @bentoml.api(route="/segment")
    def segment(self, file: Image) -> Image:
        logits = self.network.logits(self.network.input_of(file)[None])[0]
        return self.network.mask(logits, file.width, file.height)
