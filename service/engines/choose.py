"""Which engine runs the checkpoint: the fastest for this processor that agrees with float32."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from models import Checkpoint
from models.devices import choose_device, has_fast_bf16
from service.engines.engine import Engine
from service.engines.golden import agreement, golden_inputs, labels_of
from service.engines.int8 import find_int8, int8_model
from service.engines.openvino_engine import OpenVINOEngine, convert
from service.engines.processor import features, int8_feature
from service.engines.torch_engine import TorchEngine
from service.errors import StartupError

logger = logging.getLogger(__name__)

MIN_AGREEMENT = {"float32": 0.999, "bfloat16": 0.995, "float16": 0.995, "int8": 0.985}


@dataclass(frozen=True)
class Wishes:
    """What the settings ask for; `engine` and `precision` may be "auto". `exports` is where the
    trainer's int8 files may lie, `cache` where those made here are kept."""

    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    compiled: bool = False
    exports: Path = Path("checkpoints")
    cache: Path | None = None
    calibration_images: Path | None = None
    golden_images: Path | None = None


@dataclass(frozen=True)
class Candidate:
    """An engine that may be taken, and why it stands where it stands."""

    name: str
    precision: str
    reason: str
    load: Callable[[], Engine]
    is_reference: bool = False  # what the others are compared with


@dataclass(frozen=True)
class Choice:
    """The engine that was taken; `refused` says of each that was tried before it why not."""

    engine: Engine
    reason: str
    agreement: float | None
    refused: list[str] = field(default_factory=list)


def choose_engine(checkpoint: Checkpoint, wishes: Wishes) -> Choice:
    """Tries the candidates in order. The last, float32 in PyTorch, is what the others are compared
    with; StartupError where not even that can be had."""
    device = choose_device(wishes.device)
    refused: list[str] = []
    gate = _Gate(checkpoint, device, wishes.golden_images)
    for candidate in _candidates(checkpoint, device, wishes):
        try:
            engine = candidate.load()
        except Exception as error:  # noqa: BLE001 - runtimes raise anything
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            refused.append(f"{candidate.name}: {first_line}")
            logger.warning("%s refused: %s", candidate.name, first_line)
            continue
        share = gate.agreement_of(engine, candidate)
        least = MIN_AGREEMENT[candidate.precision]
        if share is not None and share < least:
            refused.append(
                f"{candidate.name}: agrees with float32 on {share:.2%} of the golden images' "
                f"pixels, {least:.1%} are asked"
            )
            logger.warning("%s", refused[-1])
            engine.close()
            continue
        logger.info("%s on %s: %s", engine.name, device, candidate.reason)
        return Choice(engine, candidate.reason, share, refused)
    raise StartupError(f"no engine can run {checkpoint.manifest.name}: {'; '.join(refused)}")


class _Gate:
    """Compares with float32, which is run once, and only if anything is compared."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, images: Path | None) -> None:
        self._checkpoint = checkpoint
        self._device = device
        self._inputs = golden_inputs(images, checkpoint.manifest.input)
        self._reference: Tensor | None = None

    def agreement_of(self, engine: Engine, candidate: Candidate) -> float | None:
        if candidate.is_reference:
            return None
        if self._reference is None:
            reference = TorchEngine(
                self._checkpoint, device=self._device, precision="float32", compiled=False
            )
            self._reference = labels_of(reference, self._inputs)
        try:
            return agreement(labels_of(engine, self._inputs), self._reference)
        except RuntimeError as error:
            logger.warning("%s failed on the golden images: %s", candidate.name, error)
            return 0.0


def _candidates(
    checkpoint: Checkpoint, device: torch.device, wishes: Wishes
) -> Iterator[Candidate]:
    """The precision that was asked for first, then what is always there."""
    order = list(_precisions(checkpoint, device, wishes))
    with_openvino = device.type == "cpu" and wishes.engine != "torch"
    if wishes.engine == "openvino" and device.type != "cpu":
        raise StartupError(f"--engine openvino runs on the cpu, --device is {device}")
    if with_openvino and find_spec("openvino") is None:
        if wishes.engine == "openvino" or wishes.precision == "int8":
            raise StartupError(
                "--engine openvino: the package openvino is not installed "
                "(pip install '.[openvino]')"
            )
        logger.info("openvino would be faster; it is not installed (pip install '.[openvino]')")
        with_openvino = False
    for precision, reason in order:
        if with_openvino and precision != "float16":  # which its CPU plugin lacks
            yield _openvino(checkpoint, precision, reason, wishes)
        if precision != "int8" and (wishes.engine != "openvino"):
            yield _torch(checkpoint, device, precision, reason, wishes)
    if wishes.engine == "openvino":
        yield _torch(checkpoint, device, "float32", "nothing faster could be used", wishes)


def _precisions(
    checkpoint: Checkpoint, device: torch.device, wishes: Wishes
) -> Iterator[tuple[str, str]]:
    has = ", ".join(features()) or "nothing for less than float32"
    processor = f"the processor has {has}" if device.type == "cpu" else str(device)
    asked = wishes.precision
    if asked != "auto":
        yield asked, "as asked"
        if asked == "float32":
            return
    on_cpu = device.type == "cpu"
    if asked == "auto" and on_cpu and _has_int8(checkpoint, wishes):
        yield "int8", f"{processor}, and the checkpoint was calibrated"
    if asked != "bfloat16" and has_fast_bf16(device):
        yield "bfloat16", processor
    elif asked == "auto" and device.type == "cuda":
        yield "float16", f"{device} has no bfloat16"
    yield "float32", processor


def _has_int8(checkpoint: Checkpoint, wishes: Wishes) -> bool:
    if wishes.engine == "torch" or int8_feature() is None or find_spec("openvino") is None:
        return False
    return find_int8(checkpoint, wishes.exports, wishes.cache) is not None


def _openvino(checkpoint: Checkpoint, precision: str, reason: str, wishes: Wishes) -> Candidate:
    def load() -> Engine:
        arithmetic = precision
        if precision == "int8":
            model = int8_model(checkpoint, wishes.exports, wishes.cache, wishes.calibration_images)
            arithmetic = "bfloat16" if has_fast_bf16(torch.device("cpu")) else "float32"
        else:
            model = convert(checkpoint.network)
        spec = checkpoint.manifest.input
        return OpenVINOEngine(model, spec, precision=precision, arithmetic=arithmetic)

    return Candidate(f"openvino {precision}", precision, reason, load)


def _torch(
    checkpoint: Checkpoint, device: torch.device, precision: str, reason: str, wishes: Wishes
) -> Candidate:
    def load() -> Engine:
        return TorchEngine(checkpoint, device=device, precision=precision, compiled=wishes.compiled)

    is_reference = precision == "float32"
    return Candidate(f"torch {precision}", precision, reason, load, is_reference)
