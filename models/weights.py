"""State dicts: reading them without executing anything, and saying how they do not fit."""

import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.architectures import architecture, build, list_architectures
from models.classes import generic_classes
from models.errors import CheckpointError, ClassSetError, UnknownArchitectureError
from models.manifest import Arguments, InputSpec, Manifest, manifest_classes
from models.misfits import list_misfits

StateDict = dict[str, Tensor]


def read_state(source: Path | bytes, *, name: str) -> StateDict:
    """The tensors of a `.pth` on the CPU; anything but a flat dict of tensors is refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the refusal says it, without a stack line
            content = _load(source)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{name}: holds pickled objects other than tensors, or is damaged; nothing was executed"
        ) from error
    except FileNotFoundError as error:
        raise CheckpointError(f"{name}: no such file") from error
    except Exception as error:  # a damaged archive raises anything
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise CheckpointError(f"{name}: cannot be read as a PyTorch file: {reason}") from error
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{name}: holds {type(content).__name__}, not a state_dict")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{name}: not a plain state_dict, {key!r} is a {type(value).__name__}; "
                "save model.state_dict() alone"
            )
        if value.is_meta or value.layout != torch.strided or value.is_quantized:
            raise CheckpointError(f"{name}: {key!r} is not a plain dense tensor")
    return dict(content)


def _load(source: Path | bytes) -> object:
    if isinstance(source, bytes):
        return torch.load(io.BytesIO(source), map_location="cpu", weights_only=True)
    mapped = zipfile.is_zipfile(source)  # torch < 1.6 wrote another format
    return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)


def infer_manifest(state: Mapping[str, Tensor], *, name: str) -> Manifest:
    """A manifest for a bare state_dict, read off its keys and shapes."""
    shapes = {key: tensor.shape for key, tensor in state.items()}
    best = max(list_architectures(), key=lambda arch: _common_keys(arch, shapes))
    network = architecture(best)
    if not _common_keys(best, shapes):
        raise CheckpointError(
            f"{name}: no known architecture has keys like {next(iter(shapes))!r}; known are "
            f"{', '.join(list_architectures())}"
        )
    try:
        arguments = Arguments.model_validate(network.infer_arguments(shapes))
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{name}: looks like {best}, but {error} is missing or has another shape"
        ) from error
    try:
        classes = generic_classes(arguments.num_classes)
    except ClassSetError as error:
        raise CheckpointError(f"{name}: {error}") from error
    mean, std = network.mean, network.std
    if arguments.in_channels != len(mean):
        mean, std = (0.5,) * arguments.in_channels, (0.5,) * arguments.in_channels  # type: ignore[assignment]
    return Manifest(
        name=name,
        architecture=best,
        arguments=arguments,
        classes=manifest_classes(classes),
        ignore_index=classes.ignore_index,
        input=InputSpec(mean=mean, std=std, stride=network.stride),
    )


def require_fit(state: Mapping[str, Tensor], manifest: Manifest, *, name: str) -> None:
    """Compares a state_dict with the network its manifest describes, without allocating one."""
    try:
        with torch.device("meta"):
            network = build(manifest.architecture, **manifest.arguments.model_dump())
    except UnknownArchitectureError as error:
        raise CheckpointError(f"{name}: {error}") from error
    except (RuntimeError, TypeError, ValueError) as error:  # a width beyond what torch can count
        raise CheckpointError(
            f"{name}: no {manifest.architecture} can be built with {manifest.arguments}"
        ) from error
    misfits = describe_misfits(state, network.state_dict())
    if misfits:
        raise CheckpointError(f"{name} does not fit {manifest.architecture}: " + "; ".join(misfits))


def require_finite(state: Mapping[str, Tensor], *, name: str) -> None:
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{name}: {key!r} holds NaN or infinity")


def describe_misfits(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Every difference in words, the number of classes first; empty when the state fits."""
    return _class_count_misfit(state, expected) + list_misfits(state, expected)


def _class_count_misfit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    head = [key for key in expected if key.endswith("weight")][-1]  # the last layer is the head
    if head not in state or state[head].shape[:1] == expected[head].shape[:1]:
        return []
    return [
        f"checkpoint has {state[head].shape[0]} classes, model has {expected[head].shape[0]}",
    ]


def _common_keys(arch: str, shapes: Mapping[str, torch.Size]) -> int:
    with torch.device("meta"):
        return len(shapes.keys() & build(arch, base_channels=2).state_dict().keys())
