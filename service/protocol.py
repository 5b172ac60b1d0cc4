"""HTTP/1.1 as uvicorn speaks it with httptools, with a bound on all that is not a body.

Neither of them has one: a header of gigabytes would be kept, and joined anew with every piece of
it that arrives. Bodies are counted further in, by BodyLimit.
"""

import json
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.problems import MEDIA_TYPE, problem
from service.telemetry.logs import new_request_id

MAX_HEAD_BYTES = 64 * 1024  # together with what arrives in the same moment as the last of it
MAX_SHARE = 8  # of a body's bytes: a chunk of one byte has five bytes around it


class BoundedProtocol(HttpToolsProtocol):
    """Refuses with 431 what goes on too long before a body, around its chunks or behind it; what
    is no HTTP at all with 400; both as problem documents."""

    _beside = 0  # bytes that came and were no body, less those that its length excuses

    def data_received(self, data: bytes) -> None:
        self._beside += len(data)
        super().data_received(data)
        if self._beside > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, f"the request's headers are longer than {MAX_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        self._beside = 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        self._beside = max(0, self._beside - (1 + MAX_SHARE) * len(body))
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "this is not an HTTP/1.1 request")

    def _refuse(self, status: int, detail: str) -> None:
        """Ends the connection. A request whose own body it is that cannot be read is given up; one
        that came whole is answered first, and nothing else is said."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self.transport.write(_answer(status, detail))
        elif cycle.more_body and not cycle.response_started and not self.pipeline:
            cycle.disconnected = True  # it says no more
            cycle.message_event.set()
            self.transport.write(_answer(status, detail))
        elif not cycle.more_body and not self.pipeline:
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        self.transport.close()


def _answer(status: int, detail: str) -> bytes:
    phrase, request_id = HTTPStatus(status).phrase, new_request_id()
    content = json.dumps(problem(status, phrase, detail, request_id=request_id)).encode()
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {MEDIA_TYPE}\r\n"
        f"Content-Length: {len(content)}\r\nX-Request-ID: {request_id}\r\n"
        "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + content
