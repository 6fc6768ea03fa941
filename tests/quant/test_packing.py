"""Packing against the compressed-tensors package itself, and against Python's integers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.errors import InvalidRequest
from tenfold.quant.packing import pack, packed_columns, unpack


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([4, 8]), st.integers(1, 5), st.integers(1, 67))
def test_words_hold_the_integers_at_their_bits(
    seed: int, bits: int, rows: int, columns: int
) -> None:
    half = 2 ** (bits - 1)
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-half, half, (rows, columns), generator=generator).to(torch.int8)
    packed = pack(values, bits)
    assert packed.shape == (rows, packed_columns(columns, bits))
    for row in range(rows):
        number = int.from_bytes(packed[row].numpy().astype("<i4").tobytes(), "little")
        codes = [(number >> (bits * i)) & (2**bits - 1) for i in range(columns)]
        assert [c - half for c in codes] == values[row].tolist()
        assert number >> (bits * columns) == 0
    assert torch.equal(unpack(packed, bits, columns), values)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("columns", [32, 44])
def test_compressed_tensors_reads_and_writes_the_same_words(bits: int, columns: int) -> None:
    from compressed_tensors.compressors.pack_quantized import helpers as oracle

    half = 2 ** (bits - 1)
    values = torch.arange(3 * columns).view(3, columns) % (2 * half) - half
    values = values.to(torch.int8)
    assert torch.equal(pack(values, bits), oracle.pack_to_int32(values, bits))
    back = oracle.unpack_from_int32(pack(values, bits), bits, torch.Size(values.shape))
    assert torch.equal(back, values)


def test_truncated_words_are_refused() -> None:
    packed = pack(torch.zeros(2, 32, dtype=torch.int8), 4)
    with pytest.raises(InvalidRequest, match="3 words in a row, 32 integers of 4 bits take 4"):
        unpack(packed[:, :3], 4, 32, "layer 1")
    with pytest.raises(InvalidRequest, match=r"layer 1 is torch\.int64"):
        unpack(packed.long(), 4, 32, "layer 1")
