"""The page: well formed, every input drawn twice, blocks of 8 bits shaded."""

from __future__ import annotations

from html.parser import HTMLParser

import torch

from tenfold.quant.outliers import inject_outliers
from tenfold.quant.quantize import quantize
from tenfold.quant.report import html_report
from tenfold.quant.scheme import QuantConfig, Scheme
from tenfold.quant.sites import sites

from .small_models import weights_of
from .test_quantize import SPEC, text_for


class Counter(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)


def test_every_input_is_drawn_before_and_after() -> None:
    injected = inject_outliers(SPEC, weights_of(SPEC)).tensors
    config = QuantConfig(Scheme.parse("w4a4-kv4"), 32, "nearest")
    made = quantize(SPEC, injected, text_for(SPEC), config)
    page = html_report(made, "a <small> model")
    assert "a &lt;small&gt; model" in page
    counter = Counter()
    counter.feed(page)
    eight = sum(int((b == 8).sum()) for b in made.block_bits.values() if b is not None)
    assert eight > 0
    assert counter.seen.count("rect") == eight
    assert counter.seen.count("svg") == 2 * len(sites(SPEC))
    assert "nan" not in page
    for report in made.reports:
        assert torch.equal(report.before.sort().values, report.after.sort().values)
