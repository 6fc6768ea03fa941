/** Events by day, facts by whether they hold, and the slider between the first event and now. */

import type { Fact, MemoryEvent, Page } from "../api/memory";

export interface Day {
  /** The local midnight it begins at, in ms. */
  start: number;
  events: MemoryEvent[];
}

/** Events, latest first, under the days they were said on in this machine's zone. */
export function daysOf(events: readonly MemoryEvent[]): Day[] {
  const days: Day[] = [];
  for (const event of events) {
    const start = new Date(event.valid_at).setHours(0, 0, 0, 0);
    const last = days.at(-1);
    if (last?.start === start) last.events.push(event);
    else days.push({ start, events: [event] });
  }
  return days;
}

/** The next page after those that are there; an event that came twice is kept once. */
export function joined(before: Page | null, next: Page): Page {
  const known = new Set(before?.data.map((event) => event.id));
  return { ...next, data: [...(before?.data ?? []), ...next.data.filter((event) => !known.has(event.id))] };
}

export type Standing = "holds" | "ended" | "later";

/** Whether a fact holds at a moment (ms). Without a beginning it held some time before its end. */
export function standing(fact: Fact, at: number): Standing {
  if (fact.valid_to !== null && Date.parse(fact.valid_to) <= at) return "ended";
  if (fact.valid_from !== null && Date.parse(fact.valid_from) > at) return "later";
  return fact.valid_from === null ? "ended" : "holds";
}

/** Facts known at a moment: those that hold, then those that ended, the last first. */
export function factsAt(facts: readonly Fact[], at: number): { fact: Fact; standing: Standing }[] {
  const ends = (fact: Fact) => (fact.valid_to === null ? Number.POSITIVE_INFINITY : Date.parse(fact.valid_to));
  const begins = (fact: Fact) => (fact.valid_from === null ? 0 : Date.parse(fact.valid_from));
  return facts
    .map((fact) => ({ fact, standing: standing(fact, at) }))
    .filter((one) => one.standing !== "later")
    .sort(
      (left, right) =>
        Number(left.standing === "ended") - Number(right.standing === "ended") ||
        (left.standing === "ended"
          ? ends(right.fact) - ends(left.fact)
          : begins(right.fact) - begins(left.fact)),
    );
}

export const STEPS = 200;

/** The moment of a slider's step, from the first moment to now; the last step is now itself: null. */
export function momentAt(step: number, first: number, now: number): number | null {
  return step >= STEPS ? null : Math.round(first + ((now - first) * step) / STEPS);
}

export function stepAt(moment: number | null, first: number, now: number): number {
  if (moment === null || now <= first) return STEPS;
  return Math.max(0, Math.min(STEPS, Math.round(((moment - first) / (now - first)) * STEPS)));
}
