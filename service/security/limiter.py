"""How often each client may ask: a token bucket each, in bounded memory."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

MAX_CLIENTS = 10_000


@dataclass
class _Bucket:
    tokens: float
    filled: float  # when, in seconds of the clock


class RateLimiter:
    """`per_minute` requests in the long run, and as many at once after a minute's rest.

    The clients heard of last are remembered; one that is forgotten starts with a full bucket.
    """

    def __init__(
        self,
        per_minute: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        self._size = float(per_minute)
        self._per_second = per_minute / 60
        self._clock = clock
        self._max_clients = max_clients
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, client: str) -> float:
        """Seconds until the client may ask again: 0 where it may now, which is then counted."""
        now = self._clock()
        bucket = self._buckets.setdefault(client, _Bucket(self._size, now))
        self._buckets.move_to_end(client)
        if len(self._buckets) > self._max_clients:
            self._buckets.popitem(last=False)
        gained = (now - bucket.filled) * self._per_second
        bucket.tokens = min(self._size, bucket.tokens + gained)
        bucket.filled = now
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0.0
        return (1 - bucket.tokens) / self._per_second

    @property
    def clients(self) -> int:
        """How many are remembered."""
        return len(self._buckets)


def client_of(host: str | None) -> str:
    """Whom an address stands for: in IPv6 a network of 64 bits, which is what one client is given
    and could otherwise ask from without end. What is no address, as a proxy may hand on whatever
    it was sent, is all one client."""
    try:
        address = ip_address((host or "").partition("%")[0])
    except ValueError:
        return "address unknown"
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return f"address {IPv6Address(int(address) >> 64 << 64)}/64"
    return f"address {address}"
