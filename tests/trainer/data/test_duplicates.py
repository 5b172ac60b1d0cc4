"""Repeated and nearly repeated images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainer.datasets import noise
from trainer.data import duplicates
from trainer.data.duplicates import Pair, hamming, identical_files, near_pairs, perceptual_hash


def photograph(seed: int) -> Tensor:
    """Smooth random colours: uint8 (3, 96, 128)."""
    small = torch.from_numpy(noise(6, 8, seed=seed)).permute(2, 0, 1)[None].float()
    large = torch.nn.functional.interpolate(small, (96, 128), mode="bilinear")
    return large[0].round().to(torch.uint8)


def bits_apart(first: Tensor, second: Tensor) -> int:
    return (perceptual_hash(first) ^ perceptual_hash(second)).bit_count()


def test_a_hash_survives_resizing_and_brightening_but_not_another_motif() -> None:
    image = photograph(0)
    smaller = torch.nn.functional.interpolate(image[None].float(), (48, 64), mode="area")[0]
    assert bits_apart(image, smaller.round().to(torch.uint8)) <= 4
    assert bits_apart(image, (image.float() * 0.8 + 20).to(torch.uint8)) <= 4
    assert bits_apart(image, photograph(1)) > 12


@pytest.mark.parametrize("native", [True, False])
def test_hamming_counts_bits(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        monkeypatch.delattr(np, "bitwise_count", raising=False)
    random = np.random.default_rng(0)
    first, second = (random.integers(0, 1 << 63, n, dtype=np.uint64) for n in (5, 7))
    expected = [[(int(a) ^ int(b)).bit_count() for b in second] for a in first]
    assert hamming(first, second).tolist() == expected


@pytest.mark.parametrize("block", [1, 7, 1 << 22])
def test_pairs_are_those_of_a_plain_loop_whatever_the_block(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "BLOCK_PAIRS", block)
    hashes = {str(i): int(v) for i, v in enumerate(np.random.default_rng(0).integers(0, 64, 20))}
    names = list(hashes)
    within = near_pairs(hashes, max_distance=1)
    expected = {
        Pair((hashes[a] ^ hashes[b]).bit_count(), a, b)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if (hashes[a] ^ hashes[b]).bit_count() <= 1
    }
    assert set(within.closest) == expected
    assert within.count == len(expected)
    assert within.closest == sorted(within.closest)


def test_an_image_is_no_pair_with_itself_across_splits() -> None:
    pairs = near_pairs({"a": 5, "b": 6}, {"b": 6, "c": 5, "d": 1 << 63}, max_distance=2)
    assert [(p.first, p.second, p.distance) for p in pairs.closest] == [
        ("a", "c", 0),
        ("a", "b", 2),
        ("b", "c", 2),
    ]


def test_all_pairs_are_counted_and_only_the_closest_kept() -> None:
    hashes = {f"{index:03d}": 1 if index < 99 else 0 for index in range(100)}
    pairs = near_pairs(hashes, max_distance=4)
    assert pairs.count == 100 * 99 // 2
    assert len(pairs.closest) == duplicates.MAX_KEPT_PAIRS
    assert pairs.closest[-1].distance == 0


def test_no_images_have_no_pairs() -> None:
    assert near_pairs({}, {}, max_distance=4).count == 0


def test_files_of_the_same_bytes_are_grouped(tmp_path: Path) -> None:
    contents = {"a": b"one", "b": b"two", "c": b"one", "d": b"three", "e": b"one"}
    paths = {name: tmp_path / name for name in contents}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    assert identical_files(paths) == [["a", "c", "e"]]
