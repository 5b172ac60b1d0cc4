"""OpenVINO, where it is installed: the network converted once, compiled for each way to run it."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.serving.machine import cores
from models.calibration import quantised
from trainer.export.packages import load_package, quiet

CALIBRATION = 50
ROUNDS = 3  # batches of a stream until all streams are waited for
HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoLoop:
    """ConfigError, naming the package, when one is absent. int8 is calibrated once on `inputs` and
    kept in `cache`; what it leaves in floats is bfloat16 with `bf16`."""

    def __init__(self, network: nn.Module, inputs: Tensor, cache: Path, *, bf16: bool) -> None:
        self.network = network
        self.inputs = inputs
        self.cache = cache
        self.hints = {**HINTS, "int8": "bf16" if bf16 else "f32"}

    def prepare(self, images: Tensor, precision: str, streams: int) -> Callable[[], int]:
        """Passes over batches (N, 3, h, w), `streams` of them at a time; it returns its images."""
        openvino = load_package("openvino", wanted_by="openvino")
        model = self._int8() if precision == "int8" else self._converted.clone()
        model.reshape(list(images.shape))
        options = {
            "INFERENCE_PRECISION_HINT": self.hints[precision],
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": cores(),
        }
        compiled = openvino.Core().compile_model(model, "CPU", options)
        content = images.contiguous().numpy()
        queue = openvino.AsyncInferQueue(compiled, streams)

        def run() -> int:
            # several for each stream: none waits for the slowest of every round
            for _ in range(ROUNDS * streams):
                queue.start_async({0: content})
            queue.wait_all()
            return len(content) * ROUNDS * streams

        return run

    @cached_property
    def _converted(self) -> Any:
        openvino = load_package("openvino", wanted_by="openvino")
        with quiet(), torch.no_grad():
            return openvino.convert_model(self.network.eval(), example_input=self.inputs[:1])

    def _int8(self) -> Any:
        openvino = load_package("openvino", wanted_by="openvino-int8")
        if not self.cache.exists():
            load_package("nncf", wanted_by="openvino-int8")
            inputs = [image[None] for image in self.inputs[:CALIBRATION]]
            with quiet():
                model = quantised(self._converted.clone(), inputs, len(inputs))
            openvino.save_model(model, str(self.cache), compress_to_fp16=False)
        return openvino.Core().read_model(str(self.cache))
