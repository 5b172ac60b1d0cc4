"""POST /segment and /segment/batch: forms, names and images that mean harm."""

import gc
from itertools import product

import pytest
from PIL import Image

from tests.service.answers import classes_of
from tests.service.clients import GOOD, Client, assert_problem, assert_still_serves
from tests.service.colours import encoded, plain
from tests.service.forms import part, post_form
from tests.service.images import png_with_chunk
from tests.service.structure.files import gif_with, jpeg_of_scans, saved, tiff_of_strips

END = b"--edge--\r\n"
FORMATS = ["WEBP", "PNG", "JPEG", "TIFF", "BMP", "GIF"]
SIZES = [(1, 1), (1, 2), (1, 10_000), (10_000, 1)]
LINES = [(1, 30_000), (30_000, 1)]
LINE_FORMATS = ["PNG", "JPEG", "TIFF", "GIF"]  # WebP cannot hold them, BMP not in the bytes allowed
NAMES = [
    "../../../etc/passwd",
    "/etc/passwd",
    "C:\\boot.ini",
    "..%2f..%2fkeys.txt",
    "photo.png%00.sh",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe",
    "<script>alert(1)</script>",
    "n" * 3000,
    "",
]


class TestForms:
    @pytest.mark.parametrize("name", NAMES)
    def test_a_file_name_is_no_path(self, client: Client, name: str) -> None:
        """It comes back as it was sent, as text in JSON, and does nothing else."""
        response = post_form(client, part("file", GOOD, filename=name) + END, path="/segment/batch")
        (item,) = response.json()["results"]
        assert item["status"] == 200
        assert item["filename"] in (name, name.rpartition("\\")[2])  # as old browsers sent them
        assert_still_serves(client)

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (part("file", b"x") * 1500, 422),
            (part("file", b"x") * 2001, 400),
            (part("q", b"x", filename=None) * 1100, 400),
            (part("q", b"x" * 90_000, filename=None), 422),
            (part("file", b"--in\r\n\r\n" + GOOD + b"\r\n--in--\r\n"), 400),
            (b"--edge\r\n" + b"X: y\r\n" * 9000 + b"\r\nx\r\n", 400),
            (b"--edge\r\nX: " + b"y" * 80_000 + b"\r\n\r\nx\r\n", 400),
            (part("file" * 5000, GOOD), 400),
        ],
        ids=[
            *(
                "many files",
                "too many files",
                "too many fields",
                "a long field",
                "a form in a form",
            ),
            *("many headers", "a long header", "a long name"),
        ],
    )
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_a_form_that_floods_is_refused(self, client: Client, body: bytes, status: int) -> None:
        assert_problem(post_form(client, body + END), status)
        gc.collect()  # Starlette leaves files of unfinished parts open, and that warns
        assert_still_serves(client)

    @pytest.mark.parametrize("media_type", ["image/png", "image/svg+xml", "image/x-unheard-of"])
    @pytest.mark.parametrize("format", FORMATS)
    def test_what_an_image_is_said_to_be_does_not_matter(
        self, client: Client, format: str, media_type: str
    ) -> None:
        content = encoded(plain(1, 12, 10), format)
        response = client.post("/segment", content=content, headers={"Content-Type": media_type})
        assert classes_of(response) == ["red"]


class TestImages:
    @pytest.mark.parametrize(
        ("format", "size"), [*product(FORMATS, SIZES), *product(LINE_FORMATS, LINES)]
    )
    def test_points_and_lines_are_images(
        self, client: Client, format: str, size: tuple[int, int]
    ) -> None:
        picture = Image.fromarray(plain(1, *size))
        content = encoded(picture.quantize(4) if format in ("BMP", "GIF") else picture, format)
        response = client.post("/segment", content=content)
        assert classes_of(response) == ["red"]
        assert (response.json()["width"], response.json()["height"]) == size

    @pytest.mark.parametrize(
        "content",
        [
            saved("GIF")[:13] + b";",
            saved("GIF")[:6] + bytes(7) + b";",
            saved("TIFF")[:4] + b"\x08" + bytes(40),
            saved("BMP")[:18] + bytes(36),
        ],
        ids=["a GIF of no frames", "a GIF of no size", "a TIFF of no pages", "a BMP of no size"],
    )
    def test_an_image_of_nothing_is_none(self, client: Client, content: bytes) -> None:
        assert_problem(client.post("/segment", content=content), 400)

    @pytest.mark.parametrize(
        "profile", [b"", b"x", b"x\0\0", b"x\0\0garbage", b"x\0\x07" + bytes(9)]
    )
    def test_a_broken_profile_is_passed_over_or_refused(
        self, client: Client, profile: bytes
    ) -> None:
        response = client.post("/segment", content=png_with_chunk(b"iCCP", profile))
        assert response.status_code in (200, 400), response.text

    @pytest.mark.parametrize(
        "content",
        [jpeg_of_scans(101), tiff_of_strips(13), gif_with(b"!\xfe" + b"\x01a" * 40_000)],
        ids=["scans", "strips", "an endless comment"],
    )
    def test_an_image_that_asks_for_hours_is_refused(self, client: Client, content: bytes) -> None:
        response = client.post("/segment", content=content)
        assert response.status_code in (400, 413)
        assert_problem(response, response.status_code)
        assert_still_serves(client)
