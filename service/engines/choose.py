"""Which engine runs the checkpoint: the fastest for this processor that agrees with float32."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from math import inf
from pathlib import Path

import torch
from torch import Tensor

from models import Checkpoint, compiled
from models.devices import choose_device, has_fast_bf16
from service.engines.cuda_engine import CudaEngine
from service.engines.cuda_waiting import let_threads_sleep
from service.engines.engine import DecodingEngine, Engine
from service.engines.golden import (
    NotFiniteError,
    agreement,
    golden_inputs,
    golden_jpegs,
    labels_of,
)
from service.engines.int8 import find_int8, int8_model
from service.engines.openvino_engine import OpenVINOEngine, convert
from service.engines.processor import bf16_features, int8_feature
from service.engines.torch_engine import TorchEngine
from service.errors import StartupError

logger = logging.getLogger(__name__)

ENOUGH_S = 1.0  # of float32's passes over pictures that nobody asked for
MIN_AGREEMENT = {"float32": 0.999, "bfloat16": 0.995, "float16": 0.995, "int8": 0.985}
MIN_AGREEMENT_DECODED = 0.985  # between images that the engine decoded and libjpeg's


@dataclass(frozen=True)
class Wishes:
    """What the settings ask for; `engine` and `precision` may be "auto". `exports` is where the
    trainer's int8 files may lie, `cache` where those made here are kept."""

    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    compiled: bool = False
    exports: Path | None = Path("checkpoints")
    cache: Path | None = None
    calibration_images: Path | None = None
    golden_images: Path | None = None
    decode_on: str = "cpu"


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
    """The engine that was taken; `refused` says of each that was tried before it why not, and why
    JPEGs are not decoded by the engine where that was asked for. `decodes`: whether they are."""

    engine: Engine
    reason: str
    agreement: float | None
    refused: list[str] = field(default_factory=list)
    decodes: bool = False


def choose_engine(checkpoint: Checkpoint, wishes: Wishes) -> Choice:
    """Tries the candidates in order. The last, float32 in PyTorch, is what the others are compared
    with; StartupError where not even that can be had."""
    device = choose_device(wishes.device)
    if device.type == "cuda":
        let_threads_sleep(device)
    elif device.type == "cpu":
        compiled.library()  # whose absence is to be told of now, not with the first upload
    refused: list[str] = []
    gate = _Gate(checkpoint, device, wishes.golden_images)
    for candidate in _candidates(checkpoint, device, wishes):
        engine: Engine | None = None
        try:
            engine = candidate.load()
            share = gate.agreement_of(engine, candidate)
        except StartupError:
            raise
        except Exception as error:  # noqa: BLE001 - runtimes raise anything
            refused.append(f"{candidate.name}: {_first_line(error)}")
            logger.warning("%s refused: %s", candidate.name, _first_line(error))
            if engine is not None:
                engine.close()
            continue
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
        if wishes.decode_on == "cpu":
            return Choice(engine, candidate.reason, share, refused)
        why_not = gate.why_not_decoding(engine)
        if why_not is None:
            logger.info("JPEGs are decoded on %s", device)
            reason = f"{candidate.reason}; JPEGs are decoded there, too"
            return Choice(engine, reason, share, refused, decodes=True)
        refused.append(f"decoding on {device}: {why_not}")
        logger.warning("JPEGs are decoded on the CPU; %s", refused[-1])
        return Choice(engine, candidate.reason, share, refused)
    raise StartupError(f"no engine can run {checkpoint.manifest.name}: {'; '.join(refused)}")


class _Gate:
    """Compares with float32, which is run once: on every picture that was named, on fewer of those
    that come with the service where a slow network would hold up the start."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, images: Path | None) -> None:
        self._checkpoint = checkpoint
        self._device = device
        self._images = images
        self._inputs = golden_inputs(images, checkpoint.manifest.input)
        self._enough_s = ENOUGH_S if images is None else inf

    def agreement_of(self, engine: Engine, candidate: Candidate) -> float | None:
        """None for float32 itself; StartupError where its answers are no numbers."""
        if candidate.is_reference:
            self._labels_of_reference(engine)
            return None
        reference = self._reference
        return agreement(labels_of(engine, self._inputs[: len(reference)]), reference)

    def why_not_decoding(self, engine: Engine) -> str | None:
        """None where the network says nearly the same of a JPEG that the engine decoded as of what
        it was trained on."""
        if not isinstance(engine, DecodingEngine):
            return f"{engine.name} does not decode"
        jpegs, expected = golden_jpegs(self._images, self._checkpoint.manifest.input)
        try:
            decoded, lost = engine.decoded(jpegs)
        except Exception as error:  # noqa: BLE001 - runtimes raise anything
            return _first_line(error)
        if lost:
            return f"{len(lost)} of {len(jpegs)} golden images could not be decoded"
        share = agreement(labels_of(engine, decoded.cpu()), labels_of(engine, expected))
        if share < MIN_AGREEMENT_DECODED:
            return (
                f"the network's classes are the same on {share:.2%} of the golden images' pixels, "
                f"{MIN_AGREEMENT_DECODED:.1%} are asked"
            )
        return None

    @cached_property
    def _reference(self) -> Tensor:
        return self._labels_of_reference(
            TorchEngine(self._checkpoint, device=self._device, precision="float32", compiled=False)
        )

    def _labels_of_reference(self, engine: Engine) -> Tensor:
        try:
            return labels_of(engine, self._inputs, enough_s=self._enough_s)
        except NotFiniteError as error:
            raise StartupError(f"{self._checkpoint.manifest.name}: {error}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _candidates(
    checkpoint: Checkpoint, device: torch.device, wishes: Wishes
) -> Iterator[Candidate]:
    """The precision that was asked for first, then what is always there."""
    _require_possible(device, wishes)
    with_openvino = device.type == "cpu" and wishes.engine != "torch"
    if with_openvino and not _has_openvino():
        logger.info("openvino would be faster; it is not installed (pip install '.[openvino]')")
        with_openvino = False
    for precision, reason in _precisions(checkpoint, device, wishes):
        if with_openvino and precision != "float16":
            yield _openvino(checkpoint, precision, reason, wishes)
        if precision != "int8" and (wishes.engine != "openvino"):
            if wishes.compiled:
                yield _torch(checkpoint, device, precision, reason, compiled=True)
            yield _torch(checkpoint, device, precision, reason)
    if wishes.engine == "openvino":
        yield _torch(checkpoint, device, "float32", "nothing faster could be used")


def _require_possible(device: torch.device, wishes: Wishes) -> None:
    """StartupError for wishes that no machine could grant, or none without another package."""
    engine, precision = wishes.engine, wishes.precision
    if wishes.decode_on == "gpu" and device.type != "cuda":
        raise StartupError(f"--decode-on gpu: it takes an NVIDIA GPU, --device is {device}")
    if engine == "openvino" and device.type != "cpu":
        raise StartupError(f"--engine openvino runs on the cpu, --device is {device}")
    if precision == "int8" and device.type != "cpu":
        raise StartupError(f"--precision int8 runs on the cpu, --device is {device}")
    if precision == "int8" and engine == "torch":
        raise StartupError("--precision int8 is openvino's, --engine is torch")
    if precision == "float16" and engine == "openvino":
        raise StartupError("--precision float16: openvino has float32, bfloat16 and int8 on CPUs")
    needing = "--engine openvino" if engine == "openvino" else f"--precision {precision}"
    if (engine == "openvino" or precision == "int8") and not _has_openvino():
        raise StartupError(
            f"{needing}: the package openvino is not installed (pip install '.[openvino]')"
        )


def _has_openvino() -> bool:
    return find_spec("openvino") is not None


def _precisions(
    checkpoint: Checkpoint, device: torch.device, wishes: Wishes
) -> Iterator[tuple[str, str]]:
    """Each with its reason, fastest first."""
    asked, on_cpu, has_bf16 = wishes.precision, device.type == "cpu", has_fast_bf16(device)
    name = "the processor" if on_cpu else str(device)
    if asked != "auto":
        is_emulated = on_cpu and asked in ("bfloat16", "float16") and not has_bf16
        if is_emulated:
            logger.warning("--precision %s: the processor lacks it, float32 is faster", asked)
        yield asked, "as asked" + (", though the processor lacks it" if is_emulated else "")
        if asked == "float32":
            return
    has_int8 = on_cpu and _has_int8(checkpoint, wishes)
    if asked == "auto" and has_int8:
        yield "int8", f"the processor has {int8_feature()}, and the checkpoint was calibrated"
    # bfloat16 before float16, which overflows: its range is that of float32
    if asked != "bfloat16" and has_bf16:
        yield "bfloat16", f"{name} has {', '.join(bf16_features()) if on_cpu else 'bfloat16'}"
    if asked != "float16" and device.type == "cuda":
        yield "float16", f"more exact than bfloat16{'' if has_bf16 else f', which {name} lacks'}"
    yield "float32", _why_float32(name, has_bf16=has_bf16, could_int8=on_cpu and not has_int8)


def _why_float32(name: str, *, has_bf16: bool, could_int8: bool) -> str:
    if has_bf16:
        return "nothing faster could be used"
    reason = f"{name} has no bfloat16"
    if could_int8 and int8_feature() is not None and _has_openvino():
        reason += f"; with {int8_feature()} int8 is faster, once --calibration-images names photos"
    return reason


def _has_int8(checkpoint: Checkpoint, wishes: Wishes) -> bool:
    if wishes.engine == "torch" or int8_feature() is None or not _has_openvino():
        return False
    try:
        return find_int8(checkpoint, wishes.exports, wishes.cache) is not None
    except Exception as error:  # noqa: BLE001 - an installation that lacks a library
        logger.warning("openvino cannot be used: %s", error)
        return False


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
    checkpoint: Checkpoint,
    device: torch.device,
    precision: str,
    reason: str,
    *,
    compiled: bool = False,
) -> Candidate:
    def load() -> Engine:
        kind = CudaEngine if device.type == "cuda" else TorchEngine
        return kind(checkpoint, device=device, precision=precision, compiled=compiled)

    name = f"torch {precision}{' compiled' if compiled else ''}"
    is_reference = precision == "float32" and not compiled
    return Candidate(name, precision, reason, load, is_reference)
