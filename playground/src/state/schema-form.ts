/** From a strategy's JSON Schema to the fields of a form, and from what was typed to values. */

import type { JsonSchema } from "../api/contract";

export type Value = number | string | boolean;
export type Values = Record<string, Value | "">;

export interface Field {
  /** Dotted when the field lies inside an object, as the server's `param` names it. */
  name: string;
  label: string;
  kind: "integer" | "number" | "string" | "boolean" | "choice";
  choices: string[];
  minimum: number | null;
  maximum: number | null;
  /** Bounds the value may come near but not reach. */
  above: number | null;
  below: number | null;
  initial: Value | "";
  required: boolean;
  description: string;
}

/** Keys the playground fills by other means: the two pickers, and candidates come as events. */
const FILLED_ELSEWHERE = new Set(["strategy", "reward", "return_candidates"]);

/** Limits that every strategy takes beside its own parameters. */
const BUDGET: JsonSchema = {
  properties: {
    tokens: { type: "integer", minimum: 1, description: "Most tokens over all candidates." },
    ms: { type: "number", minimum: 1, description: "Most milliseconds; the best answer so far is kept." },
  },
};

export function fieldsOf(schema: JsonSchema): Field[] {
  const own = collect(schema, schema, "").filter((field) => !FILLED_ELSEWHERE.has(field.name));
  const budget = own.some((field) => field.name.startsWith("budget")) ? [] : collect(BUDGET, BUDGET, "budget.");
  return [...own, ...budget];
}

function collect(root: JsonSchema, schema: JsonSchema, prefix: string): Field[] {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).flatMap(([key, raw]) => {
    const own = resolve(root, raw);
    const name = prefix + key;
    if (own.const !== undefined) return [];
    // One level is enough for a form: deeper objects are reachable by HTTP.
    if (own.properties) return prefix === "" ? collect(root, own, `${name}.`) : [];
    const field = fieldOf(name, own, required.has(key));
    return field ? [field] : [];
  });
}

/** Follows `$ref`, and picks the part of a union that is not null. */
function resolve(root: JsonSchema, schema: JsonSchema, depth = 0): JsonSchema {
  if (depth > 8) return schema; // a schema that refers to itself has no form
  if (schema.$ref) {
    const target = root.$defs?.[schema.$ref.split("/").at(-1) ?? ""];
    return target ? resolve(root, { ...target, ...without(schema, "$ref") }, depth + 1) : schema;
  }
  const parts = schema.anyOf ?? schema.allOf;
  const part = parts?.map((one) => resolve(root, one, depth + 1)).find((one) => one.type !== "null");
  return part ? { ...part, ...without(schema, "anyOf", "allOf") } : schema;
}

function without(schema: JsonSchema, ...keys: (keyof JsonSchema)[]): JsonSchema {
  const copy = { ...schema };
  for (const key of keys) delete copy[key];
  return copy;
}

function kindOf(schema: JsonSchema): Field["kind"] | null {
  if (schema.enum) return "choice";
  const types = Array.isArray(schema.type) ? schema.type : [schema.type];
  const kinds = ["integer", "number", "boolean", "string"] as const;
  return kinds.find((kind) => types.includes(kind)) ?? null;
}

function fieldOf(name: string, schema: JsonSchema, required: boolean): Field | null {
  const kind = kindOf(schema);
  if (kind === null) return null; // arrays and free objects: reachable by HTTP, not by this form
  return {
    name,
    label: labelOf(name),
    kind,
    choices: (schema.enum ?? []).filter((one) => one !== null).map(String),
    minimum: schema.minimum ?? null,
    maximum: schema.maximum ?? null,
    above: schema.exclusiveMinimum ?? null,
    below: schema.exclusiveMaximum ?? null,
    initial: initialOf(kind, schema.default),
    required,
    description: schema.description ?? "",
  };
}

function labelOf(name: string): string {
  const words = name.replaceAll(/[._]/g, " ");
  return words.length === 1 ? words : words.charAt(0).toUpperCase() + words.slice(1);
}

function initialOf(kind: Field["kind"], given: unknown): Value | "" {
  if (typeof given === "number" || typeof given === "boolean") return given;
  if (typeof given === "string") return given;
  return kind === "boolean" ? false : "";
}

/** What the form shows: what was typed before, else the schema's defaults. */
export function shownValues(fields: readonly Field[], typed: Values): Values {
  return Object.fromEntries(fields.map((field) => [field.name, typed[field.name] ?? field.initial]));
}

/** Why a value would be refused, in words, or null. Empty means: leave it to the server. */
export function complaint(field: Field, value: Value | ""): string | null {
  if (value === "") return field.required ? "Needed" : null;
  if (field.kind === "integer" || field.kind === "number") {
    const number = Number(value);
    if (!Number.isFinite(number)) return "Not a number";
    if (field.kind === "integer" && !Number.isInteger(number)) return "A whole number";
    if (field.minimum !== null && number < field.minimum) return `At least ${field.minimum}`;
    if (field.maximum !== null && number > field.maximum) return `At most ${field.maximum}`;
    if (field.above !== null && number <= field.above) return `More than ${field.above}`;
    if (field.below !== null && number >= field.below) return `Less than ${field.below}`;
  }
  return null;
}

export function rangeOf(field: Field): string {
  const low = field.minimum ?? field.above;
  const high = field.maximum ?? field.below;
  if (low !== null && high !== null) return `${low}–${high}`;
  if (low !== null) return field.above !== null ? `> ${low}` : `≥ ${low}`;
  if (high !== null) return field.below !== null ? `< ${high}` : `≤ ${high}`;
  return "";
}

/** The object to send: typed, nested again where the schema nests, empty fields left out. */
export function paramsOf(fields: readonly Field[], values: Values): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const field of fields) {
    const value = values[field.name] ?? "";
    if (value === "") continue;
    const typed = field.kind === "integer" || field.kind === "number" ? Number(value) : value;
    const [head, tail] = field.name.split(".") as [string, string | undefined];
    if (tail === undefined) out[head] = typed;
    else out[head] = { ...(out[head] as object | undefined), [tail]: typed };
  }
  return out;
}
