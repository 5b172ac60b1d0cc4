"""Clients that go on until they are told to stop, and what they count."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from benchmarks.serving.request import Photograph
from benchmarks.soak.actions import TIMEOUT_S, WEIGHTS, UnexpectedError, Visit, hangs_up

KEPT = 20  # failures in words
REUSE = 0.8  # share of actions on the connection of the last one


class Tally:
    """What was done, and what did not end as it must; of all threads."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.failures: list[str] = []
        self._lock = threading.Lock()

    def note(self, name: str, failure: str | None = None) -> None:
        with self._lock:
            self.done[name] += 1
            if failure is not None:
                self.failed[name] += 1
                if len(self.failures) < KEPT:
                    self.failures.append(f"{name}: {failure}")

    def do(self, name: str, work: Callable[[], None]) -> bool:
        try:
            work()
        except (UnexpectedError, OSError, HTTPException, ValueError, KeyError) as error:
            self.note(name, f"{type(error).__name__}: {error}")
            return False
        self.note(name)
        return True


class Client(threading.Thread):
    """Does one thing after another, chosen by its seed."""

    def __init__(
        self, port: int, key: str, pictures: list[Photograph], tally: Tally, *, seed: int
    ) -> None:
        super().__init__(name=f"client-{seed}", daemon=True)
        self.port = port
        self.headers = {"Authorization": f"Bearer {key}"}
        self.pictures = pictures
        self.tally = tally
        self.random = random.Random(seed)
        self.stopping = threading.Event()

    def run(self) -> None:
        actions, weights = list(WEIGHTS), list(WEIGHTS.values())
        connection = self._connection()
        while not self.stopping.is_set():
            [action] = self.random.choices(actions, weights)
            visit = Visit(connection, self.pictures, self.headers, self.random)
            good = self.tally.do(action.__name__, lambda action=action, v=visit: action(v))  # type: ignore[misc]
            if not good or action is hangs_up or self.random.random() > REUSE:
                connection.close()
                connection = self._connection()
        connection.close()

    def _connection(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)


class Changer(threading.Thread):
    """Lets the models answer in turn, and loads one that is broken now and then, which must be
    refused."""

    def __init__(
        self, port: int, key: str, models: list[str], broken: Path, tally: Tally, *, every_s: float
    ) -> None:
        super().__init__(name="changer", daemon=True)
        self.port = port
        self.headers = {"Authorization": f"Bearer {key}"}
        self.models = models
        self.broken = broken
        self.tally = tally
        self.every_s = every_s
        self.stopping = threading.Event()

    def run(self) -> None:
        turn = 0
        while not self.stopping.wait(self.every_s):
            turn += 1
            new, old = self.models[turn % 2], self.models[1 - turn % 2]
            self._post("activate", new, {200})
            self._post("unload", old, {204})
            if turn % 5 == 0:
                self._post("load", self.broken.stem, {422})

    def _post(self, what: str, model: str, expected: set[int]) -> None:
        def ask() -> None:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=5 * TIMEOUT_S)
            try:
                connection.request("POST", f"/models/{model}/{what}", headers=self.headers)
                answer = connection.getresponse()
                body = answer.read()
            finally:
                connection.close()
            if answer.status not in expected:
                raise UnexpectedError(f"{answer.status}: {body[:300]!r}")

        self.tally.do(what if expected != {422} else "load of a broken file", ask)
