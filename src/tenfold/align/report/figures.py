"""The report's figures: each is one picture with a caption that says its numbers in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tenfold.align.advice import shared_part
from tenfold.align.entanglement import Verdict
from tenfold.align.report.svg import Axis, Chart, bars, heat, words
from tenfold.align.run import PRODUCTS, Column, Heat, Run

CURVE, CLOUD, WORDS = 300, 1200, 44  # most points of a curve, dots of a cloud, tokens of a map
ROUGH = 40  # points from which a curve is smoothed
MAPS = 4
CSS = {verdict: str(verdict).replace(" ", "-") for verdict in Verdict}


def figure(picture: str, caption: str, keys: Iterable[tuple[str, str]] = ()) -> str:
    """A picture with its legend, (class, words), and a caption."""
    legend = "".join(
        f'<span class="key {css}"><i></i><span>{words(text)}</span></span>' for css, text in keys
    )
    head = f'<div class="legend">{legend}</div>' if legend else ""
    return f"<figure>{head}{picture}<figcaption>{words(caption)}</figcaption></figure>"


def thinned(steps: Column, *columns: Column) -> tuple[Column, ...]:
    """Means over runs of steps, so that a curve has at most CURVE points."""
    if len(steps) <= CURVE:
        return steps, *columns
    cuts = np.linspace(0, len(steps), CURVE + 1).astype(int)[:-1]
    counts = np.diff([*cuts, len(steps)])
    found = [np.add.reduceat(steps, cuts) / counts]
    for column in columns:
        known = np.isfinite(column)
        total = np.add.reduceat(np.where(known, column, 0.0), cuts)
        with np.errstate(invalid="ignore"):
            found.append(total / np.add.reduceat(known.astype(float), cuts))
    return tuple(found)


def curves(run: Run) -> list[str]:
    """Log-probs and gains of both answers, order and margin of pairs, loss."""
    p, found = run.progress, []
    steps = p["step"]
    if not len(steps):
        return []
    both = [("chosen", "chosen"), ("rejected", "rejected")]
    if np.isfinite(p["chosen_gain"]).any():
        about = "How much likelier than by the reference the answers are: what the loss works on."
        found.append(_lines(steps, p, [f"{s}_gain" for s, _ in both], "gain, nats", about, both))
    about = "Summed log-probs of the answers, mean of the step's pairs. They differ with lengths."
    found.append(_lines(steps, p, [f"{s}_logp" for s, _ in both], "log-prob, nats", about, both))
    if held_out := _held_out(run):
        found.append(held_out)
    if np.isfinite(p["accuracy"]).any():
        about = "Share of the step's pairs in order: the chosen answer gained more, or is likelier."
        keys = [("neutral", "pairs in order")]
        found.append(_lines(steps, p, ["accuracy"], "accuracy", about, keys, percent=True))
    if np.isfinite(p["loss"]).any():
        keys = [("neutral", "loss")]
        found.append(_lines(steps, p, ["loss"], "loss", "The loss of each step.", keys))
    return found


def _held_out(run: Run) -> str | None:
    t = run.evaluation
    if len(t["step"]) < 2:
        return None
    kind = "gain" if np.isfinite(t["chosen_gain"]).all() else "logp"
    names = [f"{side}_{kind}" for side in ("chosen", "rejected")]
    went = [t[name][-1] - t[name][0] for name in names]
    caption = (
        f"Held-out pairs, the same each time: chosen {went[0]:+.1f} nats, rejected {went[1]:+.1f},"
        f" {t['accuracy'][-1]:.0%} in order at the end."
    )
    label = "held-out gain, nats" if kind == "gain" else "held-out log-prob, nats"
    keys = [("chosen", "chosen"), ("rejected", "rejected")]
    return _lines(t["step"], t, names, label, caption, keys)


def _lines(
    steps: Column,
    table: Mapping[str, Column],
    names: Sequence[str],
    label: str,
    caption: str,
    keys: Sequence[tuple[str, str]],
    percent: bool = False,
) -> str:
    x, *thin = thinned(steps, *(table[name] for name in names))
    y = Axis.around(np.concatenate(thin), label, include=(0.0,) if "gain" in label else ())
    if percent:
        y = Axis(-0.02, 1.02, label, percent=True)
    chart = Chart(_steps(steps), y, f"{label} over steps")
    if "gain" in label:
        chart.level(0.0, "zero")
    for column, (css, _) in zip(thin, keys, strict=True):
        if len(x) > ROUGH:  # single batches are noise: what they do together is drawn over them
            chart.line(x, column, f"{css} raw")
        chart.line(x, _smooth(column) if len(x) > ROUGH else column, css)
    return figure(chart.svg(), caption, keys)


def _smooth(values: Column) -> Column:
    """Means over a tenth of the curve; a gap stays one."""
    known = np.isfinite(values)
    window = np.ones(max(len(values) // 10, 1))
    total = np.convolve(np.where(known, values, 0.0), window, "same")
    counts = np.convolve(known.astype(float), window, "same")
    return np.where(known, total / np.maximum(counts, 1.0), np.nan)


def _steps(steps: Column) -> Axis:
    first, last = float(steps.min()), float(steps.max())
    return Axis(first, last if last > first else first + 1, "step")


def conditions(table: Mapping[str, Column], by_pair: bool) -> list[str]:
    """Both conditions over steps, with the thresholds that the loss's weights set."""
    with np.errstate(divide="ignore", invalid="ignore"):
        given = table["d_w"] / table["d_l"]
        return [
            _condition(
                table["step"],
                table["inner"] / table[f"{side}_sq"],
                limit,
                f"⟨g_w, g_l⟩ / |g_{letter}|²",
                rule,
                css,
                by_pair,
            )
            for side, letter, limit, rule, css in (
                ("chosen", "w", given, "the chosen answer falls", "chosen"),
                ("rejected", "l", 1 / given, "the rejected answer rises", "rejected"),
            )
        ]


def _condition(
    steps: Column, ratio: Column, limit: Column, label: str, rule: str, css: str, by_pair: bool
) -> str:
    place, low, mid, high, bound = _quantiles(steps, ratio, limit)
    y = Axis.around(np.concatenate([low, high]), label, keep=0.96, include=(0.0, *_ends(bound)))
    chart = Chart(_steps(steps), y, f"{label} over steps with its threshold")
    chart.level(0.0, "zero")
    chart.band(place, low, high, css)
    chart.line(place, mid, css)
    chart.line(place, bound, "threshold")
    over = float((ratio > limit).mean())
    weights = "d_w/d_l" if css == "chosen" else "d_l/d_w"
    caption = (
        f"Above the threshold {weights} (median {np.median(limit):.2f}) {rule}: {over:.0%} of"
        f" measured {'pairs' if by_pair else 'batches'}. Line: median, area: middle 80 %."
    )
    return figure(chart.svg(), caption, [(css, label), ("threshold", f"threshold {weights}")])


def _ends(values: Column) -> tuple[float, ...]:
    known = values[np.isfinite(values)]
    return tuple(np.quantile(known, [0.05, 0.95])) if len(known) else ()


def _quantiles(steps: Column, ratio: Column, limit: Column) -> list[Column]:
    """Step, tenth, median, ninth tenth and the median threshold, by step or runs of them."""
    distinct = np.unique(steps)
    parts = np.array_split(distinct, min(len(distinct), 120))
    found = []
    for part in parts:
        here = (steps >= part[0]) & (steps <= part[-1])
        found.append(
            [part.mean(), *np.quantile(ratio[here], [0.1, 0.5, 0.9]), np.median(limit[here])]
        )
    return list(np.array(found).T)


def sample(count: int) -> Column:
    """Places of at most CLOUD of so many dots, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, CLOUD)).astype(int))


def quadrants(run: Run) -> str:
    """Predicted change of the rejected against that of the chosen log-prob, by verdict."""
    table = run.pairs if run.verdicts else run.batch
    verdicts = np.array(run.verdicts or run.batch_verdicts)
    x, y = table["chosen_change"], table["rejected_change"]
    chart = Chart(
        Axis.signed(x, "predicted change of chosen, nats"),
        Axis.signed(y, "of rejected, nats"),
        "Predicted changes of both log-probs",
    )
    chart.level(0.0, "zero")
    chart.upright(0.0, "zero")
    keys = []
    drawn = sample(len(x))
    for verdict in Verdict:
        share = float((verdicts == verdict).mean())
        if share:
            some = drawn[(verdicts[drawn] == verdict) & np.isfinite(x[drawn] + y[drawn])]
            chart.points(x[some], y[some], CSS[verdict])
            keys.append((CSS[verdict], f"{verdict} {share:.0%}"))
    for across, up, text in (
        (0.985, 0.03, "ideal"), (0.985, 0.95, "both up"),
        (0.015, 0.03, "both down"), (0.015, 0.95, "adverse"),
    ):  # fmt: skip
        chart.note(across, up, text)
    caption = (
        "What a step of plain gradient descent does to each measured pair, to first order; right is"
        " good for the chosen answer, down for the rejected one. Axes are logarithmic away from 0."
    )
    return figure(chart.svg(), caption, keys)


def realised(run: Run) -> str | None:
    """Realised against predicted changes; None where the log has none."""
    t = run.pairs
    known = np.isfinite(t["chosen_realised"]) & np.isfinite(t["chosen_change"])
    if not known.any():
        return None
    names = ("chosen_change", "rejected_change", "chosen_realised", "rejected_realised")
    w, l_, now_w, now_l = (t[name][known] for name in names)
    chart = Chart(
        Axis.signed(np.concatenate([w, l_]), "predicted change, nats"),
        Axis.signed(np.concatenate([now_w, now_l]), "realised, nats"),
        "Realised against predicted changes",
    )
    chart.level(0.0, "zero")
    chart.upright(0.0, "zero")
    chart.diagonal("threshold")
    some = sample(len(w))
    chart.points(w[some], now_w[some], "chosen")
    chart.points(l_[some], now_l[some], "rejected")
    agree = [float((np.sign(a) == np.sign(b)).mean()) for a, b in ((w, now_w), (l_, now_l))]
    caption = (
        f"The sign came true for {agree[0]:.0%} of the chosen and {agree[1]:.0%} of the rejected"
        " answers. Predicted is a pair's own step of plain gradient descent; what the others of its"
        " batch, the optimizer and curvature do is the distance from the dashed line."
    )
    return figure(
        chart.svg(), caption, [("chosen", "chosen"), ("rejected", "rejected"),
                               ("threshold", "as predicted")]
    )  # fmt: skip


def layers(run: Run) -> list[str]:
    """Cosine by block and by kind of module, with their share of the gradients' squares."""
    if not run.layers:
        return []
    blocks: dict[str, list[str]] = {}
    kinds: dict[str, list[str]] = {}
    numbers = [int(m[1]) for name in run.layers if (m := re.search(r"\.(\d+)\.", name))]
    backwards = numbers != [] and numbers[0] > numbers[-1]  # as a backward pass comes by them
    for name in reversed(list(run.layers)) if backwards else run.layers:
        parts = name.split(" x ")[0].split(".")  # what tied weights add is their first owner's
        number = next((p for p in parts if p.isdigit()), None)
        tail = [p for p in parts if p not in ("default", "base_layer", "base_model", "model")]
        kind = re.sub(r"\.?\d+\.?", "", ".".join(tail[-2:] if "lora" in name else tail[-1:]))
        blocks.setdefault(f"block {number}" if number else tail[-1], []).append(name)
        kinds.setdefault(kind or tail[-1], []).append(name)
    found = []
    for groups, by in ((blocks, "block of the model"), (kinds, "kind of module")):
        rows = _grouped(run, groups)
        caption = (
            f"Cosine of the two answers' gradients by {by}, over all measured steps; behind it"
            " the share of the gradients' squared length."
        )
        found.append(figure(bars(rows, f"Cosine by {by}"), caption))
    return found


def _grouped(run: Run, groups: Mapping[str, Sequence[str]]) -> list[tuple[str, float, float]]:
    totals = {
        group: {key: sum(run.layers[name][key] for name in names) for key in PRODUCTS}
        for group, names in groups.items()
    }
    whole = sum(t["chosen_sq"] + t["rejected_sq"] for t in totals.values()) or 1.0
    rows: list[tuple[str, float, float]] = []
    for group, t in totals.items():
        length = (max(t["chosen_sq"], 0.0) * max(t["rejected_sq"], 0.0)) ** 0.5
        if length:
            rows.append((group, t["inner"] / length, (t["chosen_sq"] + t["rejected_sq"]) / whole))
    if len(rows) > 28:  # the heaviest, in the model's order
        heavy = sorted(rows, key=lambda row: -row[2])[:28]
        rows = [row for row in rows if row in heavy]
    return rows


def heats(run: Run) -> list[str]:
    """Token maps, those of the newest steps."""
    return [_heat(one) for one in sorted(run.heats, key=lambda h: -h.step)[:MAPS]]


def _heat(one: Heat) -> str:
    same = (i for i, (a, b) in enumerate(zip(one.chosen, one.rejected, strict=False)) if a != b)
    start = max(min(next(same, 0) - 6, min(len(one.chosen), len(one.rejected)) - WORDS), 0)
    part = slice(start, start + WORDS)
    rows, columns = ([_shown(t) for t in side[part]] for side in (one.chosen, one.rejected))
    where = "" if one.row is None else f" of row {one.row}"
    picture = heat(rows, columns, one.cosine[part, part], f"Token cosines{where}")
    tokens, carried = shared_part(one)
    cut = max(len(one.chosen), len(one.rejected)) > WORDS
    caption = (
        f"Step {one.step}{where}: cosines of the gradients of the chosen answer's tokens (rows) and"
        f" the rejected one's (columns). Shared tokens are {tokens:.0%} of both and carry"
        f" {carried:.0%} of the inner product."
        + (f" Tokens {start + 1} to {start + WORDS} are shown." if cut else "")
    )
    keys = [("h10", "1"), ("h8", "0.6"), ("h5", "0"), ("h2", "−0.6"), ("h0", "−1")]
    return figure(f'<div class="wide">{picture}</div>', caption, keys)


def _shown(token: str) -> str:
    """A token that can be seen: spaces and line ends have signs, long ones are cut."""
    text = token.replace(" ", "·").replace("\n", "⏎").replace("Ġ", "·").replace("Ċ", "⏎")
    return text if len(text) <= 12 else text[:11] + "…"


def worst(run: Run, most: int = 20) -> str | None:
    """A table of the pairs whose chosen answer loses most; None where no pair was measured."""
    t = run.moved()
    if not len(t["row"]):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        needed, given = t["inner"] / t["chosen_sq"], t["d_w"] / t["d_l"]
    rows: list[str] = []
    seen: set[float] = set()
    for i in np.argsort(t["chosen_change"], kind="stable"):
        row = float(t["row"][i])
        if row in seen or t["chosen_change"][i] >= 0 or len(rows) == most:
            continue
        if np.isfinite(row):
            seen.add(row)
        cells = [
            "–" if not np.isfinite(row) else f"{row:.0f}",
            f"{t['step'][i]:.0f}",
            *(f"{t[name][i]:+.3g}" for name in ("chosen_change", "rejected_change")),
            *(f"{value:.2f}" for value in (t["cosine"][i], needed[i], given[i])),
            *(f"{t[name][i]:.0f}" for name in ("chosen_tokens", "rejected_tokens")),
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    if not rows:
        return "<p>In no measured pair does the step push the chosen answer down.</p>"
    head = (
        "row", "step", "chosen Δ", "rejected Δ", "cosine", "needed", "d_w/d_l", "|w|", "|l|",
    )  # fmt: skip
    names = "".join(f"<th>{words(name)}</th>" for name in head)
    return (
        f'<div class="wide"><table><thead><tr>{names}</tr></thead><tbody>{"".join(rows)}</tbody>'
        '</table></div><p class="small">'
        + words(
            "Each row's worst step. Δ: predicted change in nats; needed: the least d_w/d_l with"
            " which its chosen answer does not fall; |w|, |l|: tokens."
        )
        + "</p>"
    )
