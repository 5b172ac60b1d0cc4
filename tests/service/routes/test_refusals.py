"""POST /segment: every way to be refused."""

import gc
import struct
from collections.abc import Iterator

import httpx
import pytest

from tests.service.answers import classes_of
from tests.service.clients import (
    GOOD,
    LARGE,
    Client,
    assert_problem,
    assert_still_serves,
)
from tests.service.colours import (
    encoded,
    plain,
)
from tests.service.forms import part, post_form
from tests.service.images import (
    noise,
    png_claiming,
    png_with_chunk,
)
from tests.service.server import Server

BAD_IMAGES = [
    pytest.param(noise("JPEG")[:3000], id="truncated JPEG"),
    pytest.param(noise("PNG")[:3000], id="truncated PNG"),
    pytest.param(noise("PNG").replace(b"IDAT", b"IDAX"), id="broken PNG"),
    pytest.param(b"\xff\xd8\xff\xe0" + bytes(500), id="broken JPEG"),
    pytest.param(noise("WEBP")[:2000], id="truncated WebP"),
    pytest.param(noise("TIFF")[:2000], id="truncated TIFF"),
    pytest.param(b"", id="empty"),
    pytest.param(b"a letter, not an image", id="text"),
    pytest.param(encoded(plain(1, 16, 16), "ICO"), id="ICO"),
    pytest.param(encoded(plain(1, 16, 16), "PPM"), id="PPM"),
]


class TestRefusals:
    @pytest.mark.parametrize("content", BAD_IMAGES)
    @pytest.mark.parametrize("form", [False, True], ids=["raw", "form"])
    def test_what_is_no_good_image_is_refused(
        self, client: Client, content: bytes, form: bool
    ) -> None:
        if form:
            response = client.post("/segment", files={"file": ("photo", content)})
        else:
            response = client.post("/segment", content=content)
        assert_problem(response, 400)
        assert_still_serves(client)

    @pytest.mark.parametrize("exif", [b"zz", b"II*\x00"])
    def test_broken_metadata_never_is_the_service_s_fault(
        self, client: Client, exif: bytes
    ) -> None:
        content = png_with_chunk(b"eXIf", exif)
        assert client.post("/segment", content=content).status_code in (200, 400)

    @pytest.mark.parametrize(
        ("body", "named"),
        [
            (part("file", b"red, please", filename=None), "text"),
            (part("image", GOOD), "'image'"),
            (part("image", GOOD) + part("photo", GOOD), "'image', 'photo'"),
            (part("file", GOOD) * 2, "/segment/batch"),
            (part("file", GOOD) * 3, "/segment/batch"),
            (b"", "no field"),
        ],
        ids=["text", "wrong name", "wrong names", "two files", "three files", "no field"],
    )
    def test_a_form_without_exactly_one_file_is_refused(
        self, client: Client, body: bytes, named: str
    ) -> None:
        response = post_form(client, body + b"--edge--\r\n")
        assert_problem(response, 422, "'file'", named)
        assert_still_serves(client)

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("multipart/form-data", part("file", GOOD)),
            ("multipart/form-data; boundary=", part("file", GOOD)),
            ("multipart/form-data; boundary=edge", b"garbage"),
            ("multipart/form-data; boundary=edge", b"\x00\xff" * 500),
            ("multipart/form-data; boundary=other", part("file", GOOD) + b"--edge--\r\n"),
            ("multipart/form-data; boundary=edge", b"--edge\r\nnonsense\r\n\r\nx\r\n--edge--\r\n"),
            (
                "multipart/form-data; boundary=edge",
                b"--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n--edge--\r\n",
            ),
            ("multipart/form-data; boundary=edge; charset=undefined", part("file", GOOD)),
            ("multipart/form-data; boundary=" + "e" * 5000, part("file", GOOD)),
        ],
        ids=[
            "no boundary",
            "empty boundary",
            "garbage",
            "binary garbage",
            "other boundary",
            "no header",
            "no name",
            "strange charset",
            "long boundary",
        ],
    )
    def test_a_malformed_form_is_refused(
        self, client: Client, content_type: str, body: bytes
    ) -> None:
        headers = {"Content-Type": content_type}
        response = client.post("/segment", content=body, headers=headers)
        assert_problem(response, 400)
        assert_still_serves(client)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_a_form_that_was_cut_off_is_refused(self, client: Client) -> None:
        response = post_form(client, part("file", GOOD)[:-20])
        assert response.status_code in (400, 422)
        assert_problem(response, response.status_code)
        gc.collect()  # Starlette leaves the unfinished part's file open, and that warns
        assert_still_serves(client)

    @pytest.mark.parametrize(
        "content_type", ["text/plain", "application/json", "video/mp4", "multipart/mixed", "x"]
    )
    def test_a_type_that_holds_no_image_is_refused_by_name(
        self, client: Client, content_type: str
    ) -> None:
        headers = {"Content-Type": content_type}
        response = client.post("/segment", content=GOOD, headers=headers)
        assert_problem(response, 415, repr(content_type), "multipart/form-data", "image/*")

    def test_several_accept_headers_count_as_one(self, client: Client) -> None:
        headers = [("Accept", "text/html"), ("Accept", "image/png")]
        response = client.post("/segment", content=GOOD, headers=headers)
        assert response.headers["content-type"] == "image/png"

    def test_an_accept_that_leaves_nothing_is_refused_by_name(self, client: Client) -> None:
        response = client.post("/segment", content=GOOD, headers={"Accept": "text/html"})
        assert_problem(response, 406, "'text/html'", "application/json, image/png")

    def test_an_unknown_model_is_refused_by_name(self, client: Client) -> None:
        for path in ("/segment", "/segment/batch"):
            response = client.post(f"{path}?model=nobody", content=GOOD)
            assert_problem(response, 404, "'nobody'", "'colours'")

    def test_an_unknown_output_is_refused_with_the_choices(self, client: Client) -> None:
        response = client.post("/segment?output=gif", content=GOOD)
        assert_problem(response, 422, "output", "json", "png")

    def test_the_limit_in_bytes_is_exact(self, client: Client) -> None:
        assert classes_of(client.post("/segment", content=LARGE[:-1])) == ["red"]
        assert classes_of(client.post("/segment", files={"file": LARGE[:-1]})) == ["red"]
        assert_problem(client.post("/segment", content=LARGE), 413, "100001", "100000")
        assert_problem(client.post("/segment", files={"file": LARGE}), 413, "100001", "100000")
        assert_still_serves(client)

    @pytest.mark.parametrize("size", [200_000, 3_000_000])
    def test_a_body_far_over_the_limit_is_refused(self, client: Client, size: int) -> None:
        assert_problem(client.post("/segment", content=GOOD + bytes(size)), 413, "limit")
        assert_problem(client.post("/segment", files={"file": GOOD + bytes(size)}), 413, "limit")
        assert_still_serves(client)

    def test_a_body_sent_in_chunks_over_the_limit_is_refused(self, server: Server) -> None:
        def chunks() -> Iterator[bytes]:
            yield GOOD
            for _ in range(30):
                yield bytes(10_000)

        response = httpx.post(f"{server.url}/segment", content=chunks(), timeout=30)
        assert_problem(response, 413, "limit")

    @pytest.mark.usefixtures("bounded_memory")
    def test_too_many_pixels_are_refused_before_decoding(self, client: Client) -> None:
        response = client.post("/segment", content=png_claiming(60_000, 60_000))
        assert_problem(response, 413, "60000x60000 = 3600000000", "1000000")
        assert_still_serves(client)

    def test_a_good_png_over_the_limit_in_pixels_is_refused(self, client: Client) -> None:
        response = client.post("/segment", content=encoded(plain(1, 1001, 1000)))
        assert_problem(response, 413, "1001x1000 = 1001000", "1000000")
        assert classes_of(client.post("/segment", content=encoded(plain(1, 1000, 1000)))) == ["red"]

    @pytest.mark.usefixtures("bounded_memory")
    def test_a_size_of_32_bits_is_refused(self, client: Client) -> None:
        header = struct.pack("<IIiHHIIiiII", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0)
        bitmap = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header
        assert client.post("/segment", content=bitmap).status_code in (400, 413)
        assert client.post("/segment", content=png_claiming(2**31 - 1, 2**31 - 1)).status_code in (
            400,
            413,
        )
