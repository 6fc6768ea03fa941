/** Which of the events shown for a query were useful: what a search learns from. */

import type { Hit } from "../api/memory";

/** Event id: whether it was useful. What is not in it was not judged. */
export type Marks = Readonly<Record<string, boolean>>;

/** The same mark again takes it back. */
export function marked(marks: Marks, id: string, useful: boolean): Marks {
  const { [id]: before, ...others } = marks;
  return before === useful ? others : { ...others, [id]: useful };
}

/** What is sent: only events that were judged, in the order they were shown in. */
export function feedbackOf(hits: readonly Hit[], marks: Marks): { shown: string[]; useful: string[] } {
  const shown = hits.map((hit) => hit.event.id).filter((id) => marks[id] !== undefined);
  return { shown, useful: shown.filter((id) => marks[id] === true) };
}

/** Only differences teach: why these marks would teach nothing yet, or null. */
export function teachesNothing(hits: readonly Hit[], marks: Marks): string | null {
  const { shown, useful } = feedbackOf(hits, marks);
  if (useful.length === 0) return "Mark at least one event as useful, too";
  return useful.length === shown.length ? "Mark at least one event as not useful, too" : null;
}
