/** What the page knows about the server: catalogue, figures, key, and whether it answers. */

import type { Model, Reward, Stats, Strategy } from "../api/contract";
import { fetchModels, fetchStats, fetchStrategies } from "../api/client";
import { type Problem, problemOf } from "../api/problem";
import { readText, remove, writeText } from "./storage";
import { Store } from "./store";

const KEY = "tenfold.key";
const TICK_MS = 1000;
const SLOWEST_MS = 8000;
export const HISTORY = 60;

export interface Catalogue {
  models: Model[];
  strategies: Strategy[];
  rewards: Reward[];
  state: "loading" | "ready" | "failed";
  problem: Problem | null;
}

export interface Figures {
  stats: Stats | null;
  /** Tokens per second of the last minute, oldest first. */
  speeds: number[];
  live: boolean;
}

export const catalogue = new Store<Catalogue>({
  models: [],
  strategies: [],
  rewards: [],
  state: "loading",
  problem: null,
});
export const figures = new Store<Figures>({ stats: null, speeds: [], live: false });
export const apiKey = new Store<string>(readText("sessionStorage", KEY) ?? "");
/** True while the server wants a key and the user has not given a good one. */
export const keyWanted = new Store<boolean>(false);

export function setApiKey(key: string): void {
  apiKey.set(key.trim());
  if (key.trim()) writeText("sessionStorage", KEY, key.trim());
  else remove("sessionStorage", KEY);
  keyWanted.set(false);
  void loadCatalogue();
  restartPolling();
}

export function noteProblem(problem: Problem): void {
  if (problem.status === 401) keyWanted.set(true);
}

export async function loadCatalogue(): Promise<void> {
  const key = apiKey.get();
  try {
    const [models, offered] = await Promise.all([
      fetchModels(key),
      fetchStrategies(key).catch((thrown: unknown) => {
        // Another OpenAI-compatible server has no strategies; chatting with it still works.
        if (problemOf(thrown).status === 404) return { strategies: [], rewards: [] };
        throw thrown;
      }),
    ]);
    catalogue.set({ models, ...offered, state: "ready", problem: null });
  } catch (thrown) {
    const problem = problemOf(thrown);
    noteProblem(problem);
    catalogue.update((known) => ({ ...known, state: "failed", problem }));
  }
}

let timer: ReturnType<typeof setTimeout> | null = null;
let pause = TICK_MS;
let inFlight: AbortController | null = null;

/** Polls while the page is visible, and more slowly while the server does not answer. */
export function startPolling(): void {
  document.addEventListener("visibilitychange", restartPolling);
  restartPolling();
}

function restartPolling(): void {
  if (timer !== null) clearTimeout(timer);
  timer = null;
  inFlight?.abort();
  inFlight = null;
  pause = TICK_MS;
  if (!document.hidden) void poll();
}

async function poll(): Promise<void> {
  const controller = new AbortController();
  inFlight = controller;
  try {
    const stats = await fetchStats(apiKey.get(), controller.signal);
    pause = TICK_MS;
    figures.update((known) => ({
      stats,
      speeds: [...known.speeds, stats.tokens_per_second].slice(-HISTORY),
      live: true,
    }));
    // The server is back (or was restarted with another model): ask again what it offers.
    if (catalogue.get().state === "failed" && !keyWanted.get()) void loadCatalogue();
  } catch (thrown) {
    if (controller.signal.aborted) return;
    noteProblem(problemOf(thrown));
    figures.update((known) => ({ ...known, live: false }));
    pause = Math.min(SLOWEST_MS, pause * 2);
  }
  timer = setTimeout(() => void poll(), pause);
}
