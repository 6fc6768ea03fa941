"""`tenfold memory`: consolidate, retain, feedback, learn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from .test_memory_command import BOATS, HOME, KETTLE, Shell, sh, words

__all__ = ["sh"]
FENCE = [f"The garden fence number {n} needs {n + 3} pots of green paint." for n in range(7)]


def test_a_conversation_is_summed_up_once_and_search_prefers_it(sh: Shell) -> None:
    ids = [sh("add", text, "--conversation", "fence").strip() for text in FENCE]
    (summary,) = sh.lines("consolidate", "fence")
    assert summary["events"] == ids
    assert sh("consolidate", "fence") == ""
    assert "nothing new" in sh.err
    query = words("search", "green paint for the garden fence", "--k", "6")
    assert [hit["summary"]["events"] for hit in sh.lines(*query) if hit["summary"]] == [ids]
    assert [hit["summary"] for hit in sh.lines(*query, "--verbatim")] == [None] * 6
    shown = sh(*query)
    assert "summary of 7 events in fence" in shown
    assert all(ulid in shown and text in shown for ulid, text in summary["said"])
    sh("erase", "--id", ids[0], "--yes")
    assert [hit["summary"]["events"] for hit in sh.lines(*query) if hit["summary"]] == [ids[1:]]


def test_conversations_at_rest_are_summed_up(sh: Shell) -> None:
    old = (datetime.now(UTC) - timedelta(days=9)).isoformat()
    for text in FENCE:
        sh("add", text, "--conversation", "fence", "--valid-at", old)
    assert sh.lines("consolidate", "--rest-days", "30") == []
    assert len(sh.lines("consolidate", "--rest-days", "7")) == 1


def test_what_is_said_again_is_shown_once(sh: Shell) -> None:
    ids = {sh("add", text).strip() for text in (KETTLE, KETTLE.lower())}
    (hit,) = sh.lines(*words("search", "red kettle"))
    assert {hit["event"]["id"], *hit["repeats"]} == ids
    assert f"said again in {hit['repeats'][0]}" in sh(*words("search", "red kettle"))


def test_policies_are_set_shown_applied_and_dropped(sh: Shell) -> None:
    sh("retain", "set", "--scope", "private", "--kind", "observation", "--most", "1")
    assert "every scope: events are kept for 3650 days; `tenfold" in sh(
        "retain", "set", "--days", "3650"
    )
    assert sh.lines("retain", "show") == [
        {"scope": "", "kind": "", "days": 3650.0, "most": None},
        {"scope": "private", "kind": "observation", "days": None, "most": 1},
    ]
    assert "every scope: events are kept for 3650 days" in sh("retain", "show")
    for text in (KETTLE, BOATS, HOME):
        sh("add", text)
    dry = sh.json("retain", "apply", "--dry-run")
    assert (dry["events"], [p["due"] for p in dry["policies"]], dry["receipt"]) == (2, [0, 2], None)
    assert len(sh.lines("history")) == 3
    sh("retain", "apply", stdin="n\n", code=1)
    assert "2 events of members of default" in sh.err
    sh("retain", "apply", code=2)
    assert "nobody said yes" in sh.err
    assert "erased 2 events" in sh("retain", "apply", "--yes")
    assert [e["text"] for e in sh.lines("history")] == [HOME]
    sh("retain", "apply", "--yes")
    assert "nothing is due" in sh.err
    sh("retain", "drop", "--scope", "private", "--kind", "observation")
    sh("retain", "drop")
    sh("retain", "show")
    assert "everything is kept" in sh.err


def test_feedback_is_given_on_what_a_search_shows_or_on_what_is_named(sh: Shell) -> None:
    ids = [sh("add", text).strip() for text in (KETTLE, BOATS, HOME)]
    given = sh.json(*words("feedback", "what does the sister paint?", "--useful", ids[1]))
    assert (given["kind"], given["provenance"]) == ("feedback", {ids[1]: "useful"})
    assert set(given["sources"]) <= set(ids)
    named = sh.json(*words("feedback", "x", "--shown", ids[0], "--shown", ids[2]))
    assert (named["sources"], named["provenance"]) == ([ids[0], ids[2]], {})
    sh(*words("feedback", "x", "--shown", ids[0], "--useful", ids[1]), code=2)
    assert "was not shown" in sh.err
    learnt = sh.json(*words("learn"))
    assert (learnt["promoted"], learnt["feedback"], learnt["ranks"]) == (False, 2, "locomo")
    assert "too little" in sh(*words("learn"))
    sh(*words("learn", "--undo"), code=2)
    assert "no learnt weights" in sh.err


def test_a_policy_about_feedback_says_what_else_is_of_that_kind(sh: Shell) -> None:
    sh("retain", "set", "--kind", "feedback", "--days", "30")
    assert "LangGraph" in sh.err
    sh("retain", "set", "--kind", "tool", "--days", "30")
    assert "LangGraph" not in sh.err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["consolidate"], "either a conversation or --rest-days"),
        (["feedback", "x", "--conversation", "nowhere", "--embedder", "words"], "on nothing"),
        (["consolidate", "nowhere"], "no conversation"),
        (["retain", "set"], "needs a limit"),
        (["retain", "set", "--days", "0"], "no span of time"),
        (["retain", "set", "--days", "1e300"], "no span of time"),
        (["retain", "set", "--days", "nan"], "no span of time"),
        (["retain", "set", "--days", "1e-9"], "no span of time"),
        (["consolidate", "--rest-days", "1e300"], "no span of time"),
        (["consolidate", "--rest-days", "nan"], "no span of time"),
        (["consolidate", "--rest-days", "-1"], "no span of time"),
        (["retain", "set", "--most", "3", "--kind", "dream"], "kind"),
        (["retain", "set", "--most", "3", "--scope", "all"], "no scope"),
        (["retain", "drop"], "no policy"),
        (["feedback", "x", "--useful", "1"], "no event id"),
        (["history", "--since", "0001-01-01T00:00+14:00"], "no time"),
    ],
)
def test_bad_options_are_one_line(sh: Shell, argv: list[str], said: str) -> None:
    sh("add", HOME)
    sh(*argv, code=2)
    assert said in sh.err
    assert sh.err.count("\n") == 1
