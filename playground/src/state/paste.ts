/** A pasted conversation as events: chat messages in JSON, JSON lines, or lines of `Name: text`. */

import type { NewMemory } from "../api/memory";
import { isRecord } from "../api/problem";

export interface Said {
  speaker: string;
  text: string;
}

const SELF = new Set(["user", "human", "me", "you", "i"]);
const ASSISTANT = new Set(["assistant", "ai", "bot", "model", "chatgpt", "claude", "gemini", "npc", "tool"]);
const UNHEARD = new Set(["system", "developer"]);
// A name and a colon: short, and no address ("http:"), time ("10:30") or list mark.
const LINE = /^\s{0,3}(?:[-*>]\s+)?(?:\*\*)?([\p{L}][\p{L}\p{M}\d .'’_-]{0,39}?)(?:\*\*)?\s*:(?:\*\*)?(?!\/\/)\s*(.*)$/u;

/** What was said, in order. Text before the first name, and all of it without any, is one speaker's. */
export function parsePaste(pasted: string): Said[] {
  const text = pasted.trim();
  if (text === "") return [];
  const messages = text.startsWith("[") || text.startsWith("{") ? messagesOf(text) : null;
  const said = messages ?? linesOf(text);
  return said.filter((one) => one.text !== "" && !UNHEARD.has(one.speaker.toLowerCase()));
}

export function speakersOf(said: readonly Said[]): string[] {
  return [...new Set(said.map((one) => one.speaker))];
}

export function isAssistant(speaker: string): boolean {
  return ASSISTANT.has(speaker.toLowerCase());
}

/** Whose words are one's own: who has the member's name or is called "user", or speaks alone. */
export function likelySelf(speakers: readonly string[], member: string): string {
  const people = speakers.filter((one) => !isAssistant(one));
  const called = (one: string) => one.toLowerCase() === member.toLowerCase() || SELF.has(one.toLowerCase());
  return people.find(called) ?? (people.length === 1 ? (people[0] ?? "") : "");
}

interface How {
  self: string;
  conversation: string;
  scope: string;
  /** When the first of them was said; each next one a second later, so that they keep their order. */
  validAt: string | undefined;
  /** Names this paste: sent again after an error, nothing is remembered twice. */
  paste: string;
}

/** "I" in the words of somebody else is about them, so they are the subject of what they said. */
export function eventsOf(said: readonly Said[], how: How): NewMemory[] {
  return said.map(({ speaker, text }, at) => {
    const assistant = isAssistant(speaker);
    const other = !assistant && speaker !== how.self && speaker !== "";
    return {
      text,
      role: assistant ? "assistant" : "user",
      conversation: how.conversation,
      scope: how.scope,
      key: `${how.paste}:${at}`,
      ...(other ? { subject: speaker, provenance: { speaker } } : {}),
      ...(how.validAt ? { valid_at: new Date(Date.parse(how.validAt) + 1000 * at).toISOString() } : {}),
    };
  });
}

function messagesOf(text: string): Said[] | null {
  const parsed = parse(text) ?? text.split("\n").filter((line) => line.trim()).map(parse);
  const list = isRecord(parsed) ? (parsed["messages"] ?? [parsed]) : parsed;
  if (!Array.isArray(list) || list.length === 0 || !list.every(isRecord)) return null;
  const said = list.map((one) => ({
    speaker: String(one["name"] ?? one["speaker"] ?? one["role"] ?? ""),
    text: contentOf(one["content"] ?? one["text"]).trim(),
  }));
  return said.some((one) => one.text) ? said : null;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function contentOf(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content
    .map((part) => (isRecord(part) && typeof part["text"] === "string" ? part["text"] : ""))
    .filter(Boolean)
    .join("\n");
}

function linesOf(text: string): Said[] {
  const said: Said[] = [];
  for (const line of text.split(/\r?\n/)) {
    const named = LINE.exec(line);
    const last = said.at(-1);
    if (named?.[1]) said.push({ speaker: named[1].trim(), text: named[2]?.trim() ?? "" });
    else if (last) last.text = `${last.text}\n${line}`.trim();
    else if (line.trim()) said.push({ speaker: "", text: line.trim() });
  }
  return said;
}
