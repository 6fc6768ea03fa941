/** Runs one answer: from the request to the last chunk, into the conversation. */

import type { ProgressEvent } from "../api/contract";
import { streamCompletion, type StreamItem } from "../api/client";
import { problemOf } from "../api/problem";
import { applyProgress, emptySearch, endSearch } from "./candidates";
import { change, conversationOf, save } from "./chats";
import { addAnswer, addTurn, type Answer, changeAnswer, editTurn, messagesFor, newAnswer } from "./conversation";
import { readJson, writeText } from "./storage";
import { apiKey, catalogue, noteProblem } from "./server";
import { chosenModel, requestOf, restoreSettings, type Settings, strategyName } from "./settings";
import { Store } from "./store";

const SETTINGS = "tenfold.settings";
// The server may share this machine's processors: redrawing for every token would slow it down.
const DRAW_MS = 60;

export const settings = new Store<Settings>(restoreSettings(readJson("localStorage", SETTINGS)));

export function choose(part: Partial<Settings>): void {
  settings.update((known) => ({ ...known, ...part }));
  writeText("localStorage", SETTINGS, JSON.stringify(settings.get()));
}

const running = new Map<string, AbortController>();

export function stop(conversationId: string): void {
  running.get(conversationId)?.abort();
}

export function send(conversationId: string, text: string): void {
  if (running.has(conversationId)) return;
  change(conversationId, (conversation) => addTurn(conversation, text));
  void answerLast(conversationId);
}

export function resend(conversationId: string, turnId: string, text: string): void {
  if (running.has(conversationId)) return;
  change(conversationId, (conversation) => editTurn(conversation, turnId, text));
  void answerLast(conversationId);
}

export function regenerate(conversationId: string): void {
  if (!running.has(conversationId)) void answerLast(conversationId);
}

async function answerLast(conversationId: string): Promise<void> {
  const conversation = conversationOf(conversationId);
  const turn = conversation?.turns.at(-1);
  if (!conversation || !turn) return;
  const { models, strategies } = catalogue.get();
  const chosen = settings.get();
  const model = chosenModel(chosen, models);
  const request = requestOf(chosen, models, strategies, messagesFor(conversation, turn.id));
  const answer = newAnswer(model?.id ?? "", strategyName(chosen, model, strategies));
  change(conversationId, (one) => addAnswer(one, turn.id, answer));

  const controller = new AbortController();
  running.set(conversationId, controller);
  const feed = new Feed(conversationId, answer.id);
  try {
    for await (const item of streamCompletion(request, apiKey.get(), controller.signal)) feed.take(item);
    feed.finish({ state: "done" });
  } catch (thrown) {
    if (controller.signal.aborted) {
      feed.finish({ state: "stopped" });
    } else {
      const problem = problemOf(thrown);
      noteProblem(problem);
      feed.finish({ state: "failed", problem });
    }
  } finally {
    running.delete(conversationId);
    save();
  }
}

/** Gathers what arrives and writes it to the conversation a few times a second. */
class Feed {
  private readonly started = performance.now();
  private text = "";
  private events: ProgressEvent[] = [];
  private patch: Partial<Answer> = {};
  private timer: ReturnType<typeof setTimeout> | null = null;
  private sawToken = false;

  constructor(
    private readonly conversationId: string,
    private readonly answerId: string,
  ) {}

  take(item: StreamItem): void {
    if (item.kind === "text") this.text += item.text;
    else if (item.kind === "progress") this.events.push(item.event);
    else if (item.kind === "finish") this.patch.finish = item.reason;
    else if (item.kind === "usage") this.patch.usage = item.usage;
    else this.patch.model = item.model;
    if (!this.sawToken && (item.kind === "text" || item.kind === "progress")) {
      this.sawToken = true;
      this.patch.firstTokenMs = performance.now() - this.started;
    }
    this.timer ??= setTimeout(() => this.write(), DRAW_MS);
  }

  finish(last: Partial<Answer>): void {
    this.patch = { ...this.patch, ...last, totalMs: performance.now() - this.started };
    this.write();
    change(this.conversationId, (conversation) =>
      changeAnswer(conversation, this.answerId, (answer) => ({
        ...answer,
        search: answer.search && endSearch(answer.search),
      })),
    );
  }

  private write(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const { text, events, patch } = this;
    this.text = "";
    this.events = [];
    this.patch = {};
    change(this.conversationId, (conversation) =>
      changeAnswer(conversation, this.answerId, (answer) => ({
        ...answer,
        ...patch,
        text: answer.text + text,
        search: events.length > 0 ? applyProgress(answer.search ?? emptySearch, events) : answer.search,
      })),
    );
  }
}
