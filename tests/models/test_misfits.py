"""How the tensors of a file differ from those of a network."""

import torch

from models.misfits import MAX_LISTED_KEYS, list_misfits


def test_what_fits_has_nothing_to_list() -> None:
    state = {"a.weight": torch.zeros(2, 3)}
    assert list_misfits(state, {"a.weight": torch.ones(2, 3)}) == []


def test_a_missing_a_surplus_and_a_differing_key_are_all_named() -> None:
    state = {"a.weight": torch.zeros(2, 3), "c.weight": torch.zeros(1)}
    expected = {"a.weight": torch.zeros(2, 4), "b.weight": torch.zeros(1)}
    assert list_misfits(state, expected) == [
        "a.weight is (2, 3) in the checkpoint, (2, 4) in the model",
        "b.weight is missing",
        "c.weight is not in the model",
    ]


def test_batch_counters_may_be_absent() -> None:
    assert list_misfits({}, {"norm.num_batches_tracked": torch.tensor(0)}) == []


def test_a_long_list_is_cut_and_the_rest_counted() -> None:
    expected = {f"layer{index}.weight": torch.zeros(1) for index in range(MAX_LISTED_KEYS + 3)}
    misfits = list_misfits({}, expected)
    assert len(misfits) == MAX_LISTED_KEYS + 1
    assert misfits[-1] == "and 3 more"
