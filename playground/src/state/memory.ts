/** What the page has asked of the memory. It is forgotten when another key is given or something is
 *  erased: the page must not go on showing what the server no longer does. */

import * as api from "../api/memory";
import { type Problem, problemOf } from "../api/problem";
import { type Filter, emptyFilter, momentOf, paramsOf, selectedOf } from "./memory-filter";
import { joined } from "./memory-timeline";
import { apiKey, noteProblem } from "./server";
import { Store } from "./store";

export interface Asked<T> {
  state: "idle" | "loading" | "ready" | "failed";
  data: T | null;
  problem: Problem | null;
}

const nothing = { state: "idle", data: null, problem: null } as const;

/** One question at a time: asking again abandons the answer to the question before. */
class Question<T> extends Store<Asked<T>> {
  private inFlight: AbortController | null = null;

  constructor() {
    super(nothing);
  }

  async ask(work: (key: string, signal: AbortSignal) => Promise<T>): Promise<T | null> {
    this.inFlight?.abort();
    const controller = new AbortController();
    this.inFlight = controller;
    // What was there stays in sight while the next answer is on its way.
    this.update((before) => ({ ...before, state: "loading", problem: null }));
    try {
      const data = await work(apiKey.get(), controller.signal);
      if (controller.signal.aborted) return null;
      this.set({ state: "ready", data, problem: null });
      return data;
    } catch (thrown) {
      if (controller.signal.aborted) return null;
      const problem = problemOf(thrown);
      noteProblem(problem);
      if (problem.code === "memory_off") memoryOff.set(true);
      this.set({ state: "failed", data: null, problem });
      return null;
    }
  }

  reset(): void {
    this.inFlight?.abort();
    this.set(nothing);
  }
}

/** True once the server said that it has no memory. */
export const memoryOff = new Store<boolean>(false);
/** Whose memory it is, as the server says. */
export const member = new Store<string>("");

export interface Found {
  query: string;
  conversation: string;
  hits: api.Hit[];
}

/** The newest event, asked for when the page opens: it tells whether there is a memory, and whose. */
export const hello = new Question<api.Page>();
export const found = new Question<Found>();
export const timeline = new Question<api.Page>();
export const beliefs = new Question<{ data: api.Fact[]; more: number }>();
export const lineage = new Question<api.Lineage>();
export const audit = new Question<api.Audit>();

export interface SearchForm {
  query: string;
  filter: Filter;
  asOf: string;
  k: number;
  /** Every event in a place of its own, no summaries. */
  verbatim: boolean;
}

export const searchForm = new Store<SearchForm>({ query: "", filter: emptyFilter, asOf: "", k: 10, verbatim: false });

/** Where in time the timeline stands. `known`: with what was recorded by then only, or by now. */
export interface Travel {
  at: string;
  known: "then" | "today";
  filter: Filter;
  /** The first moment that was seen: where the slider begins. */
  first: number | null;
}

export const travel = new Store<Travel>({ at: "", known: "today", filter: emptyFilter, first: null });

export async function runSearch(): Promise<number | null> {
  const { query, filter, asOf, k, verbatim } = searchForm.get();
  const asked = query.trim();
  const when = momentOf(asOf);
  const more = { ...(when ? { as_of: when } : {}), ...(verbatim ? { verbatim } : {}) };
  const answer = await found.ask(async (key, signal) => ({
    query: asked,
    conversation: filter.conversation.trim(),
    hits: await api.search(key, { ...selectedOf(filter), query: asked, k, ...more }, signal),
  }));
  return answer?.hits.length ?? null;
}

/** The end of the chosen minute: what was said in it is still seen. */
export function endOf(at: string): string | undefined {
  const moment = momentOf(at);
  return moment && new Date(Date.parse(moment) + 60_000).toISOString();
}

function timelineParams(): api.Params {
  const { at, known, filter } = travel.get();
  const params = paramsOf(filter);
  const end = endOf(at);
  if (!end) return params;
  if (known === "then") return { ...params, as_of: end };
  const until = params["until"];
  return { ...params, until: typeof until === "string" && until < end ? until : end };
}

export async function loadTimeline(): Promise<void> {
  const { at, known, filter } = travel.get();
  const recorded = known === "then" ? endOf(at) : undefined;
  const [page] = await Promise.all([
    timeline.ask((key, signal) => api.fetchTimeline(key, timelineParams(), signal)),
    beliefs.ask((key, signal) => api.fetchBeliefs(key, { subject: filter.subject.trim(), recorded }, signal)),
  ]);
  if (page) notePage(page);
}

export async function loadMore(): Promise<void> {
  const before = timeline.get().data;
  if (!before?.next) return;
  const page = await timeline.ask(async (key, signal) =>
    joined(before, await api.fetchTimeline(key, { ...timelineParams(), before: before.next ?? "" }, signal)),
  );
  if (page) notePage(page);
}

function notePage(page: api.Page): void {
  member.set(page.member);
  const oldest = page.data.at(-1);
  if (!oldest) return;
  const moment = Date.parse(oldest.valid_at);
  travel.update((now) => ({ ...now, first: Math.min(now.first ?? moment, moment) }));
}

export function loadLineage(id: string): void {
  void lineage.ask((key, signal) => api.fetchLineage(key, id, signal));
}

export async function greet(): Promise<void> {
  memoryOff.set(false);
  const page = await hello.ask((key, signal) => api.fetchTimeline(key, { limit: 1 }, signal));
  if (page) member.set(page.member);
}

/** After something was added: lists are asked anew when they are looked at. */
export function stale(): void {
  for (const question of [hello, timeline, beliefs, audit]) question.reset();
}

/** After something was erased, or with another key: nothing of it stays on the page. */
export function forget(): void {
  stale();
  found.reset();
  lineage.reset();
}

apiKey.subscribe(() => {
  forget();
  member.set("");
  memoryOff.set(false);
  travel.update((now) => ({ ...now, at: "", first: null }));
});
