/** What the user chose, and the request that follows from it. */

import type { CompletionRequest, Message, Model, Strategy } from "../api/contract";
import { isRecord } from "../api/problem";
import { complaint, type Field, fieldsOf, paramsOf, shownValues, type Values } from "./schema-form";

export interface Settings {
  model: string;
  sampling: Values;
  /** "" leaves the choice to the model: plain sampling, or what its preset says. */
  strategy: string;
  params: Record<string, Values>;
  reward: string;
}

export const defaultSettings: Settings = { model: "", sampling: {}, strategy: "", params: {}, reward: "" };

function numberField(name: string, label: string, description: string, limits: Partial<Field>): Field {
  return {
    name,
    label,
    description,
    kind: "number",
    choices: [],
    minimum: null,
    maximum: null,
    above: null,
    below: null,
    initial: "",
    required: false,
    ...limits,
  };
}

/** Empty sends nothing, so that the server's own default applies. */
export const samplingFields: Field[] = [
  numberField("temperature", "Temperature", "0 always takes the likeliest token.", { minimum: 0, maximum: 2 }),
  numberField("top_p", "Top-p", "Sample among the likeliest tokens that together hold this share.", {
    above: 0,
    maximum: 1,
  }),
  numberField("top_k", "Top-k", "Sample among this many tokens.", { kind: "integer", minimum: 0 }),
  numberField("max_tokens", "Max tokens", "The longest answer, in tokens.", { kind: "integer", minimum: 1 }),
  numberField("seed", "Seed", "The same seed gives the same answer.", { kind: "integer" }),
];

/** Settings as kept by an earlier visit, which may have been an earlier release. */
export function restoreSettings(kept: unknown): Settings {
  if (!isRecord(kept)) return defaultSettings;
  const text = (name: string) => (typeof kept[name] === "string" ? kept[name] : "");
  const params = isRecord(kept["params"]) ? Object.entries(kept["params"]) : [];
  return {
    model: text("model"),
    sampling: valuesOf(kept["sampling"]),
    strategy: text("strategy"),
    params: Object.fromEntries(params.map(([id, values]) => [id, valuesOf(values)])),
    reward: text("reward"),
  };
}

function valuesOf(kept: unknown): Values {
  const pairs = isRecord(kept) ? Object.entries(kept) : [];
  const plain = (value: unknown) => ["string", "number", "boolean"].includes(typeof value);
  return Object.fromEntries(pairs.filter(([, value]) => plain(value))) as Values;
}

/** The chosen model while the server still has it, else the first that is not a preset. */
export function chosenModel(settings: Settings, models: readonly Model[]): Model | null {
  return (
    models.find((model) => model.id === settings.model) ??
    models.find((model) => !model.tenfold?.preset) ??
    models[0] ??
    null
  );
}

export function chosenStrategy(settings: Settings, strategies: readonly Strategy[]): Strategy | null {
  return strategies.find((strategy) => strategy.id === settings.strategy) ?? null;
}

export function needsReward(strategy: Strategy): boolean {
  return (strategy.needs ?? []).includes("reward");
}

/** The strategy that will run, as far as the page can tell before the server reports it. */
export function strategyName(settings: Settings, model: Model | null, strategies: readonly Strategy[]): string {
  return chosenStrategy(settings, strategies)?.id ?? model?.tenfold?.preset?.strategy ?? "sample";
}

export function decodeOf(settings: Settings, strategies: readonly Strategy[]): Record<string, unknown> | null {
  const strategy = chosenStrategy(settings, strategies);
  if (!strategy) return null;
  const fields = fieldsOf(strategy.params);
  const params = paramsOf(fields, shownValues(fields, settings.params[strategy.id] ?? {}));
  const reward = needsReward(strategy) && settings.reward ? { reward: settings.reward } : {};
  return { strategy: strategy.id, ...params, ...reward };
}

export function requestOf(
  settings: Settings,
  models: readonly Model[],
  strategies: readonly Strategy[],
  messages: Message[],
): CompletionRequest {
  const decode = decodeOf(settings, strategies);
  const model = chosenModel(settings, models);
  return {
    ...(model ? { model: model.id } : {}),
    messages,
    ...paramsOf(samplingFields, shownValues(samplingFields, settings.sampling)),
    ...(decode ? { decode } : {}),
    stream: true,
    stream_options: { include_usage: true, include_progress: true },
  };
}

/** Fields whose value would be refused; sending waits until they are right. */
export function mistakes(settings: Settings, strategies: readonly Strategy[]): string[] {
  const strategy = chosenStrategy(settings, strategies);
  const check = (fields: Field[], typed: Values) => {
    const values = shownValues(fields, typed);
    return fields.flatMap((field) => {
      const said = complaint(field, values[field.name] ?? "");
      return said ? [`${field.label}: ${said.toLowerCase()}`] : [];
    });
  };
  return [
    ...check(samplingFields, settings.sampling),
    ...(strategy ? check(fieldsOf(strategy.params), settings.params[strategy.id] ?? {}) : []),
  ];
}
