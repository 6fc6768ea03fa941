/** Why a search found what it found: the parts of a score, as bars. */

import type { Hit } from "../api/memory";

const REASONS: Record<string, string> = {
  lexical: "Words in common",
  lexical_rank: "Place among matches of words",
  lexical_before: "Words in the event before",
  lexical_after: "Words in the event after",
  lexical_far: "Words in the talk around",
  lexical_neighbours: "Words in the events around",
  turn: "Near in meaning",
  window: "Near, with the event before",
  window_rank: "Place among the near ones",
  covered_around: "Query's words here or next to it",
  author_named: "The query names who said it",
  another_named: "The query names somebody else",
  asks: "Asks rather than tells",
  answers: "Answers a question",
  first_person: "In the first person",
  long: "Says more",
  opening: "Opens a conversation",
  time_asked: "Tells a time, as asked",
  number_asked: "Tells a number, as asked",
  in_time: "Said at the time asked for",
  soon_after: "Said soon after that time",
  age: "Age",
};

export function reasonWords(name: string): string {
  const said = REASONS[name] ?? name.replaceAll("_", " ");
  return said.charAt(0).toUpperCase() + said.slice(1);
}

export interface Part {
  name: string;
  words: string;
  value: number;
  /** Length of its bar: 1 is the largest part of all hits. */
  share: number;
}

/** The largest part of all hits: their bars are of one scale, so that they can be compared. */
export function scaleOf(hits: readonly Hit[]): number {
  return Math.max(0, ...hits.flatMap((hit) => Object.values(hit.parts).map(Math.abs)));
}

/** The parts, the weightiest first. What they lack to the score, if anything, is a part as well:
 *  bars that do not add up would explain nothing. */
export function partsOf(hit: Hit, scale: number): Part[] {
  const given = Object.entries(hit.parts).filter(([, value]) => value !== 0);
  const lacking = hit.score - given.reduce((sum, [, value]) => sum + value, 0);
  if (Math.abs(lacking) > 1e-6) given.push(["unexplained", lacking]);
  return given
    .map(([name, value]) => ({
      name,
      words: reasonWords(name),
      value,
      share: scale > 0 ? Math.min(1, Math.abs(value) / scale) : 0,
    }))
    .sort((left, right) => Math.abs(right.value) - Math.abs(left.value));
}
