"""Counter-based random numbers, and drawing from weights with them.

A number is a pure function of (seed, candidate, position, stream).

There is no generator to advance, so a draw cannot depend on what else is in the batch, on the
order of steps, or on whether a branch was paused, forked or recomputed in between. The function is
Philox-4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers, as easy as 1, 2, 3, SC 2011,
section 3.3): integer arithmetic only, so the bits are the same on every platform.

The 64-bit seed is the key; the 128-bit counter is (position, candidate low, candidate high,
stream). `stream` separates uses at one position: ordinary sampling takes stream 0; a use that needs
further numbers at the same position (accepting drafts, say) takes another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MULTIPLIERS: Final = np.array([[0xD2511F53], [0xCD9E8D57]], dtype=np.uint64)
_KEY_STEPS: Final = np.array([[0x9E3779B9], [0xBB67AE85]], dtype=np.uint64)
_LOW: Final = np.uint64(0xFFFFFFFF)
_WORD: Final = np.uint64(32)
_ROUNDS: Final = 10
_BLOCK: Final = 256  # weights summed in float32 at a time when drawing


def philox4x32(counter: NDArray[np.uint64], key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Philox-4x32-10 of `counter` [4, n] under `key` [2, n], 32-bit words held in uint64: [4, n].

    Both arguments are left as they are.
    """
    # Words (0, 2) meet the multipliers and words (1, 3) the key: they travel as two pairs [2, n].
    even, odd = counter[0::2], counter[1::2]
    for turn in range(_ROUNDS):
        product = _MULTIPLIERS * even  # 32 x 32 bits: fits in 64
        round_key = (key + np.uint64(turn) * _KEY_STEPS) & _LOW
        # The high half of each product crosses to the other pair: [::-1].
        even = (product >> _WORD)[::-1] ^ odd ^ round_key
        odd = (product & _LOW)[::-1]
    out = np.empty_like(counter)
    out[0::2], out[1::2] = even, odd
    return out


def uniforms(
    seeds: Sequence[int], candidates: Sequence[int], positions: Sequence[int], stream: int = 0
) -> NDArray[np.float64]:
    """One number in the open interval (0, 1) for each row: [n].

    Seeds and candidates are taken modulo 2**64 (negative ones as two's complement), positions and
    `stream` modulo 2**32. The numbers are the odd multiples of 2**-53, so that neither 0 nor 1 can
    come out, and so that they are exact in float64.
    """
    seed = np.array([s & 0xFFFFFFFFFFFFFFFF for s in seeds], dtype=np.uint64)
    candidate = np.array([c & 0xFFFFFFFFFFFFFFFF for c in candidates], dtype=np.uint64)
    position = np.array([p & 0xFFFFFFFF for p in positions], dtype=np.uint64)
    if not len(seed) == len(candidate) == len(position):
        raise ValueError("seeds, candidates and positions differ in length")
    streams = np.full_like(position, stream & 0xFFFFFFFF)
    counter = np.stack([position, candidate & _LOW, candidate >> _WORD, streams])
    words = philox4x32(counter, np.stack([seed & _LOW, seed >> _WORD]))
    high_52_bits = ((words[0] << _WORD) | words[1]) >> np.uint64(12)
    middles: NDArray[np.float64] = (high_52_bits.astype(np.float64) + 0.5) * 2.0**-52
    return middles


def uniform(seed: int, candidate: int, position: int, stream: int = 0) -> float:
    """The number `uniforms` gives for a single row."""
    return float(uniforms([seed], [candidate], [position], stream)[0])


def invert(weights: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Where a fraction `u` [rows] of the cumulative weights [rows, n] falls.

    Returns the index [rows], always one with a positive weight, and how far into that weight the
    point lies, in [0, 1]. The weights must not all be zero.
    """
    cumulative = weights.double().cumsum(-1)
    total = cumulative[:, -1:]
    point = u[:, None] * total
    # The second count keeps rounding from stepping past the last positive weight.
    index = torch.minimum((cumulative <= point).sum(-1), (cumulative < total).sum(-1))[:, None]
    before = cumulative.gather(1, (index - 1).clamp(min=0)).masked_fill(index == 0, 0.0)
    inside = (point - before) / (cumulative.gather(1, index) - before)
    return index[:, 0], inside[:, 0].clamp(0.0, 1.0)


def block_sums(weights: Tensor) -> Tensor:
    """Sums of _BLOCK neighbours; [rows, vocab] -> [rows, blocks].

    Small blocks also keep torch from splitting a lone row's sum among threads, which would round
    otherwise than the same row among others.
    """
    whole = weights.shape[1] // _BLOCK * _BLOCK
    parts = []
    if whole:
        parts.append(weights[:, :whole].view(len(weights), -1, _BLOCK).sum(-1))
    if whole < weights.shape[1]:
        parts.append(weights[:, whole:].sum(-1, keepdim=True))
    return torch.cat(parts, 1)


def draw(weights: Tensor, u: Tensor) -> Tensor:
    """Tokens [rows] drawn at `u` [rows], in (0, 1), from weights [rows, vocab].

    Cumulative sums are in blocks (float32 within, float64 across): a plain cumulative sum over a
    vocabulary costs several times its softmax.
    """
    block, inside = invert(block_sums(weights), u)
    ids = block[:, None] * _BLOCK + torch.arange(_BLOCK, device=weights.device)
    last = weights.shape[1] - 1
    near = weights.gather(1, ids.clamp(max=last)).masked_fill_(ids > last, 0.0)
    return block * _BLOCK + invert(near, inside)[0]
