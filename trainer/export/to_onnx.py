"""ONNX, with the classes and the normalisation in the file's own metadata."""

import json
from pathlib import Path

import torch
from torch import Tensor

from models import Checkpoint
from models.network import Forward
from trainer.export.packages import load_package, quiet
from trainer.export.record import metadata
from trainer.export.to_torch import trace

INPUT, OUTPUT = "images", "logits"


def write_onnx(checkpoint: Checkpoint, path: Path, *, wanted_by: str = "onnx") -> None:
    onnx = load_package("onnx", wanted_by=wanted_by)
    load_package("onnxscript", wanted_by=wanted_by)
    program = trace(checkpoint.network)
    with quiet():
        exported = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT]
        )
    if exported is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    model = exported.model_proto
    # the sizes in between are named after the tracer's symbols; a runtime infers them itself
    del model.graph.value_info[:]
    for value in (model.graph.input[0], model.graph.output[0]):
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    texts = {key: json.dumps(value) for key, value in metadata(checkpoint.manifest).items()}
    onnx.helper.set_model_props(model, texts)
    onnx.save(model, str(path))


def load_onnx(path: Path) -> Forward:
    runtime = load_package("onnxruntime", wanted_by="onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def forward(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.contiguous().numpy()})[0])

    return forward
