/** How the answer is found: a strategy, its parameters and the reward that judges candidates. */

import { useId } from "preact/hooks";
import type { Model } from "../api/contract";
import { choose, settings } from "../state/run";
import { type Field, fieldsOf, shownValues, type Value } from "../state/schema-form";
import { catalogue } from "../state/server";
import { chosenStrategy, needsReward } from "../state/settings";
import { useStore } from "../state/store";
import { FieldInput } from "./field";
import { spoken } from "./wording";

const isLimit = (field: Field) => field.name.startsWith("budget.");

export function StrategyPicker({ model }: { model: Model | null }) {
  const id = useId();
  const { strategies, rewards, state } = useStore(catalogue);
  const chosen = useStore(settings);
  const strategy = chosenStrategy(chosen, strategies);
  const preset = model?.tenfold?.preset;
  if (state === "ready" && strategies.length === 0) {
    return <p class="muted">This server offers no strategies; answers are sampled once.</p>;
  }
  const fields = strategy ? fieldsOf(strategy.params) : [];
  const typed = strategy ? (chosen.params[strategy.id] ?? {}) : {};
  const values = shownValues(fields, typed);
  const set = (name: string, value: Value | "") => {
    if (strategy) choose({ params: { ...chosen.params, [strategy.id]: { ...typed, [name]: value } } });
  };
  const input = (field: Field) => (
    <FieldInput
      key={`${strategy?.id}.${field.name}`}
      field={field}
      value={values[field.name] ?? ""}
      onChange={(value) => set(field.name, value)}
      empty={isLimit(field) ? "none" : "default"}
      brief={isLimit(field)}
      slider
    />
  );
  return (
    <>
      <div class="field">
        <label for={`${id}-strategy`}>Strategy</label>
        <select
          id={`${id}-strategy`}
          name="strategy"
          value={strategy?.id ?? ""}
          onChange={(event) => choose({ strategy: event.currentTarget.value })}
        >
          <option value="">{preset ? `From the preset: ${spoken(preset.strategy ?? "its own")}` : "The model's default"}</option>
          {strategies.map((one) => (
            <option key={one.id} value={one.id}>
              {spoken(one.id)}
            </option>
          ))}
        </select>
        {strategy?.summary && <p class="about">{strategy.summary}</p>}
        {strategy?.cost && <p class="about">Cost: {strategy.cost}</p>}
        {!strategy && preset && <PresetWords preset={preset} />}
      </div>
      {strategy && needsReward(strategy) && (
        <div class="field">
          <label for={`${id}-reward`}>Reward</label>
          <select
            id={`${id}-reward`}
            name="reward"
            value={rewards.some((one) => one.id === chosen.reward) ? chosen.reward : ""}
            onChange={(event) => choose({ reward: event.currentTarget.value })}
          >
            <option value="">The strategy's default</option>
            {rewards.map((one) => (
              <option key={one.id} value={one.id}>
                {one.id}
              </option>
            ))}
          </select>
          <p class="about">{rewards.find((one) => one.id === chosen.reward)?.summary ?? ""}</p>
        </div>
      )}
      {fields.filter((field) => !isLimit(field)).map(input)}
      {fields.some(isLimit) && <div class="field-grid">{fields.filter(isLimit).map(input)}</div>}
      {strategy && Object.keys(typed).length > 0 && (
        <button
          type="button"
          class="quiet"
          onClick={() => choose({ params: { ...chosen.params, [strategy.id]: {} } })}
        >
          Back to the defaults
        </button>
      )}
    </>
  );
}

function PresetWords({ preset }: { preset: Record<string, unknown> }) {
  const pairs = Object.entries(preset).filter(([name, value]) => name !== "strategy" && typeof value !== "object");
  return <p class="about">{pairs.map(([name, value]) => `${name} ${String(value)}`).join(" · ")}</p>;
}
