/** Conversations: plain values and the changes made to them. */

import type { Example, Message, Usage } from "../api/contract";
import type { Problem } from "../api/problem";
import type { Search } from "./candidates";

export type AnswerState = "running" | "done" | "stopped" | "failed";

export interface Answer {
  id: string;
  state: AnswerState;
  text: string;
  model: string;
  strategy: string;
  finish: string | null;
  usage: Usage | null;
  problem: Problem | null;
  search: Search | null;
  firstTokenMs: number | null;
  totalMs: number | null;
}

/** A user's message and every answer it got; regenerating adds one and shows it. */
export interface Turn {
  id: string;
  user: string;
  answers: Answer[];
  shown: number;
}

export interface Conversation {
  id: string;
  facts: string;
  turns: Turn[];
  draft: string;
  updated: number;
}

export function freshId(): string {
  // crypto.randomUUID exists only in secure contexts, and a LAN address is not one.
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function newConversation(): Conversation {
  return { id: freshId(), facts: "", turns: [], draft: "", updated: Date.now() };
}

export function newAnswer(model: string, strategy: string): Answer {
  return {
    id: freshId(),
    state: "running",
    text: "",
    model,
    strategy,
    finish: null,
    usage: null,
    problem: null,
    search: null,
    firstTokenMs: null,
    totalMs: null,
  };
}

export function titleOf(conversation: Conversation): string {
  const first = (conversation.turns[0]?.user ?? conversation.draft).trim().replaceAll(/\s+/g, " ");
  if (first === "") return "New chat";
  return first.length > 60 ? `${first.slice(0, 59)}…` : first;
}

export function isBlank(conversation: Conversation): boolean {
  return conversation.turns.length === 0 && !conversation.facts.trim() && !conversation.draft.trim();
}

export function shownAnswer(turn: Turn): Answer | null {
  return turn.answers[turn.shown] ?? null;
}

export function addTurn(conversation: Conversation, user: string): Conversation {
  const turn: Turn = { id: freshId(), user, answers: [], shown: 0 };
  return { ...conversation, turns: [...conversation.turns, turn], draft: "", updated: Date.now() };
}

/** Edits a message: what was said after it answered the old words, so it goes. */
export function editTurn(conversation: Conversation, turnId: string, user: string): Conversation {
  const at = conversation.turns.findIndex((turn) => turn.id === turnId);
  if (at < 0) return conversation;
  const kept = { ...conversation, turns: conversation.turns.slice(0, at) };
  return { ...addTurn(kept, user), draft: conversation.draft };
}

export function addAnswer(conversation: Conversation, turnId: string, answer: Answer): Conversation {
  return changeTurn(conversation, turnId, (turn) => ({
    ...turn,
    answers: [...turn.answers, answer],
    shown: turn.answers.length,
  }));
}

export function showAnswer(conversation: Conversation, turnId: string, shown: number): Conversation {
  return changeTurn(conversation, turnId, (turn) => ({
    ...turn,
    shown: Math.max(0, Math.min(shown, turn.answers.length - 1)),
  }));
}

export function changeAnswer(
  conversation: Conversation,
  answerId: string,
  change: (answer: Answer) => Answer,
): Conversation {
  const turns = conversation.turns.map((turn) =>
    turn.answers.some((answer) => answer.id === answerId)
      ? { ...turn, answers: turn.answers.map((answer) => (answer.id === answerId ? change(answer) : answer)) }
      : turn,
  );
  return { ...conversation, turns };
}

function changeTurn(conversation: Conversation, turnId: string, change: (turn: Turn) => Turn): Conversation {
  const turns = conversation.turns.map((turn) => (turn.id === turnId ? change(turn) : turn));
  return { ...conversation, turns, updated: Date.now() };
}

/** The messages to send for a turn. Turns that never got an answer are left out: the model never
 *  replied to them, and two user messages in a row confuse most chat templates. */
export function messagesFor(conversation: Conversation, turnId: string): Message[] {
  const messages: Message[] = [];
  if (conversation.facts.trim()) messages.push({ role: "system", content: conversation.facts });
  for (const turn of conversation.turns) {
    if (turn.id === turnId) {
      messages.push({ role: "user", content: turn.user });
      break;
    }
    const answer = shownAnswer(turn)?.text;
    if (!answer) continue;
    messages.push({ role: "user", content: turn.user }, { role: "assistant", content: answer });
  }
  return messages;
}

/** Lays an example out: its system text becomes the facts, its last user message the draft. */
export function fromExample(conversation: Conversation, example: Example, model: string): Conversation {
  const facts = example.messages.filter((message) => message.role === "system").map((message) => message.content);
  const turns: Turn[] = [];
  let draft = "";
  for (const message of example.messages) {
    if (message.role === "user") {
      draft = draft ? `${draft}\n\n${message.content}` : message.content;
    } else if (message.role === "assistant") {
      const answer: Answer = { ...newAnswer(model, ""), state: "done", text: message.content };
      turns.push({ id: freshId(), user: draft, answers: [answer], shown: 0 });
      draft = "";
    }
  }
  return { ...conversation, facts: facts.join("\n\n"), turns, draft, updated: Date.now() };
}
