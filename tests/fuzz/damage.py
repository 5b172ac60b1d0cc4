"""Damage that knows nothing of formats."""

from random import Random
from typing import Literal

Order = Literal["big", "little"]

ORDERS: tuple[Order, ...] = ("big", "little")
INTERESTING = (0, 1, 2, 3, 7, 8, 16, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF)
LARGE = (0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
HEADER_BYTES = 256


def number(random: Random) -> int:
    """Where programs err: around powers of two, and anything."""
    if random.random() < 0.7:
        return random.choice((*INTERESTING, *LARGE))
    return random.randrange(1 << random.choice((8, 16, 32)))


def packed(value: int, size: int, order: Order) -> bytes:
    """The lowest `size` bytes."""
    return (value & (1 << 8 * size) - 1).to_bytes(size, order)


def flip_bits(content: bytearray, random: Random) -> bytearray:
    for _ in range(random.choice((1, 1, 2, 8, 40))):
        content[_place(content, random)] ^= 1 << random.randrange(8)
    return content


def overwrite(content: bytearray, random: Random) -> bytearray:
    for _ in range(random.choice((1, 1, 3))):
        size = random.choice((1, 2, 4))
        place = _place(content, random)
        content[place : place + size] = packed(number(random), size, random.choice(ORDERS))
    return content


def truncate(content: bytearray, random: Random) -> bytearray:
    del content[_place(content, random) :]
    return content


def remove(content: bytearray, random: Random) -> bytearray:
    place = _place(content, random)
    del content[place : place + _stretch(random)]
    return content


def duplicate(content: bytearray, random: Random) -> bytearray:
    place = _place(content, random)
    content[place:place] = content[place : place + _stretch(random)] * random.choice((1, 2, 50))
    return content


def scramble(content: bytearray, random: Random) -> bytearray:
    place = _place(content, random)
    size = min(_stretch(random), len(content) - place)
    content[place : place + size] = random.choice(
        (bytes(size), b"\xff" * size, random.randbytes(size))
    )
    return content


def append(content: bytearray, random: Random) -> bytearray:
    size = random.choice((1, 100, 10_000, 100_000))
    return content + random.choice((random.randbytes(size), bytes(size), bytes(content[:size])))


DAMAGE = (flip_bits, overwrite, truncate, remove, duplicate, scramble, append)


def splice(content: bytearray, other: bytes, random: Random) -> bytearray:
    """The beginning of one and the end of another."""
    return content[: _place(content, random)] + other[random.randrange(len(other)) :]


def _place(content: bytearray, random: Random) -> int:
    """Half of the time near the beginning, where the headers are."""
    end = len(content) if random.random() < 0.5 else min(len(content), HEADER_BYTES)
    return random.randrange(max(end, 1))


def _stretch(random: Random) -> int:
    return random.choice((1, 2, 4, 12, 100, 5000))
