/** /v1/memory/*: what the server remembers for the holder of the key. */

import { getJson, postJson } from "./client";

export type Kind = "observation" | "tool" | "feedback" | "recall";

export interface MemoryEvent {
  id: string;
  sequence: number;
  author: string;
  role: string;
  text: string;
  subject: string;
  to: string;
  conversation: string;
  kind: Kind;
  scope: string;
  valid_at: string;
  recorded_at: string;
  sources: string[];
  provenance: Record<string, string>;
}

export interface Hit {
  event: MemoryEvent;
  score: number;
  parts: Record<string, number>;
  /** Events that say the same again. */
  repeats?: string[];
  /** Of a consolidated conversation: the hit stands for all of its events. */
  summary?: { conversation: string; text: string; events: string[] } | null;
}

export interface Fact {
  subject: string;
  predicate: string;
  object: string;
  denied: boolean;
  disputed: boolean;
  valid_from: string | null;
  valid_to: string | null;
  recorded_from: string;
  recorded_to: string | null;
  events: string[];
}

export interface Page {
  member: string;
  data: MemoryEvent[];
  next: string | null;
}

export interface Thing {
  kind: string;
  deriver: string;
  events: string[];
  value: Record<string, string | number | null>;
  kept: boolean;
}

export interface Lineage {
  event: MemoryEvent;
  state: "derived" | "waiting" | "failed" | "never";
  reason: string;
  words: boolean;
  vectors: { kind: string; deriver: string; events: string[] }[];
  facts: Fact[];
  things: Thing[];
  sources: MemoryEvent[];
  recalls: MemoryEvent[];
  feedback: MemoryEvent[];
  complete: boolean;
}

/** What restricts a search or an erasure; what is left out does not. */
export interface Selected {
  ids?: string[];
  conversation?: string;
  subject?: string;
  author?: string;
  kinds?: Kind[];
  scope?: string;
  since?: string;
  until?: string;
}

export interface NewMemory {
  text: string;
  role: string;
  subject?: string;
  conversation?: string;
  scope?: string;
  valid_at?: string;
  key?: string;
  provenance?: Record<string, string>;
}

export interface Preview {
  events: number;
  recalls: number;
  feedback: number;
  others: number;
  examples: string[];
}

export interface Receipt {
  id: string;
  erased_at: string;
  events: number;
  derived: number;
  rederived: number;
  selection: Record<string, string>;
}

interface Share {
  count: number;
  of: number;
  examples: string[];
}

interface Finding {
  event: string;
  kind: string;
}

interface Pair {
  event: string;
  of: string;
}

export interface Audit {
  events: number;
  junk: number;
  empty_talk: Share;
  restated: Share;
  duplicated: Share;
  duplicates: Pair[];
  loops: Pair[];
  secrets: Finding[];
  instructions: Finding[];
  stale: { events: string[]; predicate: string; recall: string }[];
  waiting: string[];
  failed: Record<string, string>;
}

const ROOT = "v1/memory/";

export type Params = Record<string, string | number | undefined>;

function get<T>(path: string, key: string, params: Params, signal?: AbortSignal): Promise<T> {
  const given = Object.entries(params).filter(([, value]) => value !== undefined && value !== "");
  const query = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return getJson<T>(ROOT + path + (query ? `?${query}` : ""), key, signal);
}

export const fetchTimeline = (key: string, params: Params, signal?: AbortSignal) =>
  get<Page>("timeline", key, params, signal);

export const fetchBeliefs = (key: string, params: Params, signal?: AbortSignal) =>
  get<{ data: Fact[]; more: number }>("timeline/facts", key, params, signal);

export const fetchLineage = (key: string, id: string, signal?: AbortSignal) =>
  get<Lineage>(`lineage/${encodeURIComponent(id)}`, key, {}, signal);

export const fetchAudit = (key: string, signal?: AbortSignal) => get<Audit>("audit", key, {}, signal);

export async function search(
  key: string,
  query: Selected & { query: string; k: number; as_of?: string; verbatim?: boolean },
  signal?: AbortSignal,
): Promise<Hit[]> {
  return (await postJson<{ data: Hit[] }>(`${ROOT}search`, key, query, signal)).data;
}

export async function addEvents(key: string, events: NewMemory[]): Promise<MemoryEvent[]> {
  return (await postJson<{ data: MemoryEvent[] }>(`${ROOT}events`, key, { events })).data;
}

/** Which of the shown events answered a query; `conversation` where only that was searched. */
export const sendFeedback = (
  key: string,
  given: { query: string; shown: string[]; useful: string[]; conversation?: string },
) => postJson<MemoryEvent>(`${ROOT}feedback`, key, given);

export const previewErasure = (key: string, selected: Selected, signal?: AbortSignal) =>
  postJson<Preview>(`${ROOT}erase/preview`, key, selected, signal);

export const erase = (key: string, selected: Selected) => postJson<Receipt>(`${ROOT}erase`, key, selected);
