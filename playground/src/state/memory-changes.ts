/** Adding and erasing: what changes the memory. */

import * as api from "../api/memory";
import { type Problem, problemOf } from "../api/problem";
import { freshId } from "./conversation";
import { forget, found, memoryOff, runSearch, stale } from "./memory";
import { apiKey, noteProblem } from "./server";

/** As many as one request takes with the server's standard limits. */
export const AT_ONCE = 200;

export interface Added {
  events: api.MemoryEvent[];
  problem: Problem | null;
}

/** Adds in requests of AT_ONCE; says what was kept before one of them failed. */
export async function addAll(events: readonly api.NewMemory[]): Promise<Added> {
  const added: api.MemoryEvent[] = [];
  try {
    for (let from = 0; from < events.length; from += AT_ONCE) {
      added.push(...(await api.addEvents(apiKey.get(), events.slice(from, from + AT_ONCE))));
    }
    return { events: added, problem: null };
  } catch (thrown) {
    return { events: added, problem: noted(thrown) };
  } finally {
    if (added.length > 0) stale();
  }
}

/** Null once it is kept. */
export async function give(feedback: Parameters<typeof api.sendFeedback>[1]): Promise<Problem | null> {
  try {
    await api.sendFeedback(apiKey.get(), feedback);
    stale();
    return null;
  } catch (thrown) {
    return noted(thrown);
  }
}

export const freshPaste = (): string => `paste-${freshId()}`;

export async function previewOf(selected: api.Selected): Promise<api.Preview | Problem> {
  return api.previewErasure(apiKey.get(), selected).catch(noted);
}

export async function eraseAll(selected: api.Selected): Promise<api.Receipt | Problem> {
  try {
    const receipt = await api.erase(apiKey.get(), selected);
    const searched = found.get().data !== null;
    forget();
    if (searched) void runSearch();
    return receipt;
  } catch (thrown) {
    return noted(thrown);
  }
}

export function isProblem(answer: object): answer is Problem {
  return "status" in answer && "message" in answer;
}

function noted(thrown: unknown): Problem {
  const problem = problemOf(thrown);
  noteProblem(problem);
  if (problem.code === "memory_off") memoryOff.set(true);
  return problem;
}
