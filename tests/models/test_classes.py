"""Class sets and `classes.json`."""

import json
from pathlib import Path
from typing import Any

import pytest

from models import ClassSetError
from models.classes import (
    ClassSet,
    SegmentationClass,
    generic_classes,
    load_class_set,
    voc_classes,
    voc_color,
)

RED = {"id": 0, "name": "red", "color": [255, 0, 0]}
GREEN = {"id": 1, "name": "green", "color": [0, 255, 0]}

VOC_COLORS = [
    ("background", (0, 0, 0)),
    ("aeroplane", (128, 0, 0)),
    ("bicycle", (0, 128, 0)),
    ("bird", (128, 128, 0)),
    ("boat", (0, 0, 128)),
    ("bottle", (128, 0, 128)),
    ("bus", (0, 128, 128)),
    ("car", (128, 128, 128)),
    ("cat", (64, 0, 0)),
    ("chair", (192, 0, 0)),
    ("cow", (64, 128, 0)),
    ("diningtable", (192, 128, 0)),
    ("dog", (64, 0, 128)),
    ("horse", (192, 0, 128)),
    ("motorbike", (64, 128, 128)),
    ("person", (192, 128, 128)),
    ("pottedplant", (0, 64, 0)),
    ("sheep", (128, 64, 0)),
    ("sofa", (0, 192, 0)),
    ("train", (128, 192, 0)),
    ("tvmonitor", (0, 64, 128)),
]


def write(folder: Path, content: object) -> Path:
    path = folder / "classes.json"
    path.write_text(json.dumps(content))
    return path


def test_vocs_classes_have_vocs_colours() -> None:
    assert [(entry.name, entry.color) for entry in voc_classes().classes] == VOC_COLORS


def test_the_colour_map_goes_on_to_255() -> None:
    assert voc_color(21) == (128, 64, 128)
    assert voc_color(255) == (224, 224, 192)
    assert len({voc_color(index) for index in range(256)}) == 256


def test_the_border_is_class_21_or_ignored() -> None:
    with_border = voc_classes(border="class")
    assert len(with_border) == 22
    assert with_border.classes[21] == SegmentationClass(21, "border", (224, 224, 192))
    assert len(voc_classes(border="ignore")) == 21
    assert voc_classes(border="ignore").ignore_index == 255


def test_another_border_is_refused() -> None:
    with pytest.raises(ClassSetError, match="'bordre' is neither 'class' nor 'ignore'"):
        voc_classes(border="bordre")


@pytest.mark.parametrize(("count", "last"), [(21, "tvmonitor"), (22, "border"), (5, "class 4")])
def test_a_checkpoint_without_names_gets_vocs_where_the_count_fits(count: int, last: str) -> None:
    classes = generic_classes(count)
    assert len(classes) == count
    assert classes.names[-1] == last


def test_names_are_in_the_order_of_the_ids() -> None:
    assert voc_classes().names[:3] == ("background", "aeroplane", "bicycle")


def test_the_palette_holds_class_colours_the_border_and_vocs_map() -> None:
    classes = ClassSet(
        (SegmentationClass(0, "a", (1, 2, 3)), SegmentationClass(1, "b", (4, 5, 6))), 200
    )
    palette = classes.palette()
    assert len(palette) == 768
    assert palette[:6] == bytes([1, 2, 3, 4, 5, 6])
    assert palette[3 * 200 : 3 * 201] == bytes([224, 224, 192])
    assert palette[3 * 8 : 3 * 9] == bytes([64, 0, 0])


def test_255_classes_are_allowed_and_256_are_not() -> None:
    assert len(generic_classes(255)) == 255
    with pytest.raises(ClassSetError, match="1 to 255 classes, this one 256"):
        generic_classes(256)


def test_a_valid_file_is_read_in_the_order_of_its_ids(tmp_path: Path) -> None:
    path = write(tmp_path, {"classes": [GREEN, RED], "ignore_index": 9})
    classes = load_class_set(path)
    assert classes.names == ("red", "green")
    assert classes.classes[0] == SegmentationClass(0, "red", (255, 0, 0))
    assert classes.ignore_index == 9


def test_blanks_around_a_name_are_none_of_it(tmp_path: Path) -> None:
    assert load_class_set(write(tmp_path, {"classes": [{**RED, "name": " red\n"}]})).names == (
        "red",
    )


def test_ignore_index_is_255_unless_said(tmp_path: Path) -> None:
    assert load_class_set(write(tmp_path, {"classes": [RED]})).ignore_index == 255


def test_names_in_other_scripts_are_read_as_utf8(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    text = json.dumps({"classes": [{**RED, "name": "배경"}]}, ensure_ascii=False)
    path.write_bytes(text.encode("utf-8"))
    assert load_class_set(path).names == ("배경",)


BAD_FILES: dict[str, tuple[dict[str, Any] | list[Any], str]] = {
    "duplicate id": ({"classes": [RED, {**GREEN, "id": 0}]}, r"each once; got \[0, 0\]"),
    "duplicate name": ({"classes": [RED, {**GREEN, "name": "red"}]}, "share the name 'red'"),
    "duplicate colour": (
        {"classes": [RED, {**GREEN, "color": [255, 0, 0]}]},
        r"share the colour \(255, 0, 0\)",
    ),
    "gap": ({"classes": [RED, {**GREEN, "id": 2}]}, r"0\.\.1 in order, each once; got \[0, 2\]"),
    "negative id": ({"classes": [{**RED, "id": -1}]}, r"got \[-1\]"),
    "id not a number": ({"classes": [{**RED, "id": "0"}]}, "'0' is not a whole number"),
    "id a fraction": ({"classes": [{**RED, "id": 0.5}]}, r"0\.5 is not a whole number"),
    "id a boolean": ({"classes": [{**RED, "id": False}]}, "False is not a whole number"),
    "empty name": ({"classes": [{**RED, "name": ""}]}, "empty name"),
    "colour of two": ({"classes": [{**RED, "color": [1, 2]}]}, r"\[1, 2\]"),
    "colour over 255": ({"classes": [{**RED, "color": [0, 0, 256]}]}, "256"),
    "colour below 0": ({"classes": [{**RED, "color": [0, 0, -1]}]}, "-1"),
    "colour a word": ({"classes": [{**RED, "color": "#ff0000"}]}, "#ff0000"),
    "colour of words": ({"classes": [{**RED, "color": ["a", 0, 0]}]}, "'a'"),
    "no classes": ({"classes": []}, "this one 0"),
    "classes key missing": ({"labels": []}, "'classes' is missing"),
    "classes null": ({"classes": None}, "'classes' is missing, not a list"),
    "id missing": ({"classes": [{"name": "red", "color": [0, 0, 0]}]}, "'id' is missing"),
    "name missing": ({"classes": [{"id": 0, "color": [0, 0, 0]}]}, "'name' is missing"),
    "color missing": ({"classes": [{"id": 0, "name": "red"}]}, "'color' is missing"),
    "ignore_index a class": ({"classes": [RED, GREEN], "ignore_index": 1}, "ignore_index 1"),
    "ignore_index over 255": ({"classes": [RED], "ignore_index": 256}, "ignore_index 256"),
    "ignore_index a word": ({"classes": [RED], "ignore_index": "none"}, "'none'"),
    "a list": ([RED, GREEN], "holds a list, not an object with the key 'classes'"),
    "classes a number": ({"classes": 3}, "'classes' is 3, not a list"),
    "classes an object": ({"classes": {"0": RED}}, "'classes' is an object, not a list"),
    "a class a word": ({"classes": [RED, "red"]}, r"classes\[1\] is 'red', not an object"),
    "name null": ({"classes": [{**RED, "name": None}]}, r"classes\[0\]: name None is not a text"),
    "name a number": ({"classes": [{**RED, "name": 7}]}, "name 7 is not a text"),
    "name of blanks": ({"classes": [{**RED, "name": " "}]}, "class 0 has an empty name: ''"),
    "name with half a letter": (
        {"classes": [{**RED, "name": "a\ud800"}]},
        r"classes\[0\]: name 'a\\ud800' is not valid Unicode",
    ),
    "names but for a blank": (
        {"classes": [RED, {**GREEN, "name": "red "}]},
        "classes 0 and 1 share the name 'red'",
    ),
    "names but for case": (
        {"classes": [RED, {**GREEN, "name": "Red"}]},
        "classes 0 and 1, 'red' and 'Red', differ in case alone",
    ),
    "key misspelt": (
        {"classes": [RED], "ignoreindex": 9},
        "unknown key 'ignoreindex'; known are classes, ignore_index",
    ),
    "key of a class unknown": (
        {"classes": [{**RED, "colour": [1, 2, 3]}]},
        r"classes\[0\]: unknown key 'colour'; known are id, name, color",
    ),
    "colour of fractions": (
        {"classes": [{**RED, "color": [0.5, 0, 0]}]},
        r"classes\[0\]: colour \[0\.5, 0, 0\]: 0\.5 is not a whole number",
    ),
    "ignore_index null": ({"classes": [RED], "ignore_index": None}, "ignore_index None"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named_together_with_what_is_wrong(tmp_path: Path, case: str) -> None:
    content, complaint = BAD_FILES[case]
    path = write(tmp_path, content)
    with pytest.raises(ClassSetError, match=complaint) as caught:
        load_class_set(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"{'classes': []}", b"", b'{"classes": ', b"\xff\xfe\x00"])
def test_a_file_that_is_not_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "classes.json"
    path.write_bytes(content)
    with pytest.raises(ClassSetError) as caught:
        load_class_set(path)
    assert str(path) in str(caught.value)


def test_a_file_saved_by_a_windows_editor_is_read(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"classes": [RED]}).encode())
    assert load_class_set(path).names == ("red",)


def test_every_complaint_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, {"classes": [{**RED, "name": "a\nb"}, {**GREEN, "id": "1\n2"}]})
    with pytest.raises(ClassSetError) as caught:
        load_class_set(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClassSetError) as caught:
        load_class_set(tmp_path / "classes.json")
    assert str(tmp_path / "classes.json") in str(caught.value)
