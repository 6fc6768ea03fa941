import { expect, test } from "vitest";
import type { JsonSchema } from "../src/api/contract";
import { complaint, fieldsOf, paramsOf, rangeOf, shownValues } from "../src/state/schema-form";

const SCHEMA: JsonSchema = {
  type: "object",
  required: ["alpha"],
  properties: {
    strategy: { const: "speculative_rejection", type: "string" },
    n: { type: "integer", default: 8, minimum: 1, maximum: 64, description: "Candidates." },
    alpha: { type: "number", default: 0.5, exclusiveMinimum: 0, exclusiveMaximum: 1 },
    share: { type: "boolean", default: true },
    pick: { enum: ["score", "vote"], default: "score" },
    note: { anyOf: [{ type: "string" }, { type: "null" }], default: null },
    depth: { type: ["integer", "null"], default: null, minimum: 1 },
    reward: { type: "string", default: "logprob" },
    return_candidates: { type: "integer", default: 0 },
    stops: { type: "array" },
    budget: { anyOf: [{ $ref: "#/$defs/Budget" }, { type: "null" }], default: null },
  },
  $defs: {
    Budget: {
      type: "object",
      properties: {
        tokens: { type: "integer", minimum: 1 },
        ms: { anyOf: [{ type: "number", minimum: 0 }, { type: "null" }] },
      },
    },
  },
};

const fields = fieldsOf(SCHEMA);
const named = (name: string) => {
  const field = fields.find((one) => one.name === name);
  if (!field) throw new Error(`no field ${name}`);
  return field;
};

test("every plain parameter becomes a field of its kind", () => {
  expect(fields.map((field) => [field.name, field.kind])).toEqual([
    ["n", "integer"],
    ["alpha", "number"],
    ["share", "boolean"],
    ["pick", "choice"],
    ["note", "string"],
    ["depth", "integer"],
    ["budget.tokens", "integer"],
    ["budget.ms", "number"],
  ]);
  expect(named("budget.tokens").label).toBe("Budget tokens");
  expect(named("pick").choices).toEqual(["score", "vote"]);
});

test("defaults are shown, and what was typed wins over them", () => {
  expect(shownValues(fields, { n: 16, alpha: "" })).toEqual({
    n: 16,
    alpha: "",
    share: true,
    pick: "score",
    note: "",
    depth: "",
    "budget.tokens": "",
    "budget.ms": "",
  });
});

test("empty fields are left out, others typed and nested", () => {
  const values = shownValues(fields, { n: "16", note: "hello", "budget.ms": "250" });
  expect(paramsOf(fields, values)).toEqual({
    n: 16,
    alpha: 0.5,
    share: true,
    pick: "score",
    note: "hello",
    budget: { ms: 250 },
  });
});

test("complaints name the bound", () => {
  expect(complaint(named("n"), 65)).toBe("At most 64");
  expect(complaint(named("n"), 0)).toBe("At least 1");
  expect(complaint(named("n"), 2.5)).toBe("A whole number");
  expect(complaint(named("n"), "x")).toBe("Not a number");
  expect(complaint(named("alpha"), 1)).toBe("Less than 1");
  expect(complaint(named("alpha"), 0)).toBe("More than 0");
  expect(complaint(named("alpha"), "")).toBe("Needed");
  expect(complaint(named("n"), "")).toBeNull();
  expect(complaint(named("share"), false)).toBeNull();
});

test("ranges are put in words", () => {
  expect(rangeOf(named("n"))).toBe("1–64");
  expect(rangeOf(named("alpha"))).toBe("0–1");
  expect(rangeOf(named("depth"))).toBe("≥ 1");
});

test("a schema without properties, or one that refers to itself, has only the shared budget", () => {
  expect(fieldsOf({}).map((field) => field.name)).toEqual(["budget.tokens", "budget.ms"]);
  const loop: JsonSchema = {
    properties: { child: { $ref: "#/$defs/Node" } },
    $defs: { Node: { $ref: "#/$defs/Node" } },
  };
  expect(fieldsOf(loop).map((field) => field.name)).toEqual(["budget.tokens", "budget.ms"]);
});
