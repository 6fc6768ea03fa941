"""The report of a quantization as one HTML page that needs nothing else.

Channel magnitudes of every input before and after the permutation, drawn as bars, with the blocks
that got 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import torch
from torch import Tensor

from tenfold.quant.quantize import QuantizedModel, SiteReport

WIDTH, HEIGHT = 480, 90
MOST_BARS = 512

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right}"
    "figure{margin:1rem 0;display:flex;gap:1rem;flex-wrap:wrap}svg{background:#f5f5f2}"
    "h3{margin-bottom:0}"
)


def html_report(model: QuantizedModel, name: str) -> str:
    """The page."""
    config = model.config
    rows = "".join(_row(r) for r in model.reports)
    charts = "".join(_charts(r, config.block, model.block_bits[r.site]) for r in model.reports)
    title = f"{escape(name)} as {config.scheme.name}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1>"
        f"<p>Blocks of {config.block} channels, method {config.method}; "
        f"{model.share_a4:.1%} of the multiplications read 4-bit activations.</p>"
        "<table><tr><th>input<th>A4 blocks<th>error of the outputs<th>KiB</tr>"
        f"{rows}</table>"
        "<h2>Largest magnitude of each channel</h2>"
        "<p>Logarithmic, each drawing from 1/100 of the median channel to the largest one. Left "
        "before the permutation, right after it; shaded blocks are kept in 8 bits.</p>"
        f"{charts}</html>\n"
    )


def _row(report: SiteReport) -> str:
    share = "-" if report.share_a4 is None else f"{report.share_a4:.0%}"
    return (
        f"<tr><td>{report.site.name}<td>{share}<td>{report.error:.3%}"
        f"<td>{report.bytes / 1024:.0f}</tr>"
    )


def _charts(report: SiteReport, block: int, bits: Tensor | None) -> str:
    after = _bars(report.after, _eight(bits, block))
    return f"<h3>{report.site.name}</h3><figure>{_bars(report.before, [])}{after}</figure>"


def _eight(bits: Tensor | None, block: int) -> list[tuple[int, int]]:
    """The channels (begin, end) of the blocks of 8 bits; none where all have as many."""
    if bits is None or int(bits.min()) == 8:
        return []
    return [(i * block, (i + 1) * block) for i in (bits == 8).nonzero().flatten().tolist()]


def _bars(largest: Tensor, shaded: Sequence[tuple[int, int]]) -> str:
    """A drawing of magnitudes [width]; wide inputs are drawn by the largest of neighbours."""
    width = len(largest)
    per_bar = -(-width // MOST_BARS)
    padded = torch.nn.functional.pad(largest, (0, -width % per_bar)).view(-1, per_bar).amax(-1)
    floor = max(float(largest.median()) / 100, 1e-30)
    span = max(float(torch.log(largest.max().clamp_min(floor * 2) / floor)), 1e-6)
    heights = (padded.clamp_min(floor) / floor).log() / span * HEIGHT
    step = WIDTH / width
    areas = "".join(
        f'<rect x="{a * step:.1f}" width="{(b - a) * step:.1f}" height="{HEIGHT}" fill="#f3d9b8"/>'
        for a, b in shaded
    )
    one = WIDTH / len(padded)
    path = "".join(
        f"M{i * one:.1f} {HEIGHT}h{one:.2f}v-{h:.1f}h-{one:.2f}z"
        for i, h in enumerate(heights.tolist())
    )
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="channel magnitudes">'
        f'{areas}<path d="{path}" fill="#35618f"/></svg>'
    )
