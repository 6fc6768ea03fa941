"""Plots as SVG with no library and no colours of their own: a style sheet gives those by class.

So one file is readable in light, in dark and on paper, and every number is where the log has it.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tenfold.align.run import Column

_INDEX = re.compile(r"\b([dg])_([wl])\b")
WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 10, 40


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values; `bend` > 0 makes it linear near 0 and logarithmic from there on."""

    low: float
    high: float
    label: str
    bend: float = 0.0
    percent: bool = False

    @classmethod
    def around(
        cls, values: Column, label: str, *, keep: float = 1.0, include: Sequence[float] = ()
    ) -> Axis:
        """Holds the middle `keep` of the values, and all of `include`, with a margin."""
        known = values[np.isfinite(values)]
        if not len(known):
            known = np.zeros(1)
        low, high = np.quantile(known, [(1 - keep) / 2, (1 + keep) / 2])
        low, high = min([low, *include]), max([high, *include])
        margin = 0.06 * (high - low) or max(abs(high) * 0.1, 1e-3)
        return cls(float(low - margin), float(high + margin), label)

    @classmethod
    def signed(cls, values: Column, label: str) -> Axis:
        """Symmetric about 0 and bent, for values of both signs and many magnitudes."""
        size = np.abs(values[np.isfinite(values) & (values != 0)])
        if not len(size):
            return cls(-1.0, 1.0, label, 0.1)
        high = float(size.max()) * 1.3
        return cls(-high, high, label, max(float(np.quantile(size, 0.2)), high * 1e-5))

    def at(self, value: float) -> float:
        """Where a value lies, 0 to 1; what is outside is put on the edge."""
        low, high, v = self.low, self.high, min(max(value, self.low), self.high)
        if self.bend:
            low, high, v = (math.asinh(x / self.bend) for x in (low, high, v))
        return (v - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values to write beside the axis."""
        if not self.bend:
            step = _round_step(self.high - self.low)
            first = math.ceil(self.low / step - 1e-9)
            return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]
        top, lowest = math.floor(math.log10(self.high)), math.log10(self.bend) + 0.2
        powers = [k for k in range(top, top - 3, -1) if k >= lowest] or [top]
        apart = [k for k in powers if self.at(10.0**k) - self.at(0.0) > 0.07]
        return [*(-(10.0**k) for k in apart), 0.0, *(10.0**k for k in reversed(apart))]

    def text(self, value: float) -> str:
        """A tick's label."""
        if self.percent:
            return f"{value:.0%}"
        if abs(value) < 1e-12:
            return "0"
        if abs(value) >= 1e5 or abs(value) < 1e-3:
            return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−")
        return f"{value:.4g}".replace("-", "−")


def escaped(text: str) -> str:
    """A text that is text in HTML whatever it holds; what is not printable is written out."""
    return html.escape("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text))


def words(text: str) -> str:
    """A text as HTML: escaped, with the indices and squares of its mathematics."""
    text = escaped(text).replace("&lt;g_w, g_l&gt;", "⟨g_w, g_l⟩").replace("|^2", "|²")
    return _INDEX.sub(r"\1<sub>\2</sub>", text)


def _label(text: str) -> str:
    """The same inside of SVG."""
    low = r'\1<tspan class="sub" dy="3">\2</tspan><tspan dy="-3">&#8203;</tspan>'
    return _INDEX.sub(low, escaped(text))


def _round_step(span: float) -> float:
    rough = span / 4.5
    unit: float = 10.0 ** math.floor(math.log10(rough))
    return next(k * unit for k in (1, 2, 2.5, 5, 10) if k * unit >= rough)


@dataclass(slots=True)
class Chart:
    """Collects marks, in the order they are drawn. `title` is read out in place of the picture."""

    x: Axis
    y: Axis
    title: str
    marks: list[str] = field(default_factory=list)

    def _place(self, x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + self.x.at(x) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - self.y.at(y) * (HEIGHT - TOP - BOTTOM),
        )

    def _path(self, xs: Column, ys: Column) -> str:
        points = (self._place(x, y) for x, y in zip(xs, ys, strict=True))
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)

    def line(self, xs: Column, ys: Column, css: str) -> None:
        """A curve; it breaks where a value is missing."""
        known = np.isfinite(ys)
        for part in np.split(np.arange(len(xs)), np.flatnonzero(~known)):
            part = part[known[part]]
            if len(part) == 1:
                self.points(xs[part], ys[part], css, radius=2.5)
            elif len(part):
                self.marks.append(
                    f'<path class="line {css}" d="{self._path(xs[part], ys[part])}"/>'
                )

    def band(self, xs: Column, low: Column, high: Column, css: str) -> None:
        """The area between two curves."""
        known = np.isfinite(low) & np.isfinite(high)
        if known.sum() > 1:
            there = self._path(xs[known], high[known])
            back = self._path(xs[known][::-1], low[known][::-1])
            self.marks.append(f'<path class="band {css}" d="{there}L{back[1:]}Z"/>')

    def level(self, y: float, css: str) -> None:
        """A horizontal line, if it is in range."""
        if self.y.low <= y <= self.y.high:
            (x0, at), (x1, _) = self._place(self.x.low, y), self._place(self.x.high, y)
            self.marks.append(f'<path class="{css}" d="M{x0:.1f} {at:.1f}H{x1:.1f}"/>')

    def upright(self, x: float, css: str) -> None:
        """A vertical line."""
        (at, y0), (_, y1) = self._place(x, self.y.low), self._place(x, self.y.high)
        self.marks.append(f'<path class="{css}" d="M{at:.1f} {y0:.1f}V{y1:.1f}"/>')

    def diagonal(self, css: str) -> None:
        """Where both values are the same."""
        ends = np.linspace(max(self.x.low, self.y.low), min(self.x.high, self.y.high), 41)
        self.marks.append(f'<path class="{css}" d="{self._path(ends, ends)}"/>')

    def points(self, xs: Column, ys: Column, css: str, radius: float = 2.2) -> None:
        """Dots of one class."""
        dots = (self._place(x, y) for x, y in zip(xs, ys, strict=True))
        drawn = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>' for x, y in dots)
        self.marks.append(f'<g class="dots {css}">{drawn}</g>')

    def note(self, x: float, y: float, text: str, css: str = "") -> None:
        """Words in the plot, at a share of its width and height."""
        px = LEFT + x * (WIDTH - LEFT - RIGHT)
        py = HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)
        side = "start" if x < 0.5 else "end"
        self.marks.append(
            f'<text class="note {css}" x="{px:.1f}" y="{py:.1f}" text-anchor="{side}">'
            f"{escaped(text)}</text>"
        )

    def svg(self) -> str:
        """The picture."""
        parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
        parts.append(f"<title>{escaped(self.title)}</title>")
        for tick in self.y.ticks():
            x, y = self._place(self.x.low, tick)
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(
                f'<text x="{x - 5:.1f}" y="{y + 4:.1f}" text-anchor="end">'
                f"{self.y.text(tick)}</text>"
            )
        for tick in self.x.ticks():
            x, y = self._place(tick, self.y.low)
            parts.append(
                f'<text x="{x:.1f}" y="{y + 15:.1f}" text-anchor="middle">'
                f"{self.x.text(tick)}</text>"
            )
        parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
        middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
        parts.append(
            f'<text class="label" x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">'
            f"{_label(self.x.label)}</text>"
        )
        high = TOP + (HEIGHT - TOP - BOTTOM) / 2
        parts.append(
            f'<text class="label" transform="translate(12 {high:.1f}) rotate(-90)"'
            f' text-anchor="middle">{_label(self.y.label)}</text>'
        )
        return "".join([*parts, *self.marks, "</svg>"])


def bars(rows: Sequence[tuple[str, float, float]], title: str) -> str:
    """Horizontal bars of values from -1 to 1: (name, value, weight 0 to 1 written behind it)."""
    step, right = 22, 64
    left = 14 + 6.6 * min(max((len(name) for name, _, _ in rows), default=0), 26)
    span, height = WIDTH - left - right, step * len(rows) + 26
    low = min(0.0, *(value for _, value, _ in rows)) if rows else 0.0
    zero = left + span * (-low / (1 - low))

    def at(value: float) -> float:
        return left + span * (value - low) / (1 - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img"><title>{escaped(title)}</title>']
    for tick in (0.0, 0.5, 1.0):
        parts.append(
            f'<path class="grid" d="M{at(tick):.1f} 0V{height - 22}"/><text x="{at(tick):.1f}"'
            f' y="{height - 7}" text-anchor="middle">{tick:g}</text>'
        )
    for place, (name, value, weight) in enumerate(rows):
        y, end = place * step, at(min(max(value, low), 1.0))
        parts.append(
            f'<text x="{left - 6:.0f}" y="{y + 15}" text-anchor="end">{escaped(name)}</text>'
            f'<rect class="bar" x="{min(zero, end):.1f}" y="{y + 3}"'
            f' width="{abs(end - zero):.1f}" height="{step - 6}"/>'
            f'<text x="{max(end, zero) + 4:.1f}" y="{y + 15}">{value:.2f}</text>'
            f'<text class="faint" x="{WIDTH}" y="{y + 15}" text-anchor="end">{weight:.0%}</text>'
        )
    return "".join([*parts, "</svg>"])


def heat(rows: Sequence[str], columns: Sequence[str], values: Column, title: str) -> str:
    """A grid of cells from -1 to 1 in eleven shades; `rows` beside it, `columns` above."""
    cell, left = 13, 8 + 6.6 * max((len(r) for r in rows), default=0)
    top = 8 + 6.6 * max((len(c) for c in columns), default=0)
    width, height = left + cell * len(columns) + 2, top + cell * len(rows) + 2
    parts = [
        f'<svg class="heat" viewBox="0 0 {width:.0f} {height:.0f}" role="img"'
        f' style="width:{width:.0f}px"><title>{escaped(title)}</title>'
    ]
    for place, name in enumerate(rows):
        y = top + cell * place + 10
        parts.append(
            f'<text x="{left - 4:.1f}" y="{y:.1f}" text-anchor="end">{escaped(name)}</text>'
        )
    for place, name in enumerate(columns):
        x = left + cell * place + 10
        parts.append(
            f'<text transform="translate({x:.1f} {top - 4:.1f}) rotate(-90)">{escaped(name)}</text>'
        )
    shades: dict[str, list[str]] = {}
    for i, line in enumerate(values):
        for j, value in enumerate(line):
            shade = "none" if math.isnan(value) else str(round(5 * min(max(value, -1), 1)) + 5)
            corner = f"M{left + cell * j:.0f} {top + cell * i:.0f}"
            shades.setdefault(shade, []).append(f"{corner}h{cell - 1}v{cell - 1}h-{cell - 1}z")
    parts += [f'<path class="h{name}" d="{"".join(d)}"/>' for name, d in shades.items()]
    return "".join([*parts, "</svg>"])
