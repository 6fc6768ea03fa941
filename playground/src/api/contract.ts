/** The part of the HTTP contract the playground reads and writes. */

export type Role = "system" | "user" | "assistant";

export interface Message {
  role: Role;
  content: string;
}

export interface Example {
  title: string;
  messages: Message[];
}

export interface Model {
  id: string;
  tenfold?: {
    context_length?: number;
    examples?: Example[];
    /** Set on a virtual model: the decode object it stands for. */
    preset?: (Record<string, unknown> & { strategy?: string }) | null;
  };
}

export interface JsonSchema {
  type?: string | string[];
  title?: string;
  description?: string;
  default?: unknown;
  const?: unknown;
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  anyOf?: JsonSchema[];
  allOf?: JsonSchema[];
  $ref?: string;
  $defs?: Record<string, JsonSchema>;
}

export interface Strategy {
  id: string;
  summary?: string;
  params: JsonSchema;
  needs?: string[];
  cost?: string;
}

export interface Reward {
  id: string;
  summary?: string;
  partial_ok?: boolean;
}

export interface Stats {
  model: string;
  executor: string;
  dtype: string;
  kv: { blocks_total: number; blocks_used: number; blocks_cached: number; block_size: number };
  sequences: { running: number; waiting: number; paused: number };
  tokens: { prompt: number; generated: number; dropped: number; cached: number };
  tokens_per_second: number;
  prefix_cache_hit_rate: number;
  uptime_s: number;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

export interface DecodeReport {
  strategy?: string;
  params?: Record<string, unknown>;
  /** A number in the result event, an object in a whole response. */
  winner?: number | { candidate: number; score?: number | null } | null;
  candidates?: { started: number; finished: number; dropped: number };
  checkpoints?: { tokens: number; alive: number | number[]; cut: number | number[] }[];
  tokens?: { generated: number; discarded: number };
  reward?: { name: string; calls?: number; tokens?: number } | null;
  ms?: { total?: number } & Record<string, number>;
  stopped_by?: string;
}

export type Scores = Record<string, number | null>;

export type ProgressEvent =
  | { event: "tokens"; candidate: number; text: string; tokens: number }
  | { event: "checkpoint"; tokens: number; alive: number[]; cut: number[]; scores?: Scores }
  | ({ event: "result"; scores?: Scores } & DecodeReport);

export interface CompletionRequest {
  model?: string;
  messages: Message[];
  stream: true;
  stream_options: { include_usage: true; include_progress: true };
  temperature?: number;
  top_p?: number;
  top_k?: number;
  max_tokens?: number;
  seed?: number;
  decode?: Record<string, unknown>;
}

export interface Chunk {
  model?: string;
  choices?: {
    index: number;
    delta?: { role?: string; content?: string | null };
    message?: { content?: string | null };
    finish_reason?: string | null;
  }[];
  usage?: Usage | null;
  decode?: ProgressEvent | DecodeReport;
  error?: unknown;
}
