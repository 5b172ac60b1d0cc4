"""Settings: every option is `--name` on the command line and `SERVICE_NAME` in the environment."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, CliImplicitFlag, NoDecode, SettingsConfigDict

from models.devices import usable_cores
from service.telemetry.logs import LogFormat

MIB = 1024 * 1024
FORM_OVERHEAD = 64 * 1024  # boundaries, part headers and small text fields around a file


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maskwright"


def _parted(value: Any) -> Any:
    """One text with commas, as the environment holds it."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


Several = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parted)]  # may be repeated
ORIGIN = re.compile(r"\*|https?://[^\s/?#*@]+")


class Settings(BaseSettings):
    """Serves a segmentation checkpoint over HTTP."""

    model_config = SettingsConfigDict(
        env_prefix="SERVICE_",
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_prog_name="python -m service",
        cli_hide_none_type=True,
        protected_namespaces=(),
    )

    checkpoints: Path = Field(Path("checkpoints"), description="folder of checkpoints")
    model: str | None = Field(
        None, description="checkpoint to serve; may be left out when the folder holds one"
    )
    max_loaded_models: int = Field(
        2, ge=1, description="models in memory, the active one included; a change holds one more"
    )
    watch: float = Field(
        0, ge=0, description="seconds between looks for new files of the loaded models; 0 never"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1 or mps")
    engine: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="auto is openvino on the CPU when it is installed"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto", description="auto is the fastest that the hardware has; int8 needs calibration"
    )
    compile: CliImplicitFlag[bool] = Field(
        False, description="torch.compile: a slower start, faster passes"
    )
    calibration_images: Path | None = Field(
        None, description="folder of images that int8 is calibrated on, once"
    )
    golden_images: Path | None = Field(
        None, description="folder of images on which engines must agree with float32"
    )
    cache: Path | None = Field(
        default_factory=_cache, description="folder for what is made once, int8 networks"
    )
    max_upload_bytes: int = Field(64 * MIB, ge=1, description="largest image file")
    max_pixels: int = Field(100_000_000, ge=1, description="largest image, width times height")
    max_batch_files: int = Field(32, ge=1, le=1000, description="images in one /segment/batch")
    max_batch_bytes: int = Field(128 * MIB, ge=1, description="bytes in one /segment/batch")
    max_queue: int | None = Field(
        None,
        ge=1,
        description="requests that may be answered at a time; when absent, as many as keep the "
        "machine busy, and 16 in a burst",
    )
    max_upload_memory: int = Field(
        512 * MIB,
        ge=1,
        validate_default=True,
        description="bytes of uploads that may be in memory at a time",
    )
    max_connections: int = Field(1000, ge=1, description="connections that may be open at a time")
    request_timeout_s: float = Field(
        300, gt=0, description="seconds from an upload's end to its answer"
    )
    upload_timeout_s: float = Field(
        20, gt=0, description="seconds an upload may fall behind 32 KiB a second"
    )
    drain_timeout_s: float = Field(
        30, gt=0, description="seconds from a signal to stop to the end of the process"
    )
    device_timeout_s: float = Field(
        30, gt=0, description="seconds a pass may take before /healthz says that it is stuck"
    )
    batch_pixels: int | None = Field(
        None,
        ge=1,
        description="network input pixels in one pass, 4 million at most; found at the start when "
        "absent",
    )
    decode_on: Literal["cpu", "gpu"] = Field(
        "cpu",
        description="where JPEGs are decoded; gpu is faster, its pixels differ a little",
    )
    threads: int = Field(
        default_factory=usable_cores,
        ge=1,
        le=256,
        description="threads that decode and encode images",
    )
    api_key_file: Path | None = Field(
        None, description="file of API keys, a line each; read again whenever it changes"
    )
    api_keys: str | None = Field(
        None, description="API keys, the same lines with blanks between them"
    )
    insecure: CliImplicitFlag[bool] = Field(
        False, description="without any key, be open to other machines all the same"
    )
    requests_per_minute: int | None = Field(
        None, ge=1, description="of each API key; of each address where there are no keys"
    )
    cors_origin: Several = Field(
        (), description="origin whose pages may call the service, such as https://a.example"
    )
    allowed_sha256: Several = Field(
        (), description="hash of a checkpoint that may be loaded, or a file of them; others not"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: LogFormat = Field("text", description="text, or json: an object a line")

    @field_validator("max_upload_memory")
    @classmethod
    def _holds_the_largest(cls, memory: int, info: ValidationInfo) -> int:
        largest = [info.data.get(name, 0) for name in ("max_upload_bytes", "max_batch_bytes")]
        if memory < max(largest) + FORM_OVERHEAD:
            raise ValueError(f"one request may bring {max(largest) + FORM_OVERHEAD} bytes")
        return memory

    @field_validator("cors_origin")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin, such as https://a.example")
        return origins
