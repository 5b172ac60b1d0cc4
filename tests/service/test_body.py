"""What a request's body may take: bytes, memory and time."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.body import DRAIN_BYTES, LEAST_BYTES_PER_S, BodyLimit, UploadMemory
from service.errors import OverloadedError, ServiceError
from tests.service.clients import GOOD, Client, assert_problem


class Sender:
    """A client's body in chunks; `taken` bytes of it were read."""

    def __init__(
        self, chunks: Iterable[bytes], *, stalls: bool = False, pause_s: float = 0
    ) -> None:
        self.chunks = list(chunks)
        self.pause_s = pause_s
        self.stalls = stalls
        self.taken = 0

    async def receive(self) -> Message:
        if not self.chunks:
            if self.stalls:
                await asyncio.sleep(3600)
            return {"type": "http.disconnect"}
        await asyncio.sleep(self.pause_s)
        chunk = self.chunks.pop(0)
        self.taken += len(chunk)
        more = bool(self.chunks) or self.stalls
        return {"type": "http.request", "body": chunk, "more_body": more}


def read_limited(
    sender: Sender,
    headers: Mapping[str, str],
    *,
    limit: int = 10,
    reads: bool = True,
    memory: UploadMemory | None = None,
    patience_s: float = 60,
) -> tuple[int, bytes]:
    """Status and body that an app behind BodyLimit answers with: an echo, or a refusal, or 406
    when it does not even read."""
    answer: list[Message] = []
    memory = memory or UploadMemory(1 << 30)
    before = memory.held

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        status, body = (200, bytearray()) if reads else (406, bytearray())
        try:
            more = reads
            while more:
                message = await receive()
                body.extend(message["body"])
                more = message["more_body"]
        except ServiceError as error:
            status, body = error.status, bytearray(error.detail.encode())
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": bytes(body)})

    async def send(message: Message) -> None:
        answer.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "path": "/x", "headers": raw}
    bounded = BodyLimit(app, limit_of=lambda path: limit, memory=memory, patience_s=patience_s)
    asyncio.run(bounded(scope, sender.receive, send))
    assert memory.held == before
    start, body = answer
    return start["status"], body["body"]


CHUNKED = {"transfer-encoding": "chunked"}


class TestBodyLimit:
    def test_a_body_of_exactly_the_limit_passes_unchanged(self) -> None:
        for headers in ({"content-length": "10"}, CHUNKED):
            sender = Sender([b"abc", b"", b"defg", b"hij"])
            assert read_limited(sender, headers) == (200, b"abcdefghij")

    def test_one_byte_more_is_refused_whatever_the_length_says(self) -> None:
        for headers in (CHUNKED, {"content-length": "3"}, {"content-length": "nonsense"}):
            status, detail = read_limited(Sender([b"abcdefghij", b"k"]), headers)
            assert (status, b"limit of 10 bytes" in detail) == (413, True)

    def test_a_length_over_the_limit_is_refused_though_little_comes(self) -> None:
        status, _ = read_limited(Sender([b"abc"]), {"content-length": "11"})
        assert status == 413

    @pytest.mark.parametrize("headers", [CHUNKED, {"content-length": "5000"}])
    @pytest.mark.parametrize(("reads", "status"), [(True, 413), (False, 406)])
    def test_the_rest_is_read_so_that_the_client_can_read_the_answer(
        self, headers: dict[str, str], reads: bool, status: int
    ) -> None:
        sender = Sender([bytes(100)] * 50)
        assert read_limited(sender, headers, reads=reads)[0] == status
        assert sender.taken == 5000

    def test_an_endless_body_is_not_read_for_ever(self) -> None:
        piece = bytes(8 * 2**20)
        sender = Sender([piece] * 50)
        assert read_limited(sender, CHUNKED)[0] == 413
        assert sender.taken <= DRAIN_BYTES + 2 * len(piece)

    def test_a_client_that_stops_sending_is_not_waited_for_for_ever(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.body.DRAIN_S", 0.05)
        sender = Sender([b"abc"], stalls=True)
        assert read_limited(sender, {"content-length": "11"})[0] == 413

    def test_a_client_that_hangs_up_is_not_waited_for(self) -> None:
        sender = Sender([b"abc"])
        assert read_limited(sender, {"content-length": "11"}, reads=False)[0] == 406

    @pytest.mark.parametrize(("reads", "status"), [(True, 413), (False, 406)])
    def test_a_client_that_waits_for_permission_is_refused_unread(
        self, reads: bool, status: int
    ) -> None:
        sender = Sender([b"x" * 50])
        headers = {"content-length": "50", "expect": "100-continue"}
        assert read_limited(sender, headers, reads=reads)[0] == status
        assert sender.taken == 0

    def test_a_client_that_waits_with_a_good_length_is_read(self) -> None:
        headers = {"content-length": "5", "expect": "100-Continue"}
        assert read_limited(Sender([b"x" * 5]), headers) == (200, b"xxxxx")

    def test_bodies_share_a_memory_and_give_back_what_they_held(self) -> None:
        memory = UploadMemory(20)
        memory.take(12)
        body = [b"abcd", b"efgh"]
        assert read_limited(Sender(body), CHUNKED, memory=memory) == (200, b"abcdefgh")
        status, detail = read_limited(Sender([*body, b"i"]), CHUNKED, memory=memory)
        assert (status, b"20 bytes" in detail) == (503, True)

    def test_an_upload_that_finds_no_memory_takes_none_from_others(self) -> None:
        memory = UploadMemory(20)
        memory.take(12)
        with pytest.raises(OverloadedError):
            memory.take(9)
        memory.take(8)
        assert memory.held == 20

    def test_what_is_refused_is_given_back_before_the_rest_is_read(self) -> None:
        memory, held = UploadMemory(100), list[int]()

        class Watched(Sender):
            async def receive(self) -> Message:
                held.append(memory.held)
                return await super().receive()

        sender = Watched([bytes(8)] * 4)
        assert read_limited(sender, CHUNKED, memory=memory)[0] == 413
        assert held == [0, 8, 0, 0]

    def test_an_upload_that_stalls_is_given_up(self) -> None:
        sender = Sender([b"abc"], stalls=True)
        status, detail = read_limited(sender, CHUNKED, patience_s=0.05)
        assert (status, b"3 bytes" in detail) == (408, True)

    def test_one_that_drips_is_given_up_though_it_never_stops(self) -> None:
        sender = Sender([b"a"] * 10_000, pause_s=0.01)
        assert read_limited(sender, CHUNKED, limit=20_000, patience_s=0.2)[0] == 408
        assert sender.taken < 100

    def test_one_that_began_fast_is_given_up_as_soon(self) -> None:
        """Or a few clients could hold all memory for uploads for half an hour."""
        fast = bytes(60 * LEAST_BYTES_PER_S)  # a minute's
        sender = Sender([fast], stalls=True)
        status, detail = read_limited(sender, CHUNKED, limit=1 << 30, patience_s=0.05)
        assert (status, str(len(fast)).encode() in detail) == (408, True)

    def test_one_that_is_long_and_steady_has_all_the_time_it_needs(self) -> None:
        piece = bytes(LEAST_BYTES_PER_S // 10)  # a tenth of a second's
        sender = Sender([piece] * 12, pause_s=0.02)
        assert read_limited(sender, CHUNKED, limit=1 << 20, patience_s=0.1)[0] == 200

    def test_single_images_and_batches_have_limits_of_their_own(self, client: Client) -> None:
        body = GOOD + bytes(200_000)
        assert_problem(client.post("/segment", content=body), 413)
        response = client.post("/segment/batch", files=[("file", ("a", body))])
        assert response.status_code == 200
        assert response.json()["results"][0]["status"] == 413
        body += bytes(100_000)
        assert_problem(client.post("/segment/batch", files=[("file", ("a", body))]), 413, "300000")
