"""Reading the calibration text: channel statistics first, moments layer by layer afterwards.

The model reads the text in windows; memory is bounded by two numbers per channel in the first pass
and, in the second, by the layers whose moments are kept at once. The first pass can be stopped and
gone on with (`state`): what it has seen is written every few windows, with a fingerprint of the
model and the text.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tenfold.errors import InvalidRequest
from tenfold.models.decoder import Decoder
from tenfold.models.reference import reference_hidden
from tenfold.models.spec import DecoderSpec
from tenfold.quant.forward import Tap, TappedDecoder
from tenfold.quant.sites import Site, sites
from tenfold.quant.statistics import (
    ChannelStatistics,
    Moments,
    statistics_from,
    statistics_tensors,
)

Progress = Callable[[str, float], None]  # what is being done, and the share of it that is done

WINDOW = 2048
MOST_TOKENS = 128 * WINDOW
FEWEST_TOKENS = 512
SAVE_EVERY = 16  # windows


@dataclass(frozen=True, slots=True)
class CalibrationText:
    """Windows of token ids, each read on its own."""

    windows: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if self.tokens < FEWEST_TOKENS:
            empty = "empty" if not self.tokens else "too short"
            raise InvalidRequest(
                f"the calibration text is {empty}: {self.tokens} tokens",
                param="calibrate",
                hint=f"{FEWEST_TOKENS} tokens at least, better {MOST_TOKENS // 8} or more, like "
                "those the model will meet",
            )

    @classmethod
    def cut(
        cls, ids: Sequence[int], length: int = WINDOW, most: int = MOST_TOKENS
    ) -> CalibrationText:
        """A long text in windows of `length`, the first `most` tokens of it."""
        kept = ids[:most]
        return cls(tuple(tuple(kept[i : i + length]) for i in range(0, len(kept), length)))

    @property
    def tokens(self) -> int:
        return sum(map(len, self.windows))


class _Enough(Exception):
    """The forward pass has come past the last input that was wanted."""


def read_window(decoder: Decoder, window: Sequence[int]) -> None:
    """One window through the layers; a tap may end it early by raising `_Enough`."""
    try:
        reference_hidden(decoder, torch.tensor(window))
    except _Enough:
        return


def channel_statistics(
    spec: DecoderSpec,
    tensors: Mapping[str, Tensor],
    text: CalibrationText,
    progress: Progress = lambda stage, share: None,
    state: Path | None = None,
) -> dict[Site, ChannelStatistics]:
    """Largest magnitudes and mean squares at every linear input.

    With `state`, goes on from that file when it is of the same model and text, and keeps it up to
    date. Raises InvalidRequest when an activation is NaN or infinite.
    """
    key = fingerprint(spec, tensors, text)
    found, begin = _resume(spec, state, key)

    def tap(site: Site, x: Tensor) -> Tensor:
        found[site].add(x)
        return x

    decoder = TappedDecoder(spec, tensors, tap)
    for number in range(begin, len(text.windows)):
        progress("calibrating", number / len(text.windows))
        read_window(decoder, text.windows[number])
        if state is not None and (number + 1) % SAVE_EVERY == 0:
            _save(state, found, key, number + 1)
    return found


def fingerprint(spec: DecoderSpec, tensors: Mapping[str, Tensor], text: CalibrationText) -> str:
    """Of a model and a text: 64 hexadecimal digits. Weights are looked at in samples."""
    seen = hashlib.sha256(repr(spec).encode())
    for name in sorted(tensors):
        flat = tensors[name].flatten()
        sample = flat[:: max(1, len(flat) // 64)].float().tolist()
        seen.update(json.dumps([name, sample]).encode())
    seen.update(json.dumps(text.windows).encode())
    return seen.hexdigest()


def _resume(
    spec: DecoderSpec, state: Path | None, key: str
) -> tuple[dict[Site, ChannelStatistics], int]:
    fresh = {site: ChannelStatistics.empty(site.width(spec)) for site in sites(spec)}
    if state is None or not state.is_file():
        return fresh, 0
    with safe_open(state, framework="pt") as file:
        about = file.metadata() or {}
        if about.get("fingerprint") != key:
            return fresh, 0
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return statistics_from(tensors, sites(spec)), int(about["windows"])


def _save(state: Path, found: dict[Site, ChannelStatistics], key: str, windows: int) -> None:
    beside = state.with_name(state.name + ".new")
    about = {"fingerprint": key, "windows": str(windows)}
    save_file(statistics_tensors(found), beside, metadata=about)
    os.replace(beside, state)


def input_moments(
    spec: DecoderSpec,
    tensors: Mapping[str, Tensor],
    text: CalibrationText,
    wanted: Sequence[Site],
    rounding: Tap,
    progress: Progress = lambda stage, share: None,
) -> dict[Site, Moments]:
    """Sums of outer products of what the products read at the inputs `wanted`, after `rounding`."""
    found = {site: Moments.empty(site.width(spec)) for site in wanted}
    last = wanted[-1]

    def tap(site: Site, x: Tensor) -> Tensor:
        x = rounding(site, x)
        if site in found:
            found[site].add(x)
        if site == last:
            raise _Enough
        return x

    decoder = TappedDecoder(spec, tensors, tap)
    for number, window in enumerate(text.windows):
        progress(f"layers {wanted[0].layer} to {last.layer}", number / len(text.windows))
        read_window(decoder, window)
    return found
