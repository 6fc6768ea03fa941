"""Integers of 4 and 8 bits in int32 words, as compressed-tensors' `pack-quantized` stores them.

A row of `columns` integers becomes ceil(columns * bits / 32) words; integer i of a word lies at bit
`bits * i`, stored with 2^(bits-1) added, and what is left of the last word is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold.errors import InvalidRequest
from tenfold.quant.formats import WEIGHT_BITS, check_bits


def packed_columns(columns: int, bits: int) -> int:
    """How many words a row of integers takes."""
    return -(-columns * bits // 32)


def pack(values: Tensor, bits: int) -> Tensor:
    """int8 [rows, columns] -> int32 [rows, words]."""
    check_bits(bits, WEIGHT_BITS, "weight_bits")
    rows, columns = values.shape
    words, per_word = packed_columns(columns, bits), 32 // bits
    codes = torch.zeros(rows, words * per_word, dtype=torch.int64)
    codes[:, :columns] = values.to(torch.int64) + 2 ** (bits - 1)
    shifts = torch.arange(per_word) * bits
    # The fields of a word do not overlap, so their sum is their union.
    whole = (codes.view(rows, words, per_word) << shifts).sum(-1)
    return torch.where(whole >= 2**31, whole - 2**32, whole).to(torch.int32)


def unpack(packed: Tensor, bits: int, columns: int, what: str = "the packed weight") -> Tensor:
    """int32 [rows, words] -> int8 [rows, columns].

    Raises InvalidRequest when the words are not those of so many columns.
    """
    check_bits(bits, WEIGHT_BITS, "weight_bits")
    if packed.dtype != torch.int32 or packed.ndim != 2:
        raise InvalidRequest(
            f"{what} is {packed.dtype} of {packed.ndim} dimensions",
            hint="pack-quantized weights are int32 of two",
        )
    words = packed_columns(columns, bits)
    if packed.shape[1] != words:
        raise InvalidRequest(
            f"{what} has {packed.shape[1]} words in a row, {columns} integers of {bits} bits "
            f"take {words}",
            hint="the file is truncated, or its weight_shape is another layer's",
        )
    shifts = torch.arange(32 // bits) * bits
    codes: Tensor = (packed.to(torch.int64).unsqueeze(-1) >> shifts) & (2**bits - 1)
    values: Tensor = codes.flatten(1)[:, :columns] - 2 ** (bits - 1)
    return values.to(torch.int8)
