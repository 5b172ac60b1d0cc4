"""Token buckets: how many, how fast they fill, how many are remembered."""

import pytest

from service.security.limiter import RateLimiter, client_of


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_at_once_and_then_as_it_fills() -> None:
    clock = Clock()
    limiter = RateLimiter(30, clock=clock)
    assert [limiter.take("a") for _ in range(30)] == [0.0] * 30
    assert limiter.take("a") == pytest.approx(2.0)
    clock.now += 1.5
    assert limiter.take("a") == pytest.approx(0.5)
    clock.now += 0.5
    assert limiter.take("a") == 0.0
    assert limiter.take("a") > 0


def test_a_refused_request_costs_nothing() -> None:
    clock = Clock()
    limiter = RateLimiter(1, clock=clock)
    assert limiter.take("a") == 0.0
    for _ in range(100):
        assert limiter.take("a") > 0
    clock.now += 60
    assert limiter.take("a") == 0.0


def test_rest_is_not_saved_up_beyond_a_minute() -> None:
    clock = Clock()
    limiter = RateLimiter(2, clock=clock)
    assert limiter.take("a") == 0.0
    clock.now += 3600
    assert [limiter.take("a") > 0 for _ in range(3)] == [False, False, True]


def test_clients_do_not_share() -> None:
    limiter = RateLimiter(1, clock=Clock())
    assert (limiter.take("a"), limiter.take("b")) == (0.0, 0.0)
    assert limiter.take("a") > 0


def test_memory_is_bounded_and_those_who_ask_are_remembered() -> None:
    limiter = RateLimiter(1, clock=Clock(), max_clients=10)
    for number in range(1000):
        limiter.take("busy")
        limiter.take(f"client {number}")
    assert limiter.clients == 10
    assert limiter.take("busy") > 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("a.example", "b.example", True),  # as a proxy may hand on whatever it was sent
        (None, "x" * 50_000, True),
        (None, "192.0.2.1", False),
    ],
)
def test_an_ipv6_network_is_one_client(one: str | None, other: str, same: bool) -> None:
    assert (client_of(one) == client_of(other)) is same
