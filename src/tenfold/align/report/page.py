"""One HTML file that says what a preference training did to its answers, and what to change.

No script, no network, no font but the reader's; a policy in the file forbids everything else, and
all text of the log is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tenfold.align.advice import Advice, advise
from tenfold.align.diagnosis import BLAME, COVER, FEW, Diagnosis, diagnose, measured
from tenfold.align.report import figures
from tenfold.align.report.svg import escaped, words
from tenfold.align.run import Run, read_run
from tenfold.errors import TenfoldError

_STYLE = Path(__file__).with_name("style.css")


def write_report(log: Path | str, out: Path | str) -> Path:
    """Writes the report of a training log to `out` and returns that path.

    A log without some of the measurements gives a report that says what is missing. Raises
    InvalidRequest for a log that is not there, empty, torn in the middle or of another version, and
    TenfoldError if the file cannot be written.
    """
    run, out = read_run(log), Path(out)
    text = page(run).encode("utf-8", "replace")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(out.name + ".part")
        part.write_bytes(text)
        part.replace(out)
    except OSError as e:
        raise TenfoldError(f"{out} cannot be written: {e}", hint="name a file elsewhere") from None
    return out


def page(run: Run) -> str:
    """The report as HTML."""
    found, table = diagnose(run), measured(run)[0]
    parts = [_head(run, found), _advice(advise(run), found)]
    parts.append(
        _section(
            "Where the log-probs go",
            "Both answers over training. A loss works on the difference of the two, and the"
            " difference can grow while both fall.",
            figures.curves(run),
        )
    )
    if found.pairs:
        parts += _measurements(run, found, table)
    style = _STYLE.read_text(encoding="utf-8")
    title = escaped(f"Preference training: {run.loss}")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style></head><body><main>"
        + "".join(parts)
        + _FOOTER
        + "</main></body></html>\n"
    )


def _measurements(run: Run, found: Diagnosis, table: Mapping[str, Any]) -> list[str]:
    parts = [
        _section(
            "Why: the entanglement condition",
            "A step adds d_w g_w − d_l g_l to the parameters, the two gradients weighed by the"
            " loss. What they have in common, ⟨g_w, g_l⟩, goes to both answers at once.",
            figures.conditions(table, found.by_pair),
        ),
        _section(
            "What steps do to pairs",
            "Each measured pair, as first order has it and as it came about.",
            [x for x in (figures.quadrants(run), figures.realised(run)) if x],
        ),
    ]
    if pictures := figures.layers(run):
        about = "Which parts of the model pull both answers the same way."
        parts.append(_section("Where in the model", about, pictures))
    if maps := figures.heats(run):
        about = "Which tokens of the two answers pull the same way (red), or against each other."
        parts.append(_section("Which tokens", about, maps))
    if (rows := figures.worst(run)) is not None:
        parts.append(f"<section><h2>Worst pairs</h2>{rows}</section>")
    return parts


def _head(run: Run, found: Diagnosis) -> str:
    steps = run.progress["step"]
    parameters = ", ".join(f"{k} {_plain(v)}" for k, v in run.parameters.items())
    facts = [
        ("loss", run.loss + (f" ({parameters})" if parameters else "")),
        ("model", run.about.get("model")),
        ("steps", f"{int(steps[-1]):,}" if len(steps) else "0"),
        ("measured", f"{found.pairs:,} {found.unit} in {len(run.batch_verdicts):,} steps"),
        ("back end", run.about.get("backend")),
        ("trained parameters", run.about.get("parameters")),
        ("learning rate", _range(run.progress["lr"])),
        ("optimizer", run.optimizer),
        ("fixes", ", ".join(run.fixes) or None),
    ]
    listed = "".join(
        f"<li>{name} <b>{escaped(_plain(value))}</b></li>"
        for name, value in facts
        if value is not None
    )
    notes = "".join(f"<p>{escaped(note)}</p>" for note in [*run.notes, *missing(run)])
    return (
        "<header><h1>Preference training report</h1>"
        f'<p class="verdict{" good" * found.good}">{escaped(found.sentence)}</p>'
        f'<p class="behind">{words(found.figures)}</p>'
        f'<ul class="facts">{listed}</ul>'
        + (f'<div class="notes">{notes}</div>' if notes else "")
        + "</header>"
    )


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _range(values: Any) -> str | None:
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = f"{known.min():.2g}", f"{known.max():.2g}"
    return high if low == high else f"{low} to {high}"


def missing(run: Run) -> list[str]:
    """What the log does not hold, and how to have it the next time."""
    found = []
    if not run.batch_verdicts:
        return [
            "No step was measured: there are curves, and no reasons. Train with the monitor on."
        ]
    if not run.verdicts:
        found.append(
            f"The {run.about.get('backend', 'chosen')} back end measures whole batches: no verdicts"
            " of single pairs, no worst pairs. The ghost back end has them."
        )
    elif not np.isfinite(run.pairs["chosen_realised"]).any():
        found.append("Realised changes were not asked for (monitor: {realised: true}).")
    if not run.layers:
        found.append("Products by layer were not asked for (monitor: {layers: true}).")
    if not run.heats:
        found.append("Token maps were not asked for (monitor: {tokens: [rows]}).")
    return found


def _advice(advice: Sequence[Advice], found: Diagnosis) -> str:
    if not advice:
        if found.pairs:
            what = "No single change would mend this by what was measured."
        else:
            what = "Nothing was measured, so there is nothing to advise."
        return f"<section><h2>What to change</h2><p>{what}</p></section>"
    only = ' class="only"' if advice[0].name == "none" else ""
    items = []
    for one in advice:
        effect = (
            f'<div class="effect"><i><b style="width:{min(one.effect, 1):.0%}"></b></i>'
            f"{_EFFECT.get(one.name, 'sets right')} {one.effect:.0%} of measured {found.unit}</div>"
            if one.name != "none"
            else ""
        )
        setting = f"<p><code>{escaped(one.setting)}</code></p>" if one.setting else ""
        items.append(
            f"<li{only}><h3>{escaped(one.what)}</h3><p>{words(one.why)}</p>{setting}{effect}</li>"
        )
    return f'<section><h2>What to change</h2><ol class="advice">{"".join(items)}</ol></section>'


def _section(title: str, about: str, pictures: Sequence[str]) -> str:
    if not pictures:
        return ""
    return (
        f"<section><h2>{escaped(title)}</h2><p>{words(about)}</p>"
        f'<div class="pair">{"".join(pictures)}</div></section>'
    )


_EFFECT = dict.fromkeys(("mask", "beta", "learning_rate"), "may set right")  # estimates
_ABOUT = (
    "g_w and g_l are the gradients of the summed log-probs of the chosen and the rejected answer,"
    " d_w and d_l the loss's weights. The chosen answer rises exactly if <g_w, g_l> is below"
    " d_w/d_l |g_w|^2, the rejected one falls exactly if it is below d_l/d_w |g_l|^2: to first"
    " order, for plain gradient descent, and for the pair's own step (arXiv 2410.13828).",
    "Ideal: chosen up, rejected down. Both up, both down: they move together. Adverse: chosen down,"
    " rejected up. What an advice sets right counts a falling chosen answer as 1 and a rising"
    f" rejected one as 1/2. Up to {FEW:.0%} of that in all calls for nothing; a suggested weight is"
    f" enough for {COVER:.0%} of what was measured; falling log-probs are put down to entanglement"
    f" from {BLAME:.0%} of falling chosen answers on.",
)
_FOOTER = f'<footer class="small">{"".join(f"<p>{words(text)}</p>" for text in _ABOUT)}</footer>'
