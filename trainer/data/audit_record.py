"""The audit of a dataset for machines: `check --json`."""

from typing import Any

from models.manifest import manifest_classes
from trainer.data.audit import DatasetAudit
from trainer.data.dataset import VocFolder
from trainer.data.duplicates import Pairs
from trainer.data.split_audit import SplitAudit


def audit_record(audit: DatasetAudit, folder: VocFolder, *, max_distance: int) -> dict[str, Any]:
    """Plain lists and numbers. All problems are there, of near-duplicates the closest pairs."""
    return {
        "data": str(folder.root),
        "ready": not audit.problems,
        "problems": audit.problems,
        "notes": audit.notes,
        "classes": [entry.model_dump() for entry in manifest_classes(folder.class_set)],
        "ignore_index": folder.class_set.ignore_index,
        "splits": {split.name: _split(split, folder) for split in audit.splits},
        "near_duplicates": None
        if audit.across is None or audit.within is None
        else {
            "max_distance": max_distance,
            "across": _pairs(audit.across),
            "within": _pairs(audit.within),
        },
    }


def _split(split: SplitAudit, folder: VocFolder) -> dict[str, Any]:
    return {
        "images": split.images,
        "ignored_pixels": split.ignored_pixels,
        "sizes": [
            {"width": width, "height": height, "images": count}
            for (width, height), count in sorted(split.sizes.items())
        ],
        "classes": {
            entry.name: {
                "images": int(split.images_with_class[entry.id]),
                "pixels": int(split.pixels[entry.id]),
                "share": float(split.shares[entry.id]),
            }
            for entry in folder.class_set.classes
        },
    }


def _pairs(pairs: Pairs) -> dict[str, Any]:
    closest = [
        {"first": p.first, "second": p.second, "distance": p.distance} for p in pairs.closest
    ]
    return {"count": pairs.count, "pairs": closest}
