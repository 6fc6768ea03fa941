/** One labelled form field, drawn from what its schema says about it. */

import { useId } from "preact/hooks";
import { complaint, type Field, rangeOf, type Value } from "../state/schema-form";

/** A slider with more steps than pixels to drag over is only a nuisance. */
const MOST_STEPS = 200;

interface Props {
  field: Field;
  value: Value | "";
  onChange: (value: Value | "") => void;
  /** A slider helps where the schema gives both ends; sampling fields start out empty and have none. */
  slider?: boolean;
  brief?: boolean;
  /** What an empty field means. */
  empty?: string;
}

export function FieldInput({ field, value, onChange, slider, brief, empty = "default" }: Props) {
  const id = useId();
  const wrong = complaint(field, value);
  const range = rangeOf(field);
  const describedBy = [wrong ? `${id}-wrong` : "", field.description ? `${id}-about` : ""].join(" ").trim();
  const shared = {
    id,
    name: field.name,
    "aria-invalid": wrong !== null,
    "aria-describedby": describedBy || undefined,
  };
  if (field.kind === "boolean") {
    return (
      <div class="field check">
        <input
          {...shared}
          type="checkbox"
          checked={value === true}
          onChange={(event) => onChange(event.currentTarget.checked)}
        />
        <label for={id}>{field.label}</label>
        <About id={id} field={field} brief={brief} />
      </div>
    );
  }
  return (
    <div class="field">
      <label for={id} title={brief ? field.description : undefined}>
        {field.label} {range && <span class="muted">{range}</span>}
      </label>
      {field.kind === "choice" ? (
        <select {...shared} value={String(value)} onChange={(event) => onChange(event.currentTarget.value)}>
          {!field.required && field.initial === "" && <option value="">{empty}</option>}
          {field.choices.map((choice) => (
            <option key={choice} value={choice}>
              {choice}
            </option>
          ))}
        </select>
      ) : field.kind === "string" ? (
        <input
          {...shared}
          type="text"
          value={String(value)}
          placeholder={empty}
          autocomplete="off"
          onInput={(event) => onChange(event.currentTarget.value)}
        />
      ) : (
        <NumberInput {...{ shared, field, value, onChange, empty }} slider={slider === true} />
      )}
      {wrong && (
        <p class="wrong" id={`${id}-wrong`}>
          {wrong}
        </p>
      )}
      <About id={id} field={field} brief={brief} />
    </div>
  );
}

function About({ id, field, brief }: { id: string; field: Field; brief: boolean | undefined }) {
  if (!field.description) return null;
  return (
    <p class={brief ? "offscreen" : "about"} id={`${id}-about`}>
      {field.description}
    </p>
  );
}

interface NumberProps extends Pick<Props, "field" | "value" | "onChange"> {
  shared: Record<string, unknown>;
  slider: boolean;
  empty: string;
}

function NumberInput({ shared, field, value, onChange, slider, empty }: NumberProps) {
  const low = field.minimum ?? field.above;
  const high = field.maximum ?? field.below;
  const box = (
    <input
      {...shared}
      type="number"
      inputMode={field.kind === "integer" ? "numeric" : "decimal"}
      step={field.kind === "integer" ? 1 : "any"}
      min={low ?? undefined}
      max={high ?? undefined}
      value={String(value)}
      placeholder={empty}
      onInput={(event) => onChange(event.currentTarget.value)}
    />
  );
  if (!slider || low === null || high === null || high - low > MOST_STEPS) return box;
  const step = field.kind === "integer" ? 1 : (high - low) / 20;
  return (
    <div class="with-slider">
      <input
        type="range"
        aria-label={`${field.label}, slider`}
        min={field.above === null ? low : low + step}
        max={field.below === null ? high : high - step}
        step={step}
        value={value === "" ? low : String(value)}
        onInput={(event) => onChange(String(Number(Number(event.currentTarget.value).toFixed(6))))}
      />
      {box}
    </div>
  );
}
