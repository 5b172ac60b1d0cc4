"""Class sets: what the numbers in a mask mean and how they are drawn."""

import json
from dataclasses import dataclass
from pathlib import Path

from models.errors import ClassSetError

Color = tuple[int, int, int]

IGNORE_INDEX = 255
MAX_CLASSES = 255  # a mask is 8 bits deep and 255 is kept for "ignore"

VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
VOC_BORDER_COLOR: Color = (224, 224, 192)


@dataclass(frozen=True)
class SegmentationClass:
    """One class: its value in the mask, its name and its colour (R, G, B in 0..255)."""

    id: int
    name: str
    color: Color


@dataclass(frozen=True)
class ClassSet:
    """An ordered class list with ids 0..K-1, and the mask value that means "not labelled"."""

    classes: tuple[SegmentationClass, ...]
    ignore_index: int = IGNORE_INDEX

    def __post_init__(self) -> None:
        count = len(self.classes)
        if not 1 <= count <= MAX_CLASSES:
            raise ClassSetError(f"a class set holds 1 to {MAX_CLASSES} classes, this one {count}")
        ids = [entry.id for entry in self.classes]
        if ids != list(range(count)):
            raise ClassSetError(f"class ids must be 0..{count - 1} in order, each once; got {ids}")
        if not 0 <= self.ignore_index <= 255 or self.ignore_index < count:
            raise ClassSetError(
                f"ignore_index {self.ignore_index} must lie in {count}..255, outside the class ids"
            )
        self._refuse_repeats()

    def _refuse_repeats(self) -> None:
        seen: dict[tuple[str, object], int] = {}
        for entry in self.classes:
            if not entry.name.strip():
                raise ClassSetError(f"class {entry.id} has an empty name: {entry.name!r}")
            if len(entry.color) != 3 or not all(0 <= value <= 255 for value in entry.color):
                raise ClassSetError(f"class {entry.id} ({entry.name}): bad colour {entry.color}")
            for what, value in (("name", entry.name), ("colour", entry.color)):
                other = seen.setdefault((what, value), entry.id)
                if other != entry.id:
                    raise ClassSetError(
                        f"classes {other} and {entry.id} share the {what} {value!r}"
                    )

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.classes)

    def palette(self) -> bytes:
        """768 bytes for an indexed image: class colours, VOC's colour map for the other values."""
        colors = [voc_color(index) for index in range(256)]
        for entry in self.classes:
            colors[entry.id] = entry.color
        if self.ignore_index >= len(self.classes):
            colors[self.ignore_index] = VOC_BORDER_COLOR
        return bytes(value for color in colors for value in color)


def voc_color(index: int) -> Color:
    """Pascal VOC's colour map: bits 0, 1, 2 of the index, taken in threes, from the top down."""
    red = green = blue = 0
    for shift in range(7, -1, -1):
        red |= (index & 1) << shift
        green |= ((index >> 1) & 1) << shift
        blue |= ((index >> 2) & 1) << shift
        index >>= 3
    return red, green, blue


def voc_classes(*, border: str = "ignore") -> ClassSet:
    """Pascal VOC's 21 classes, or the report's 22 with `border="class"`."""
    if border not in ("class", "ignore"):
        raise ClassSetError(f"border {border!r} is neither 'class' nor 'ignore'")
    classes = [SegmentationClass(i, name, voc_color(i)) for i, name in enumerate(VOC_NAMES)]
    if border == "class":
        classes.append(SegmentationClass(len(classes), "border", VOC_BORDER_COLOR))
    return ClassSet(tuple(classes))


def generic_classes(count: int) -> ClassSet:
    """Names for a checkpoint that brings none: VOC's where the count fits, else "class 0"…"""
    if count == len(VOC_NAMES):
        return voc_classes(border="ignore")
    if count == len(VOC_NAMES) + 1:
        return voc_classes(border="class")
    return ClassSet(tuple(SegmentationClass(i, f"class {i}", voc_color(i)) for i in range(count)))


def load_class_set(path: Path) -> ClassSet:
    """Reads a dataset's `classes.json`; every complaint names the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict):
            raise ClassSetError(f"holds {_kind(content)}, not an object with the key 'classes'")
        entries = content.get("classes")
        if not isinstance(entries, list):
            raise ClassSetError(f"'classes' is {_kind(entries)}, not a list")
        _refuse_unknown_keys(content, ("classes", "ignore_index"), "")
        classes = [_entry(place, entry) for place, entry in enumerate(entries)]
        _refuse_look_alikes(classes)
        ignore_index = _integer(content.get("ignore_index", IGNORE_INDEX), "ignore_index")
        return ClassSet(tuple(sorted(classes, key=lambda entry: entry.id)), ignore_index)
    except OSError as error:
        raise ClassSetError(f"{path}: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        raise ClassSetError(f"{path}: not JSON ({error})") from error
    except (ValueError, RecursionError) as error:
        raise ClassSetError(f"{path}: {error}") from error
    except ClassSetError as error:
        raise ClassSetError(f"{path}: {error}") from error


def _entry(place: int, entry: object) -> SegmentationClass:
    where = f"classes[{place}]"
    if not isinstance(entry, dict):
        raise ClassSetError(f"{where} is {_kind(entry)}, not an object with id, name and color")
    keys = ("id", "name", "color")
    for key in keys:
        if key not in entry:
            raise ClassSetError(f"{where}: key {key!r} is missing")
    _refuse_unknown_keys(entry, keys, f"{where}: ")
    name = _name(entry["name"], where)
    return SegmentationClass(_integer(entry["id"], f"{where}: id"), name, _color(entry, where))


def _refuse_unknown_keys(content: dict[str, object], known: tuple[str, ...], where: str) -> None:
    """A misspelt key would be passed over, and what it says with it."""
    for key in content:
        if key not in known:
            raise ClassSetError(f"{where}unknown key {key!r}; known are {', '.join(known)}")


def _name(value: object, where: str) -> str:
    """Without blanks around it."""
    if not isinstance(value, str):
        raise ClassSetError(f"{where}: name {value!r} is not a text")
    if any("\ud800" <= letter <= "\udfff" for letter in value):  # half of a UTF-16 pair
        raise ClassSetError(f"{where}: name {value!r} is not valid Unicode")
    return value.strip()


def _refuse_look_alikes(classes: list[SegmentationClass]) -> None:
    """Nobody means two classes by names that differ in case alone."""
    seen: dict[str, SegmentationClass] = {}
    for entry in classes:
        other = seen.setdefault(entry.name.casefold(), entry)
        if other.name != entry.name:
            raise ClassSetError(
                f"classes {other.id} and {entry.id}, {other.name!r} and {entry.name!r}, differ "
                "in case alone"
            )


def _kind(value: object) -> str:
    """What a JSON value is called, with the value where it is short."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return "missing" if value is None else repr(value)


def _integer(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ClassSetError(f"{what} {value!r} is not a whole number")
    return value


def _color(entry: dict[str, object], where: str) -> Color:
    value = entry["color"]
    if not isinstance(value, list) or len(value) != 3:
        raise ClassSetError(f"{where}: colour {value!r} is not a list of three numbers")
    red, green, blue = (_integer(channel, f"{where}: colour {value!r}:") for channel in value)
    return red, green, blue
