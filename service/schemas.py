"""The shapes of the answers, as `/docs` shows them."""

from typing import Literal

from pydantic import BaseModel, Field

from models.manifest import Metrics


class ClassStatistics(BaseModel):
    id: int
    name: str
    color: tuple[int, int, int]
    pixels: int
    fraction: float = Field(description="share of the image, 0..1")
    mean_confidence: float = Field(description="mean softmax probability over those pixels, 0..1")


class Mask(BaseModel):
    media_type: Literal["image/png"] = "image/png"
    data: str = Field(description="base64 of an indexed PNG; its palette is the class colours")


class SegmentResponse(BaseModel):
    model: str
    width: int
    height: int
    classes: list[ClassStatistics] = Field(description="classes present, largest first")
    mask: Mask
    timing_ms: dict[str, float]


class Problem(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str | None = None


class BatchItem(BaseModel):
    """One image of a batch, in the order sent: either `result` or `error` is there."""

    filename: str | None
    status: int
    result: SegmentResponse | None = None
    error: Problem | None = None


class BatchResponse(BaseModel):
    results: list[BatchItem]


class EngineEntry(BaseModel):
    """What runs a loaded model."""

    name: str
    device: str
    reason: str = Field(description="why it was chosen")
    agreement: float | None = Field(
        description="share of the golden images' pixels with the class that float32 gives"
    )
    refused: list[str] = Field(description="what was tried before it, and why it was not taken")


class ModelEntry(BaseModel):
    name: str
    architecture: str | None
    num_classes: int | None
    status: Literal["active", "loaded", "available", "invalid"]
    metrics: Metrics | None
    sha256: str | None
    bytes: int
    reason: str | None = Field(
        description="why an invalid checkpoint cannot be used, or why the last load failed"
    )
    engine: EngineEntry | None = Field(None, description="of loaded models alone")


class ModelList(BaseModel):
    active: str
    models: list[ModelEntry]


class Health(BaseModel):
    status: str
    model: str | None = None
    reason: str | None = None
