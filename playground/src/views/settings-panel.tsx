import { useId, useState } from "preact/hooks";
import type { Model } from "../api/contract";
import { addressOf } from "../api/client";
import { chats } from "../state/chats";
import { addTurn, messagesFor, newConversation } from "../state/conversation";
import { choose, settings } from "../state/run";
import { shownValues } from "../state/schema-form";
import { apiKey, catalogue, setApiKey } from "../state/server";
import { chosenModel, chosenStrategy, requestOf, samplingFields } from "../state/settings";
import { useStore } from "../state/store";
import { CopyButton } from "./copy-button";
import { FieldInput } from "./field";
import { StrategyPicker } from "./strategy-picker";
import { count, spoken } from "./wording";

export function SettingsPanel() {
  const chosen = useStore(settings);
  const { models } = useStore(catalogue);
  const model = chosenModel(chosen, models);
  const values = shownValues(samplingFields, chosen.sampling);
  return (
    <>
      <section>
        <ModelPicker model={model} models={models} />
      </section>
      <section>
        <h2>Decoding</h2>
        <StrategyPicker model={model} />
      </section>
      <section>
        <h2>Sampling</h2>
        <div class="field-grid">
          {samplingFields.map((field) => (
            <FieldInput
              key={field.name}
              field={field}
              value={values[field.name] ?? ""}
              onChange={(value) => choose({ sampling: { ...chosen.sampling, [field.name]: value } })}
              brief
            />
          ))}
        </div>
      </section>
      <section>
        <h2>Access</h2>
        <KeyForm />
      </section>
      <section>
        <RequestPreview />
      </section>
    </>
  );
}

function ModelPicker({ model, models }: { model: Model | null; models: Model[] }) {
  const id = useId();
  const plain = models.filter((one) => !one.tenfold?.preset);
  const presets = models.filter((one) => one.tenfold?.preset);
  const option = (one: Model) => (
    <option key={one.id} value={one.id}>
      {one.id}
    </option>
  );
  const pick = (value: string) => {
    const next = models.find((one) => one.id === value);
    // A preset brings its own strategy: one chosen before would silently override it.
    choose(next?.tenfold?.preset ? { model: value, strategy: "" } : { model: value });
  };
  return (
    <div class="field">
      <label for={id}>
        Model{" "}
        {model?.tenfold?.context_length !== undefined && (
          <span class="muted">{count(model.tenfold.context_length)} tokens of context</span>
        )}
      </label>
      <select id={id} name="model" value={model?.id ?? ""} onChange={(event) => pick(event.currentTarget.value)}>
        {models.length === 0 && <option value="">No models yet</option>}
        {presets.length === 0 ? plain.map(option) : <optgroup label="Models">{plain.map(option)}</optgroup>}
        {presets.length > 0 && <optgroup label="Presets">{presets.map(option)}</optgroup>}
      </select>
    </div>
  );
}

/** Also shown in the dialog that opens when the server asks for a key. */
export function KeyForm({ focus }: { focus?: boolean }) {
  const id = useId();
  const kept = useStore(apiKey);
  const [typed, setTyped] = useState(kept);
  return (
    <form
      class="field"
      onSubmit={(event) => {
        event.preventDefault();
        setApiKey(typed);
      }}
    >
      <label for={id}>API key</label>
      <div class="with-button">
        <input
          id={id}
          name="api-key"
          type="password"
          autocomplete="off"
          spellcheck={false}
          autofocus={focus}
          placeholder="none"
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
        <button type="submit" disabled={typed.trim() === kept && !focus}>
          Use
        </button>
      </div>
      <p class="about">Kept in this tab only.</p>
    </form>
  );
}

/** The request the next message will make, for people who will write it themselves. */
function RequestPreview() {
  const chosen = useStore(settings);
  const { models, strategies } = useStore(catalogue);
  const { all, activeId } = useStore(chats);
  const [open, setOpen] = useState(false);
  const conversation = all.find((one) => one.id === activeId);
  const text = conversation?.draft.trim() || "Hello";
  const asked = addTurn(conversation ?? newConversation(), text);
  const messages = messagesFor(asked, asked.turns.at(-1)?.id ?? "");
  const request = requestOf(chosen, models, strategies, messages);
  const body = JSON.stringify(request, null, 2);
  const quoted = body.replaceAll("'", "'\\''");
  const key = apiKey.get() ? ` \\\n  -H 'Authorization: Bearer '"$TENFOLD_API_KEY"` : "";
  const curl = `curl -N '${addressOf("v1/chat/completions")}' \\\n  -H 'Content-Type: application/json'${key} \\\n  -d '${quoted}'`;
  return (
    <details class="request" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>As a request</summary>
      {open && (
        <div class="request-body">
          <CopyButton text={curl} label="Copy as a curl command" />
          <pre tabIndex={0}>{body}</pre>
        </div>
      )}
    </details>
  );
}

/** One line for places without room for the panel; the narrowest keep its last word only. */
export function SettingsInBrief({ model }: { model: Model | null }) {
  const strategy = chosenStrategy(useStore(settings), useStore(catalogue).strategies);
  return (
    <span class="brief">
      <span>{model?.id ?? "no model"}</span>
      {strategy && <span>{spoken(strategy.id)}</span>}
    </span>
  );
}
