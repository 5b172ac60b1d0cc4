"""How models are listed: one that is loaded, and one that lies in the folder."""

from models import ListedCheckpoint
from models.manifest import Manifest
from service.engines.choose import Choice
from service.redaction import metrics_without_folders, without_folders
from service.schemas import EngineEntry, ModelEntry


def loaded_entry(
    manifest: Manifest, choice: Choice, *, active: bool, failure: str | None
) -> ModelEntry:
    """As it was loaded, whatever has become of its file. `failure` is why what lies there now
    could not be loaded in its place."""
    entry = _entry(manifest, "active" if active else "loaded", failure)
    engine = EngineEntry(
        name=choice.engine.name,
        device=str(choice.engine.device),
        reason=without_folders(choice.reason),
        agreement=choice.agreement,
        refused=[without_folders(each) for each in choice.refused],
    )
    return entry.model_copy(update={"engine": engine})


def listed_entry(listed: ListedCheckpoint, *, failure: str | None = None) -> ModelEntry:
    """`failure` is why it could not be loaded although it looks as it should."""
    status = "available" if listed.reason is None else "invalid"
    reason = listed.reason or failure
    return _entry(listed.manifest, status, reason, name=listed.name, size=listed.bytes)


def _entry(
    manifest: Manifest | None, status: str, reason: str | None, *, name: str = "", size: int = 0
) -> ModelEntry:
    weights = manifest.weights if manifest else None
    metrics = manifest.metrics if manifest else None
    return ModelEntry.model_validate(
        {
            "name": manifest.name if manifest else name,
            "architecture": manifest.architecture if manifest else None,
            "num_classes": manifest.arguments.num_classes if manifest else None,
            "status": status,
            "metrics": metrics_without_folders(metrics) if metrics else None,
            "sha256": weights.sha256 if weights else None,
            "bytes": size or (weights.bytes if weights else 0),
            "reason": reason,
        }
    )
