"""Questions and answers between processes."""

import os
import sys
from pathlib import Path

import pytest

from benchmarks.serving.errors import BenchmarkError
from benchmarks.serving.own_process import ask, conversation

ANSWERING = """
import os, sys, time
from benchmarks.serving.own_process import answer

asked = 0

def respond(question):
    global asked
    asked += 1
    print("a library says something", file=sys.stdout)
    if question == "fail":
        raise ValueError("what went wrong")
    if question == "sleep":
        time.sleep(60)
    return [question, asked, os.getpid()]

answer(respond)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "answering.py").write_text(ANSWERING)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{':'.join(['', *sys.path])}")
    return "answering"


def test_a_process_answers_one_question_after_another(module: str) -> None:
    with conversation(module, timeout_s=60) as put:
        assert put({"what": 1})[:2] == [{"what": 1}, 1]
        assert put("more")[:2] == ["more", 2]
    assert ask(module, "alone", timeout_s=60)[:2] == ["alone", 1]


def test_the_process_has_ended_with_the_conversation(module: str) -> None:
    with conversation(module, timeout_s=60) as put:
        pid = put("who")[2]
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_fails_says_why(module: str) -> None:
    with (
        conversation(module, timeout_s=60) as put,
        pytest.raises(BenchmarkError, match="answering: ValueError: what went wrong"),
    ):
        put("fail")
    with pytest.raises(BenchmarkError, match=r"no_such: .*No module named no_such"):
        ask("no_such", "anybody", timeout_s=60)


def test_what_takes_too_long_is_ended(module: str) -> None:
    with pytest.raises(BenchmarkError, match="answering: no answer within 5 s"):
        ask(module, "sleep", timeout_s=5)
