/** The fields that restrict what is meant: of a search, a timeline, an erasure. */

import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import type { Kind } from "../api/memory";
import { emptyFilter, type Filter, filterMistake, restricts } from "../state/memory-filter";
import { plural } from "./wording";

const KINDS: Kind[] = ["observation", "tool", "feedback", "recall"];

interface Props {
  filter: Filter;
  onChange: (filter: Filter) => void;
  /** Always open, where restricting is the point. */
  open?: boolean;
  /** How many further fields, given as children, are filled in. */
  more?: number;
  children?: ComponentChildren;
}

export function Filters({ filter, onChange, open, more = 0, children }: Props) {
  const [shown, setShown] = useState(false);
  const set = (part: Partial<Filter>) => onChange({ ...filter, ...part });
  const wrong = filterMistake(filter);
  const count = restricts(filter) + more;
  const fields = (
    <div class="filters">
      <Text label="Conversation" value={filter.conversation} onChange={(conversation) => set({ conversation })} />
      <Text label="About (subject)" value={filter.subject} onChange={(subject) => set({ subject })} />
      <Text label="Written by (author)" value={filter.author} onChange={(author) => set({ author })} />
      <KindField value={filter.kind} onChange={(kind) => set({ kind })} />
      <Text label="Scope" value={filter.scope} hint="private, shared, team:NAME" onChange={(scope) => set({ scope })} />
      <Time label="Since" value={filter.since} onChange={(since) => set({ since })} />
      <Time label="Until (before)" value={filter.until} onChange={(until) => set({ until })} />
      {children}
      {wrong && (
        <p class="wrong" role="alert">
          {wrong}
        </p>
      )}
      {restricts(filter) > 0 && (
        <button type="button" class="quiet clear" onClick={() => onChange(emptyFilter)}>
          Clear all
        </button>
      )}
    </div>
  );
  if (open) return fields;
  return (
    <details class="folded" open={shown} onToggle={(event) => setShown(event.currentTarget.open)}>
      <summary>
        Filters {count > 0 && <span class="muted">{plural(count, "restriction")}</span>}
      </summary>
      {fields}
    </details>
  );
}

interface FieldProps {
  label: string;
  value: string;
  hint?: string;
  onChange: (value: string) => void;
}

export function Text({ label, value, hint, onChange }: FieldProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input
        id={id}
        type="text"
        autocomplete="off"
        value={value}
        placeholder={hint ?? "any"}
        onInput={(event) => onChange(event.currentTarget.value)}
      />
    </div>
  );
}

export function Time({ label, value, onChange }: FieldProps) {
  const id = useId();
  return (
    <div class="field when">
      <label for={id}>{label}</label>
      <input
        id={id}
        type="datetime-local"
        value={value}
        onChange={(event) => onChange(event.currentTarget.value)}
      />
    </div>
  );
}

function KindField({ value, onChange }: { value: Filter["kind"]; onChange: (kind: Filter["kind"]) => void }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>Kind</label>
      <select id={id} value={value} onChange={(event) => onChange(event.currentTarget.value as Filter["kind"])}>
        <option value="">any</option>
        {KINDS.map((kind) => (
          <option key={kind} value={kind}>
            {kind}
          </option>
        ))}
      </select>
    </div>
  );
}
