/** All conversations, the open one, and their copies in the browser. */

import type { Conversation } from "./conversation";
import { changeAnswer, isBlank, newConversation } from "./conversation";
import { keysWith, readJson, readText, remove, writeText } from "./storage";
import { Store } from "./store";
import { isRecord } from "../api/problem";

// One entry per conversation: two tabs then overwrite each other only within the same one.
const PREFIX = "tenfold.chat.";
const ACTIVE = "tenfold.active";

export interface Chats {
  all: Conversation[];
  activeId: string;
}

export const chats = new Store<Chats>(restore());

/** False once the browser refused to keep a conversation, even without its candidates. */
export const kept = new Store<boolean>(true);

const dirty = new Set<string>();
let timer: ReturnType<typeof setTimeout> | null = null;

function restore(): Chats {
  const all = keysWith("localStorage", PREFIX)
    .map((key) => revive(readJson("localStorage", key)))
    .filter((conversation): conversation is Conversation => conversation !== null)
    .sort((left, right) => right.updated - left.updated);
  const blank = all.find(isBlank) ?? newConversation();
  const active = readText("sessionStorage", ACTIVE);
  const activeId = all.find((conversation) => conversation.id === active)?.id ?? blank.id;
  return { all: [blank, ...all.filter((conversation) => conversation !== blank)], activeId };
}

/** A stored conversation, or null for anything this release cannot show. */
function revive(stored: unknown): Conversation | null {
  if (!isRecord(stored) || typeof stored["id"] !== "string" || !Array.isArray(stored["turns"])) return null;
  const shaped = stored["turns"].every((turn) => isRecord(turn) && Array.isArray(turn["answers"]));
  if (!shaped) return null;
  let conversation = { ...newConversation(), ...stored } as Conversation;
  for (const answer of conversation.turns.flatMap((turn) => turn.answers)) {
    // The page went away while this answer was growing: nothing feeds it any more.
    if (answer.state === "running") {
      conversation = changeAnswer(conversation, answer.id, (one) => ({ ...one, state: "stopped" }));
    }
  }
  return conversation;
}

export function conversationOf(id: string): Conversation | null {
  return chats.get().all.find((conversation) => conversation.id === id) ?? null;
}

export function change(id: string, update: (conversation: Conversation) => Conversation): void {
  chats.update((state) => ({
    ...state,
    all: state.all.map((conversation) => (conversation.id === id ? update(conversation) : conversation)),
  }));
  dirty.add(id);
  timer ??= setTimeout(save, 800);
}

export function open(id: string): void {
  chats.update((state) => ({ ...state, activeId: id }));
  writeText("sessionStorage", ACTIVE, id);
}

/** Opens the blank conversation if there is one, so that empty ones do not pile up. */
export function openNew(): void {
  const blank = chats.get().all.find(isBlank);
  const conversation = blank ?? newConversation();
  chats.update((state) => ({
    ...state,
    all: [conversation, ...state.all.filter((one) => one !== blank)],
  }));
  open(conversation.id);
}

export function discard(id: string): void {
  remove("localStorage", PREFIX + id);
  dirty.delete(id);
  const rest = chats.get().all.filter((conversation) => conversation.id !== id);
  const wasActive = chats.get().activeId === id;
  chats.update((state) => ({ ...state, all: rest }));
  if (wasActive) openNew();
}

export function save(): void {
  if (timer !== null) clearTimeout(timer);
  timer = null;
  for (const id of dirty) {
    const conversation = conversationOf(id);
    if (!conversation || isBlank(conversation)) {
      remove("localStorage", PREFIX + id);
      continue;
    }
    const whole = writeText("localStorage", PREFIX + id, JSON.stringify(conversation));
    kept.set(whole || writeText("localStorage", PREFIX + id, JSON.stringify(slim(conversation))));
  }
  dirty.clear();
}

/** Without the candidates' texts, which are by far the largest part. */
function slim(conversation: Conversation): Conversation {
  return {
    ...conversation,
    turns: conversation.turns.map((turn) => ({
      ...turn,
      answers: turn.answers.map((answer) => ({ ...answer, search: null })),
    })),
  };
}
