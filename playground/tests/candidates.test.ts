import { expect, test } from "vitest";
import type { ProgressEvent } from "../src/api/contract";
import { applyProgress, emptySearch, endSearch, ranked, tokensOf } from "../src/state/candidates";

const tokens = (candidate: number, text: string, count: number): ProgressEvent => ({
  event: "tokens",
  candidate,
  text,
  tokens: count,
});

const EVENTS: ProgressEvent[] = [
  tokens(2, "The ", 1),
  tokens(0, "A ", 1),
  tokens(2, "Harbour", 2),
  tokens(1, "No", 1),
  { event: "checkpoint", tokens: 3, alive: [0, 2], cut: [1], scores: { "0": -0.3, "1": -0.9, "2": null } },
  tokens(0, "table", 4),
  {
    event: "result",
    winner: 2,
    scores: { "0": -0.5, "2": -0.2 },
    tokens: { generated: 9, discarded: 6 },
    ms: { total: 12 },
    stopped_by: "complete",
  },
];

test("candidates grow, are cut, scored and decided", () => {
  const search = applyProgress(emptySearch, EVENTS);
  expect(search.candidates.map((one) => [one.id, one.text, one.tokens, one.state, one.score])).toEqual([
    [0, "A table", 5, "lost", -0.5],
    [1, "No", 1, "cut", -0.9],
    [2, "The Harbour", 3, "winner", -0.2],
  ]);
  expect(search.candidates[1]?.cutAt).toBe(3);
  expect(search.candidates[0]?.history).toEqual([
    { tokens: 1, score: -0.3 },
    { tokens: 5, score: -0.5 },
  ]);
  expect(search.checkpoints).toEqual([{ tokens: 3, alive: 2, cut: 1 }]);
  expect(search.winner).toBe(2);
  expect(search.report?.stopped_by).toBe("complete");
  expect(tokensOf(search.candidates)).toBe(9);
});

test("one batch and one event at a time agree", () => {
  const stepwise = EVENTS.reduce((search, event) => applyProgress(search, [event]), emptySearch);
  expect(stepwise).toEqual(applyProgress(emptySearch, EVENTS));
});

test("a batch leaves what it was given, and what it does not touch, alone", () => {
  const before = applyProgress(emptySearch, EVENTS.slice(0, 4));
  const copy = structuredClone(before);
  const after = applyProgress(before, [tokens(0, "!", 1)]);
  expect(before).toEqual(copy);
  expect(after.candidates[1]).toBe(before.candidates[1]);
  expect(after.candidates[0]).not.toBe(before.candidates[0]);
  expect(applyProgress(before, [])).toBe(before);
});

test("a report names its winner by an object, and plain sampling has no candidates", () => {
  const search = applyProgress(emptySearch, [
    tokens(0, "x", 1),
    { event: "result", winner: { candidate: 0, score: 1.5 }, stopped_by: "budget" },
  ]);
  expect(search.candidates[0]).toMatchObject({ state: "winner", score: 1.5 });
  const plain = applyProgress(emptySearch, [{ event: "result", winner: 0, strategy: "sample" }]);
  expect(plain.candidates).toEqual([]);
  expect(plain.report?.strategy).toBe("sample");
});

test("answers that were whole when the last checkpoint passed them over were not cut short", () => {
  const before = applyProgress(emptySearch, [tokens(0, "a", 3), tokens(1, "b", 2)]);
  const cut: ProgressEvent = { event: "checkpoint", tokens: 3, alive: [0], cut: [1], scores: { "0": 2, "1": 1 } };
  const result = (finished: number): ProgressEvent => ({
    event: "result",
    winner: 0,
    candidates: { started: 2, finished, dropped: 2 - finished },
  });
  const states = (events: ProgressEvent[]) => applyProgress(before, events).candidates.map((one) => one.state);
  expect(states([cut, result(2)])).toEqual(["winner", "lost"]);
  expect(states([cut, result(1)])).toEqual(["winner", "cut"]);
});

test("independent samples have no winner", () => {
  const search = applyProgress(emptySearch, [
    tokens(0, "a", 1),
    tokens(1, "b", 1),
    { event: "result", winner: 0, strategy: "sample" },
  ]);
  expect(search.candidates.map((one) => one.state)).toEqual(["lost", "lost"]);
});

test("when the stream ends, nothing is left growing", () => {
  const search = applyProgress(emptySearch, EVENTS.slice(0, 5));
  expect(endSearch(search).candidates.map((one) => one.state)).toEqual(["lost", "cut", "lost"]);
});

test("an event of a later release is passed over", () => {
  const odd = { event: "fork", candidate: 1 } as unknown as ProgressEvent;
  expect(applyProgress(emptySearch, [odd]).candidates).toEqual([]);
});

test("ranked: winner, then scores, then the unscored by number", () => {
  const base = applyProgress(emptySearch, [...[0, 1, 2, 3].map((id) => tokens(id, "x", 1))]);
  const search = applyProgress(base, [
    { event: "checkpoint", tokens: 1, alive: [0, 1, 2, 3], cut: [], scores: { "2": -0.1, "3": -0.5 } },
    { event: "result", winner: 3 },
  ]);
  expect(ranked(search.candidates).map((one) => one.id)).toEqual([3, 2, 0, 1]);
});

test("sixty-four candidates over many checkpoints stay sorted and counted", () => {
  let search = emptySearch;
  const ids = Array.from({ length: 64 }, (_, id) => id);
  for (let round = 0; round < 10; round++) {
    search = applyProgress(search, [...ids].reverse().map((id) => tokens(id, "word ", 1)));
  }
  expect(search.candidates.map((one) => one.id)).toEqual(ids);
  expect(tokensOf(search.candidates)).toBe(640);
});
