"""Accept headers: quality, specificity, nonsense."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import NotAcceptableError
from service.negotiation import choose_output


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "json"),
        ("", "json"),
        ("  ", "json"),
        ("*/*", "json"),
        ("application/json", "json"),
        ("image/png", "png"),
        ("IMAGE/PNG", "png"),
        ("application/*", "json"),
        ("image/*", "png"),
        ("image/png, application/json", "json"),
        ("image/png, */*", "json"),
        ("image/png, */*;q=0.8", "png"),
        ("application/json;q=0.3, image/png;q=0.4", "png"),
        ("application/json;q=0.4, image/png;q=0.3", "json"),
        ("application/json;q=0, */*", "png"),
        ("*/*;q=0.9, image/png;q=0.1", "json"),
        ("*/*;q=0.1, image/*;q=0.9, image/png;q=0.05", "json"),
        ("image/*;q=0.5, */*;q=0.1", "png"),
        ("text/html, image/png;q=0.2", "png"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", "json"),
        ("application/json;charset=utf-8", "json"),
        ("image/png ; Q=0.7 , application/json ; q = 0.2", "png"),
        ("image/png;q=1.5, application/json", "json"),
        (",,image/png,,", "png"),
    ],
)
def test_the_best_match_is_chosen(accept: str | None, chosen: str) -> None:
    assert choose_output(accept, None) == chosen


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "image/jpeg",
        "image/png;q=0",
        "*/*;q=0",
        "image/*;q=0, application/*;q=0.0",
        "png",
        "image/png;q=",
        "image/png;q=high",
        "image/png;q=nan",
        "application/json;q=nan",
        ";;;",
    ],
)
def test_what_leaves_nothing_is_refused_with_the_choices(accept: str) -> None:
    with pytest.raises(NotAcceptableError) as caught:
        choose_output(accept, None)
    assert accept in caught.value.detail
    assert "application/json, image/png" in caught.value.detail


@pytest.mark.parametrize("accept", [None, "text/html", "application/json", "image/png;q=0"])
def test_the_query_wins_over_the_header(accept: str | None) -> None:
    assert choose_output(accept, "png") == "png"
    assert choose_output(accept, "json") == "json"


def test_a_huge_header_is_not_repeated_in_full() -> None:
    with pytest.raises(NotAcceptableError) as caught:
        choose_output("x/y," * 10_000, None)
    assert len(caught.value.detail) < 400


PIECES = st.sampled_from(
    ["image/png", "application/json", "*/*", "image/*", ";", ",", "q=", "0.5", "nan", "inf", " "]
)


@given(st.text() | st.lists(PIECES).map("".join))
def test_no_header_raises_anything_but_not_acceptable(accept: str) -> None:
    with suppress(NotAcceptableError):
        assert choose_output(accept, None) in ("json", "png")
