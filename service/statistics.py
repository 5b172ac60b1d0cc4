"""What was seen, class by class."""

from models.classes import ClassSet
from service.class_map import ClassMap
from service.schemas import ClassStatistics


def class_statistics(found: ClassMap, class_set: ClassSet) -> list[ClassStatistics]:
    """Classes present, largest first; `pixels` sum to the image, `mean_confidence` is the mean
    softmax probability over the pixels where the class was chosen."""
    pixels = found.pixels.tolist()
    confidence = found.confidence.tolist()
    total = sum(pixels)
    present = [
        ClassStatistics(
            id=entry.id,
            name=entry.name,
            color=entry.color,
            pixels=pixels[entry.id],
            fraction=pixels[entry.id] / total,
            mean_confidence=min(confidence[entry.id] / pixels[entry.id], 1.0),
        )
        for entry in class_set.classes
        if pixels[entry.id]
    ]
    return sorted(present, key=lambda entry: -entry.pixels)
