import { expect, test } from "vitest";
import type { Audit, Fact, Hit, MemoryEvent } from "../src/api/memory";
import { findingsOf } from "../src/state/memory-audit";
import { feedbackOf, marked, teachesNothing } from "../src/state/memory-feedback";
import { emptyFilter, filterMistake, localOf, momentOf, paramsOf, restricts, selectedOf } from "../src/state/memory-filter";
import { partsOf, reasonWords, scaleOf } from "../src/state/memory-score";
import { daysOf, factsAt, joined, momentAt, standing, stepAt, STEPS } from "../src/state/memory-timeline";
import { hashOf, routeOf, TABS } from "../src/state/route";

const ID = "01M86RME110M180TAV50XVXDE2";

function eventOf(part: Partial<MemoryEvent>): MemoryEvent {
  return {
    id: ID,
    sequence: 1,
    author: "me",
    role: "user",
    text: "I live in Porto.",
    subject: "me",
    to: "",
    conversation: "",
    kind: "observation",
    scope: "private",
    valid_at: "2026-05-01T10:00:00+00:00",
    recorded_at: "2026-05-01T10:00:00+00:00",
    sources: [],
    provenance: {},
    ...part,
  };
}

function factOf(part: Partial<Fact>): Fact {
  return {
    subject: "me",
    predicate: "lives in",
    object: "Porto",
    denied: false,
    disputed: false,
    valid_from: "2026-03-01T00:00:00+00:00",
    valid_to: null,
    recorded_from: "2026-03-01T00:00:00+00:00",
    recorded_to: null,
    events: [ID],
    ...part,
  };
}

test("an address names a page and comes back from it", () => {
  for (const tab of TABS) {
    for (const event of [null, ID]) {
      const route = { page: "memory" as const, tab, event };
      expect(routeOf(hashOf(route))).toEqual(route);
    }
  }
  expect(routeOf(hashOf({ page: "chat" }))).toEqual({ page: "chat" });
  expect(routeOf("")).toEqual({ page: "chat" });
  expect(routeOf("#/elsewhere")).toEqual({ page: "chat" });
  expect(routeOf("#/memory/nonsense")).toEqual({ page: "memory", tab: "search", event: null });
  expect(routeOf("#/memory/audit/../../v1/models")).toEqual({ page: "memory", tab: "audit", event: null });
});

test("an empty filter sends nothing, a filled one only what is filled", () => {
  expect(selectedOf(emptyFilter)).toEqual({});
  expect(restricts(emptyFilter)).toBe(0);
  const filter = { ...emptyFilter, conversation: " tea ", kind: "tool" as const, since: "2026-05-01T10:00" };
  const since = new Date("2026-05-01T10:00").toISOString();
  expect(selectedOf(filter)).toEqual({ conversation: "tea", kinds: ["tool"], since });
  expect(paramsOf(filter)).toEqual({ conversation: "tea", kind: "tool", since });
  expect(restricts(filter)).toBe(3);
});

test("local times are sent with their zone, and no time is no restriction", () => {
  expect(momentOf("2026-05-01T10:00")).toBe(new Date(2026, 4, 1, 10).toISOString());
  expect(localOf(new Date(2026, 4, 1, 10, 5, 59).getTime())).toBe("2026-05-01T10:05");
  for (const nonsense of ["", "  ", "yesterday"]) expect(momentOf(nonsense)).toBeUndefined();
  expect(localOf("never")).toBe("");
});

test("what the server would refuse is told before it is sent", () => {
  expect(filterMistake(emptyFilter)).toBeNull();
  for (const scope of ["private", "shared", "team:garden"]) expect(filterMistake({ ...emptyFilter, scope })).toBeNull();
  for (const scope of ["world", "team:", "team"]) expect(filterMistake({ ...emptyFilter, scope })).not.toBeNull();
  const backwards = { ...emptyFilter, since: "2026-05-02T10:00", until: "2026-05-01T10:00" };
  expect(filterMistake(backwards)).toContain("nothing lies between");
});

test("the parts of a score add up to it, whatever the server sends", () => {
  for (let round = 0; round < 200; round++) {
    const parts = Object.fromEntries(
      ["lexical", "turn", "asks", "age", "new_reason"].map((name) => [name, Math.random() * 4 - 1.5]),
    );
    const told = Object.values(parts).reduce((sum, value) => sum + value, 0);
    const score = round % 2 === 0 ? told : told + 0.5;
    const hit: Hit = { event: eventOf({}), score, parts };
    const shown = partsOf(hit, scaleOf([hit]));
    expect(shown.reduce((sum, part) => sum + part.value, 0)).toBeCloseTo(score, 9);
    expect(shown.some((part) => part.name === "unexplained")).toBe(round % 2 === 1);
    const sizes = shown.map((part) => Math.abs(part.value));
    expect(sizes).toEqual([...sizes].sort((left, right) => right - left));
    expect(shown.every((part) => part.share >= 0 && part.share <= 1)).toBe(true);
  }
});

test("bars of all hits share one scale", () => {
  const weak: Hit = { event: eventOf({}), score: 1, parts: { turn: 1, asks: 0 } };
  const strong: Hit = { event: eventOf({}), score: 1, parts: { turn: 3, asks: -2 } };
  expect(partsOf(weak, scaleOf([weak, strong])).map((part) => part.share)).toEqual([1 / 3]);
  expect(scaleOf([])).toBe(0);
  expect(reasonWords("some_new_reason")).toBe("Some new reason");
});

test("events stand under the days they were said on, in their order", () => {
  const at = (day: number, hour: number) => new Date(2026, 4, day, hour).toISOString();
  const events = [at(3, 1), at(2, 23), at(2, 1), at(1, 0)].map((valid_at, n) => eventOf({ valid_at, sequence: n }));
  const days = daysOf(events);
  expect(days.map((day) => day.start)).toEqual([3, 2, 1].map((day) => new Date(2026, 4, day).getTime()));
  expect(days.flatMap((day) => day.events)).toEqual(events);
});

test("pages are joined without an event twice", () => {
  const page = (ids: string[], next: string | null) => ({ member: "me", data: ids.map((id) => eventOf({ id })), next });
  const both = joined(page(["a", "b"], "x"), page(["b", "c"], null));
  expect(both.data.map((event) => event.id)).toEqual(["a", "b", "c"]);
  expect(both.next).toBeNull();
});

test("a fact holds from its beginning until before its end", () => {
  const fact = factOf({ valid_to: "2026-05-20T00:00:00+00:00" });
  expect(standing(fact, Date.parse("2026-02-28T23:59:00Z"))).toBe("later");
  expect(standing(fact, Date.parse("2026-03-01T00:00:00Z"))).toBe("holds");
  expect(standing(fact, Date.parse("2026-05-19T23:59:00Z"))).toBe("holds");
  expect(standing(fact, Date.parse("2026-05-20T00:00:00Z"))).toBe("ended");
  const now = Date.parse("2026-06-01T00:00:00Z");
  const lisbon = factOf({ object: "Lisbon", valid_from: "2026-05-20T00:00:00+00:00" });
  const later = factOf({ object: "Faro", valid_from: "2026-07-01T00:00:00+00:00" });
  expect(factsAt([fact, later, lisbon], now).map((one) => [one.fact.object, one.standing])).toEqual([
    ["Lisbon", "holds"],
    ["Porto", "ended"],
  ]);
});

test("the slider's steps and moments are of each other, and its end is now", () => {
  const [first, now] = [1_000_000, 900_000_000];
  expect(momentAt(STEPS, first, now)).toBeNull();
  expect(momentAt(0, first, now)).toBe(first);
  expect(stepAt(null, first, now)).toBe(STEPS);
  for (let step = 0; step < STEPS; step++) expect(stepAt(momentAt(step, first, now), first, now)).toBe(step);
  expect(stepAt(first - 5, first, now)).toBe(0);
  expect(stepAt(now, now, now)).toBe(STEPS);
});

test("an audit lists every kind of rot with its events", () => {
  const none = { count: 0, of: 3, examples: [] };
  const report: Audit = {
    events: 3,
    junk: 1 / 3,
    empty_talk: { count: 1, of: 3, examples: ["a"] },
    restated: none,
    duplicated: { count: 1, of: 3, examples: ["b"] },
    duplicates: [{ event: "b", of: "c" }],
    loops: [],
    secrets: [{ event: "c", kind: "password" }],
    instructions: [],
    stale: [{ events: ["a"], predicate: "lives in", recall: "r" }],
    waiting: [],
    failed: { c: "ValueError: no" },
  };
  const found = Object.fromEntries(findingsOf(report).map((one) => [one.name, one]));
  expect(found["Secrets"]?.rows).toEqual([{ ids: ["c"], words: "password" }]);
  expect(found["Duplicates"]?.rows).toEqual([{ ids: ["b", "c"], words: "says the same" }]);
  expect(found["Stale facts"]?.rows[0]?.ids).toEqual(["a", "r"]);
  expect(found["Failed"]?.count).toBe(1);
  expect(findingsOf(report).filter((one) => one.count > 0)).toHaveLength(5);
});

test("feedback is of the events that were judged, and of both sorts", () => {
  const hits = ["a", "b", "c", "d"].map((id): Hit => ({ event: eventOf({ id }), score: 1, parts: {} }));
  let marks = marked(marked(marked({}, "c", true), "a", false), "d", true);
  expect(feedbackOf(hits, marks)).toEqual({ shown: ["a", "c", "d"], useful: ["c", "d"] });
  expect(teachesNothing(hits, marks)).toBeNull();
  marks = marked(marks, "a", false);
  expect(feedbackOf(hits, marks).shown).toEqual(["c", "d"]);
  expect(teachesNothing(hits, marks)).toContain("not useful");
  expect(teachesNothing(hits, marked({}, "b", false))).toContain("as useful");
  expect(marked(marked({}, "a", true), "a", false)).toEqual({ a: false });
});
