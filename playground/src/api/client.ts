/** Requests to the server the page came from. */

import type { Chunk, CompletionRequest, Model, ProgressEvent, Reward, Stats, Strategy, Usage } from "./contract";
import { ApiError, isRecord, problemFrom } from "./problem";
import { readEvents } from "./sse";

export type StreamItem =
  | { kind: "model"; model: string }
  | { kind: "text"; text: string }
  | { kind: "progress"; event: ProgressEvent }
  | { kind: "finish"; reason: string }
  | { kind: "usage"; usage: Usage };

/** Relative to the page, so that a path prefix added by a proxy is kept. */
export function addressOf(path: string): string {
  return new URL(path, document.baseURI).href;
}

function headers(key: string): Record<string, string> {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function refuse(response: Response): Promise<never> {
  const text = await response.text().catch(() => "");
  let body: unknown = text;
  try {
    body = JSON.parse(text);
  } catch {
    // A proxy's HTML page helps nobody; its status does.
    if (/^\s*</.test(text)) body = null;
  }
  throw new ApiError(problemFrom(body, response.status));
}

export async function getJson<T>(path: string, key: string, signal?: AbortSignal): Promise<T> {
  const response = await fetch(addressOf(path), { headers: headers(key), cache: "no-store", signal: signal ?? null });
  if (!response.ok) await refuse(response);
  return (await response.json()) as T;
}

export async function postJson<T>(path: string, key: string, body: unknown, signal?: AbortSignal): Promise<T> {
  const response = await fetch(addressOf(path), {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers(key) },
    body: JSON.stringify(body),
    signal: signal ?? null,
  });
  if (!response.ok) await refuse(response);
  return (await response.json()) as T;
}

export async function fetchModels(key: string): Promise<Model[]> {
  return (await getJson<{ data?: Model[] }>("v1/models", key)).data ?? [];
}

export async function fetchStrategies(key: string): Promise<{ strategies: Strategy[]; rewards: Reward[] }> {
  const body = await getJson<{ data?: Strategy[]; rewards?: Reward[] }>("v1/strategies", key);
  return { strategies: body.data ?? [], rewards: body.rewards ?? [] };
}

export function fetchStats(key: string, signal?: AbortSignal): Promise<Stats> {
  return getJson<Stats>("v1/stats", key, signal);
}

/** Streams one chat completion. Throws ApiError, also for an error sent inside the stream. */
export async function* streamCompletion(
  request: CompletionRequest,
  key: string,
  signal: AbortSignal,
): AsyncGenerator<StreamItem> {
  const response = await fetch(addressOf("v1/chat/completions"), {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers(key) },
    body: JSON.stringify(request),
    signal,
  });
  if (!response.ok) await refuse(response);
  if (!response.body) throw new Error("The server answered without a body.");
  if (response.headers.get("content-type")?.includes("application/json")) {
    yield* itemsOf((await response.json()) as Chunk);
    return;
  }
  const samples = request.decode?.["strategy"] === "sample" && Number(request.decode["n"]) > 1;
  let finished = false;
  for await (const { data } of readEvents(response.body)) {
    if (data === "[DONE]") return;
    const chunk = parseChunk(data);
    if (samples) yield* siblingsOf(chunk);
    for (const item of itemsOf(chunk)) {
      if (item.kind === "finish") finished = true;
      yield item;
    }
  }
  // Some proxies swallow the last line, so a finish reason is as good as [DONE].
  if (!finished) throw new Error("The stream ended before the answer did. What arrived is kept above.");
}

function parseChunk(data: string): Chunk {
  let chunk: unknown;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new Error(`The server sent a line that is not JSON: ${data.slice(0, 200)}`);
  }
  if (!isRecord(chunk)) throw new Error(`The server sent a chunk that is not an object: ${data.slice(0, 200)}`);
  if (chunk["error"]) throw new ApiError(problemFrom(chunk, null));
  return chunk as Chunk;
}

/** Several plain samples arrive as choices; shown side by side they are candidates like others. */
function* siblingsOf(chunk: Chunk): Generator<StreamItem> {
  for (const { index, delta } of chunk.choices ?? []) {
    // The wire does not count a chunk's tokens; the engine sends one at a time.
    const text = delta?.content;
    if (text) yield { kind: "progress", event: { event: "tokens", candidate: index, text, tokens: 1 } };
  }
}

function* itemsOf(chunk: Chunk): Generator<StreamItem> {
  if (chunk.model) yield { kind: "model", model: chunk.model };
  if (chunk.decode) {
    // A whole response carries the bare report; it reads the same as a result event.
    const event = "event" in chunk.decode ? chunk.decode : { event: "result" as const, ...chunk.decode };
    yield { kind: "progress", event };
  }
  const choice = chunk.choices?.find((one) => one.index === 0);
  const text = choice?.delta?.content ?? choice?.message?.content;
  if (text) yield { kind: "text", text };
  if (choice?.finish_reason) yield { kind: "finish", reason: choice.finish_reason };
  if (chunk.usage) yield { kind: "usage", usage: chunk.usage };
}
