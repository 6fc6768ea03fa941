"""The report: what it says against counts of the log, what it survives, what it never holds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.align.report import write_report
from tenfold.align.report.figures import CLOUD, CURVE, thinned
from tenfold.align.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Chart
from tenfold.align.run import read_run
from tenfold.errors import InvalidRequest, TenfoldError
from tests.align.logs import write_log

LAYERS = (
    "model.embed_tokens",
    *(f"model.layers.{i}.{k}" for i in range(3) for k in ("self_attn.q_proj", "mlp.down_proj")),
    "lm_head",
    "model.embed_tokens x lm_head",
)
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "h3", "p", "ul",
    "li", "ol", "b", "i", "sub", "div", "section", "figure", "figcaption", "span", "svg", "path",
    "text", "tspan", "g", "circle", "rect", "code", "table", "thead", "tbody", "tr", "th", "td",
    "footer",
}  # fmt: skip


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def made(tmp_path: Path, **how: Any) -> Page:
    log = write_log(tmp_path / "log.jsonl", **how)
    out = write_report(log, tmp_path / "new" / "report.html")
    assert [p.name for p in out.parent.iterdir()] == ["report.html"]
    return Page(out)


def rewritten(log: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The log with every line changed; lines for which None comes back are left out."""
    lines = [change(json.loads(line)) for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps(x) + "\n" for x in lines if x is not None))
    return log


def test_the_page_says_what_the_log_holds(tmp_path: Path):
    page = made(tmp_path, spread=0.2, cosine=0.8, longer=1.3, layers=LAYERS, heats=2, kept=0.7)
    run = read_run(tmp_path / "log.jsonl")
    for verdict in set(run.verdicts):
        assert f"{verdict} {run.verdicts.count(verdict) / len(run.verdicts):.0%}" in page.text
    t = run.moved()
    falls = float((t["chosen_change"] < 0).mean())
    assert f"the chosen answer falls: {falls:.0%} of measured pairs" in page.text
    assert "dpo (beta 0.1)" in page.text
    assert "block 2" in page.text
    assert "Token maps were not asked for" not in page.text
    assert page.source.count('class="heat"') == 2
    assert "The sign came true for 100% of the chosen" in page.text


def test_nothing_is_fetched_and_nothing_runs(tmp_path: Path):
    page = made(tmp_path, layers=LAYERS, heats=1, kept=1.0)
    assert page.tags <= TAGS, page.tags - TAGS
    assert not {name for name, _ in page.attributes if name.startswith("on")}
    assert not {name for name, _ in page.attributes} & {"src", "href", "xlink:href", "srcset"}
    assert "://" not in page.source
    assert "url(" not in page.source
    assert "@import" not in page.source
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


HOSTILE = [
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "</title><svg onload=x>",
    "<!-- ", "]]>", "&lt;b&gt;", "\u202e\u0000\x1b[31m", "\ud800", "d_w<g_w, g_l>", "'", "",
]  # fmt: skip


def test_hostile_texts_are_shown_and_not_obeyed(tmp_path: Path):
    log = write_log(tmp_path / "log.jsonl", layers=LAYERS, heats=1)
    size = len(HOSTILE)

    def spoil(line: dict[str, Any]) -> dict[str, Any]:
        if line["kind"] == "run":
            line |= {"loss": HOSTILE[2], "model": HOSTILE[1], "backend": HOSTILE[0]}
            line |= {"loss_parameters": {HOSTILE[0]: HOSTILE[1]}, "optimizer": HOSTILE[3]}
            line |= {
                "fix": {HOSTILE[1]: {}},
                "model": HOSTILE[6] + HOSTILE[7],
                "parameters": HOSTILE[1],
            }
        elif line["kind"] == "tokens":
            line |= {"chosen": HOSTILE, "rejected": HOSTILE, "cosine": np.eye(size).tolist()}
            line |= {"step": 5, "row": 1}
        elif line["kind"] == "entanglement":
            line["layers"] = dict(zip(HOSTILE, line["layers"].values(), strict=False))
        return line

    page = Page(write_report(rewritten(log, spoil), tmp_path / "r.html"))
    assert page.tags <= TAGS, page.tags - TAGS
    assert not {name for name, _ in page.attributes if name.startswith("on") or name == "src"}
    assert "<script>alert(1)</script>" in page.text
    assert "\\x202e\\x00" in page.text
    assert "\\xd800" in page.text
    assert not {"\u202e", "\0", "\ud800"} & set(page.source)


def test_a_long_run_makes_no_long_page(tmp_path: Path):
    short = made(tmp_path / "a", steps=600, every=2, kept=0.9)
    long = made(tmp_path / "b", steps=2400, every=2, kept=0.9)
    assert len(long.source) < 1.1 * len(short.source)
    assert long.source.count("<circle") <= 3 * CLOUD
    assert max(path.count("L") for path in re.findall(r' d="([^"]*)"', long.source)) <= 2 * CURVE


def test_what_a_batch_log_lacks_is_said(tmp_path: Path):
    def split(line: dict[str, Any]) -> dict[str, Any]:
        if line["kind"] == "run":
            line["backend"] = "split"
        if line["kind"] == "entanglement":
            line |= {"pairs": [], "layers": {}}
        return line

    log = rewritten(write_log(tmp_path / "log.jsonl", lr=1.0), split)
    page = Page(write_report(log, tmp_path / "r.html"))
    assert "The split back end measures whole batches" in page.text
    assert "in 100% of measured batches" in page.text
    assert "Worst pairs" not in page.text
    assert "both down 100%" in page.text


def test_a_run_that_was_not_measured_has_curves_and_says_so(tmp_path: Path):
    log = write_log(tmp_path / "log.jsonl", lr=1.0)
    rewritten(log, lambda x: None if x["kind"] == "entanglement" else x)
    page = Page(write_report(log, tmp_path / "r.html"))
    assert "No step was measured" in page.text
    assert "nothing was measured that could say why" in page.text
    assert "nothing to advise" in page.text
    assert page.source.count("<svg") == 4
    page = made(tmp_path / "b", steps=0)
    assert "too few steps" in page.text
    page = made(tmp_path / "c", steps=1)
    assert "too few steps" in page.text


def test_missing_numbers_leave_gaps_and_inactive_pairs_their_own_colour(tmp_path: Path):
    def spoil(line: dict[str, Any]) -> dict[str, Any]:
        if line["kind"] == "progress" and line["step"] in (40, 41):
            line |= {"loss": None, "chosen_gain": None}
        if line["kind"] == "entanglement":
            line["pairs"][0] |= {"inner": None, "cosine": None, "d_w": 0.0, "d_l": 0.0}
            line["pairs"][0] |= {"verdict": "inactive", "chosen_change": 0.0, "row": None}
        return line

    log = rewritten(write_log(tmp_path / "log.jsonl", layers=LAYERS), spoil)
    page = Page(write_report(log, tmp_path / "r.html"))
    assert "inactive 25%" in page.text
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page.source)


def test_no_reference_means_log_probs_instead_of_gains(tmp_path: Path):
    log = write_log(tmp_path / "log.jsonl", lr=1.0, about={"loss": "simpo", "reference": False})
    rewritten(
        log,
        lambda x: (
            x | {"chosen_gain": None, "rejected_gain": None} if x["kind"] == "progress" else x
        ),
    )
    page = Page(write_report(log, tmp_path / "r.html"))
    assert "Chosen log-probs fall" in page.text
    assert "How much likelier than by the reference" not in page.text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: "", "is empty"),
        (lambda text: text[:50], "has no whole line"),
        (lambda text: text.split("\n", 1)[1], "does not begin with a line of kind `run`"),
        (lambda text: text.replace('"version": 1', '"version": 7', 1), "is of version 7"),
        (lambda text: text.replace('"version": 1', '"version": null', 1), "is of version None"),
        (
            lambda text: text.replace('{"kind": "progress"', '{"kind": "prog', 1),
            "log.jsonl:2 is no",
        ),
        (lambda text: text.replace('"lr": 0.1', '"lr": "fast"', 1), "none of the monitor's"),
        (lambda text: text.replace('"pairs": [{', '"pairs": [3, {', 1), "none of the monitor's"),
    ],
)
def test_a_log_that_cannot_be_read_says_what_is_wrong(tmp_path: Path, spoil, message):
    log = write_log(tmp_path / "log.jsonl")
    log.write_text(spoil(log.read_text()))
    with pytest.raises(InvalidRequest, match=re.escape(message)) as error:
        write_report(log, tmp_path / "r.html")
    assert error.value.param == "log"
    assert not (tmp_path / "r.html").exists()


def test_a_file_that_is_not_there_or_a_folder_is_said(tmp_path: Path):
    with pytest.raises(InvalidRequest, match="no such file"):
        write_report(tmp_path / "none.jsonl", tmp_path / "r.html")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        write_report(tmp_path, tmp_path / "r.html")
    log = write_log(tmp_path / "log.jsonl", steps=3)
    with pytest.raises(TenfoldError, match="cannot be written"):
        write_report(log, log / "r.html")


def test_a_torn_last_line_is_a_note(tmp_path: Path):
    log = write_log(tmp_path / "log.jsonl")
    text = log.read_text()
    log.write_text(text + text.split("\n")[0] + "\n" + text.splitlines()[-1][:40])
    page = Page(write_report(log, tmp_path / "r.html"))
    assert "last line is torn" in page.text
    assert "resumed 1 times" in page.text


numbers = st.floats(-1e6, 1e6)


@given(st.lists(numbers, min_size=1, max_size=20), st.booleans())
def test_axes_are_monotone_hold_their_values_and_have_ticks_inside(values, signed):
    data = np.array(values)
    axis = Axis.signed(data, "") if signed else Axis.around(data, "")
    places = [axis.at(v) for v in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= p <= 1 for p in places)
    ticks = axis.ticks()
    assert len(ticks) <= 12
    assert all(
        axis.low - 1e-9 * abs(axis.low) <= t <= axis.high + 1e-9 * abs(axis.high) for t in ticks
    )
    if signed:
        assert axis.at(0.0) == pytest.approx(0.5)


def test_a_curve_is_where_its_values_are():
    chart = Chart(Axis(0, 10, "x"), Axis(-1, 1, "y"), "t")
    chart.line(np.array([0.0, 5.0, 10.0]), np.array([-1.0, 0.0, 1.0]), "chosen")
    (path,) = re.findall(r'class="line chosen" d="M([^"]*)"', chart.svg())
    places = [tuple(map(float, p.split())) for p in path.split("L")]
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    middle = ((LEFT + right) / 2, (TOP + bottom) / 2)
    assert places == [(LEFT, bottom), middle, (right, TOP)]


@given(st.integers(1, 2000), st.integers(0, 100))
def test_thinning_keeps_the_mean_and_the_number_of_points(count, seed):
    values = np.random.default_rng(seed).standard_normal(count)
    steps, thin = thinned(np.arange(count, dtype=float), values)
    assert len(steps) == len(thin) == min(count, CURVE)
    assert steps[0] >= 0
    assert (np.diff(steps) > 0).all()
    if count % CURVE == 0:
        assert thin.mean() == pytest.approx(values.mean())


def test_held_out_pairs_are_drawn_where_the_training_has_some(tmp_path: Path):
    log = write_log(tmp_path / "log.jsonl", steps=9)
    with log.open("a") as out:
        for step, gain in ((0, 0.0), (5, -0.5), (9, -1.5)):
            line = {"kind": "evaluation", "step": step, "chosen_gain": gain, "accuracy": 0.75}
            out.write(json.dumps(line | {"rejected_gain": 2 * gain}) + "\n")
    page = Page(write_report(log, tmp_path / "r.html"))
    assert "chosen -1.5 nats, rejected -3.0, 75% in order at the end" in page.text


def test_layers_are_in_the_models_order_and_ties_are_one(tmp_path: Path):
    page = made(tmp_path, layers=tuple(reversed(LAYERS[:-1])) + LAYERS[-1:])
    names = re.findall(r'text-anchor="end">(block \d|embed_tokens|lm_head|q_proj)<', page.source)
    assert names[:5] == ["embed_tokens", "block 0", "block 1", "block 2", "lm_head"]
