"""OpenVINO: the fastest way on CPUs, in float32, bfloat16 or int8. An optional package."""

import warnings
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.jit._recursive import concrete_type_store

from models.devices import usable_cores
from models.manifest import InputSpec
from models.network import SegmentationNetwork
from models.private_import import import_private

HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVINOEngine:
    """`model` maps normalised images (N, 3, h, w) to logits (N, K, h, w), as `convert` makes it.

    It is compiled twice: to use every core for one pass, which answers soonest, and to run a
    pass for each group of cores side by side, which answers most. Normalisation becomes
    part of its graph.
    """

    device = torch.device("cpu")

    def __init__(self, model: Any, spec: InputSpec, *, precision: str, arithmetic: str) -> None:
        """`precision` is the name to show, `arithmetic` what is not int8 is computed in."""
        self.name = f"openvino {precision}"
        self.precision = precision
        self.spec = spec
        self._graph = _with_ends(model, spec, arithmetic)
        self._arithmetic = HINTS[arithmetic]
        self._passes: dict[tuple[int, bool], _Requests] = {}
        self.lanes = self._requests(1, alone=False).count

    def warm_up(self, count: int) -> None:
        blank = torch.zeros(count, 3, self.spec.height, self.spec.width, dtype=torch.uint8)
        self.run(blank, alone=False)
        if count == 1:  # several images run the same way either way
            self.run(blank, alone=True)

    def forget(self, count: int) -> None:
        for alone in (True, False):
            self._passes.pop((count, alone), None)

    def run(self, pixels: Tensor, *, alone: bool) -> Tensor:
        images = np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())  # (N, h, w, 3)
        return self._requests(len(images), alone=alone).infer(images)

    def close(self) -> None:
        self._passes.clear()
        self._graph = None

    def _requests(self, count: int, *, alone: bool) -> "_Requests":
        # several images are work for several cores anyway
        key = count, alone and count == 1
        if key not in self._passes:
            # a stream whose pass has ended begins the next, whoever holds Python's lock then
            ahead = 0 if alone else 1
            self._passes[key] = _Requests(self._compile(*key), ahead=ahead)
        return self._passes[key]

    def _compile(self, count: int, alone: bool) -> Any:
        graph = self._graph.clone()
        graph.reshape([count, self.spec.height, self.spec.width, 3])
        return _core().compile_model(
            graph,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY" if alone else "THROUGHPUT",
                "INFERENCE_PRECISION_HINT": self._arithmetic,
                "INFERENCE_NUM_THREADS": usable_cores(),
                "ENABLE_CPU_PINNING": False,  # the cores also decode and encode
            },
        )


class _Requests:
    """A compiled model, and as many requests as it runs well at a time, and those `ahead`."""

    def __init__(self, compiled: Any, *, ahead: int) -> None:
        self.count: int = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + ahead
        openvino = import_private("openvino")
        self._tensor = openvino.Tensor
        output = compiled.output(0)
        self._shape, self._type = list(output.shape), output.element_type
        is_bfloat16 = self._type == openvino.Type.bf16
        self._dtype = torch.bfloat16 if is_bfloat16 else torch.float32
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.count):
            self._free.put(compiled.create_infer_request())

    def infer(self, images: "np.ndarray[Any, np.dtype[np.uint8]]") -> Tensor:
        request = self._free.get()
        try:
            logits = torch.empty(self._shape, dtype=self._dtype)  # (N, h, w, K)
            # written there: the request's own memory would take its next answer as well
            memory = logits.view(torch.uint8).numpy()  # NumPy has no bfloat16
            request.set_output_tensor(0, self._tensor(memory, self._shape, self._type))
            request.set_input_tensor(0, self._tensor(images, shared_memory=True))
            # left to itself it returns a copy of them, made while it holds Python's lock
            request.infer(share_outputs=True)
            return logits.permute(0, 3, 1, 2)
        finally:
            self._free.put(request)


def convert(network: SegmentationNetwork) -> Any:
    """The network as an OpenVINO model for any batch, height and width."""
    openvino = import_private("openvino")
    side = 4 * network.stride
    example = torch.zeros(1, network.in_channels, side, side)
    with warnings.catch_warnings(), torch.inference_mode():
        # torch.export takes three times as long to trace and to convert
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        model = openvino.convert_model(
            traced, example_input=example, input=[-1, network.in_channels, -1, -1]
        )
    del traced
    _forget_traces()
    return model


def _forget_traces() -> None:
    """PyTorch keeps the code of what was ever traced, and a class for each of its modules,
    megabytes each time; nothing here runs it."""
    torch._C._jit_clear_class_registry()
    concrete_type_store.methods_compiled.clear()


def read(path: Path) -> Any:
    return _core().read_model(path)


@cache
def _core() -> Any:
    """Kept to the end of the process: its CPU plugin has given this thread a stack for signals,
    and frees it when it is unloaded; the next signal would end the process."""
    core = import_private("openvino").Core()
    # weights are read, not mapped: a file that is cut off later would end the process as well
    core.set_property({"ENABLE_MMAP": False})
    return core


def _with_ends(model: Any, spec: InputSpec, arithmetic: str) -> Any:
    """uint8 (N, h, w, 3), as images are decoded, -> logits (N, ~h, ~w, K), as convolutions leave
    them: to bring them into planes takes OpenVINO twice as long as softmax.h takes for all."""
    openvino, preprocess = import_private("openvino"), import_private("openvino.preprocess")
    model = model.clone()  # whose nodes are put to use
    logits = _native(model.outputs[0].get_node().input_value(0))
    channels_last = openvino.opset13.transpose(logits, np.array([0, 2, 3, 1]))
    graph = openvino.Model([channels_last.output(0)], model.get_parameters(), "segmentation")
    ends = preprocess.PrePostProcessor(graph)
    ends.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    ends.input().model().set_layout(openvino.Layout("NCHW"))
    steps = ends.input().preprocess().convert_element_type(openvino.Type.f32)
    steps.mean([255 * value for value in spec.mean]).scale([255 * value for value in spec.std])
    if arithmetic == "bfloat16":
        ends.output().tensor().set_element_type(openvino.Type.bf16)
    return ends.build()


def _native(logits: Any) -> Any:
    """`SegmentationNetwork.native_logits` of a model that was converted, or calibrated, whole."""
    last = logits.get_node()
    return last.input_value(0) if last.get_type_name() == "Interpolate" else logits
