/** Erasing: what would go, a question that says it is for good, and the receipt. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { Preview, Receipt, Selected } from "../api/memory";
import type { Problem } from "../api/problem";
import { timeline, travel } from "../state/memory";
import { eraseAll, isProblem, previewOf } from "../state/memory-changes";
import { emptyFilter, type Filter, filterMistake, restricts, selectedOf } from "../state/memory-filter";
import { go } from "../state/route";
import { Store, useStore } from "../state/store";
import { announce } from "./announcer";
import { momentWords } from "./memory-event";
import { Filters } from "./memory-filters";
import { ProblemCard } from "./problem-card";
import { count, plural } from "./wording";

const filterOf = new Store(emptyFilter);
/** Receipts of this visit, newest first: they outlive the events they are about. */
const receipts = new Store<Receipt[]>([]);

export function MemoryErase() {
  const filter = useStore(filterOf);
  const ready = restricts(filter) > 0 && filterMistake(filter) === null;
  const selected = selectedOf(filter);
  return (
    <>
      <div class="welcome">
        <h2>Erase</h2>
        <p class="muted">
          Events go with all that came from them: vectors, index, facts, summaries, recalls. You can erase what you
          wrote and what is about you. Say which events are meant; nothing happens before you confirm.
        </p>
      </div>
      <Filters filter={filter} onChange={(next) => filterOf.set(next)} open />
      {ready ? (
        <>
          <EraseFlow key={JSON.stringify(selected)} selected={selected} what="what is selected" />
          <button type="button" class="quiet show-first" onClick={() => showFirst(filter)}>
            Show these events first
          </button>
        </>
      ) : (
        <p class="muted hint">At least one field has to say what is meant.</p>
      )}
      <Receipts />
    </>
  );
}

/** What is meant, in the timeline: it can be read before it goes. */
function showFirst(filter: Filter): void {
  travel.update((now) => ({ ...now, at: "", filter }));
  timeline.reset();
  go({ page: "memory", tab: "timeline", event: null });
}

type Step = { at: "start" } | { at: "asking" } | { at: "preview"; preview: Preview } | { at: "erasing" };

/** Preview, question, erasure. `what` completes "Erase …". */
export function EraseFlow({ selected, what }: { selected: Selected; what: string }) {
  const [step, setStep] = useState<Step>({ at: "start" });
  const [problem, setProblem] = useState<Problem | null>(null);
  const look = async () => {
    setProblem(null);
    setStep({ at: "asking" });
    const answer = await previewOf(selected);
    if (isProblem(answer)) {
      setProblem(answer);
      setStep({ at: "start" });
    } else setStep({ at: "preview", preview: answer });
  };
  const erase = async () => {
    setStep({ at: "erasing" });
    const answer = await eraseAll(selected);
    setStep({ at: "start" });
    if (isProblem(answer)) return setProblem(answer);
    receipts.update((before) => [answer, ...before]);
    announce(`${plural(answer.events, "event")} erased`);
  };
  return (
    <div class="erase-flow">
      <button type="button" class="danger" disabled={step.at === "asking" || step.at === "erasing"} onClick={() => void look()}>
        {step.at === "erasing" ? "Erasing…" : `Erase ${what}…`}
      </button>
      {problem && <ProblemCard problem={problem} />}
      {step.at === "preview" && (
        <Confirm preview={step.preview} onErase={() => void erase()} onCancel={() => setStep({ at: "start" })} />
      )}
    </div>
  );
}

interface ConfirmProps {
  preview: Preview;
  onErase: () => void;
  onCancel: () => void;
}

function Confirm({ preview, onErase, onCancel }: ConfirmProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const cancel = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (!dialog.current?.open) dialog.current?.showModal();
    cancel.current?.focus();
  }, []);
  const { events, recalls, feedback, others } = preview;
  const along = [
    ...(recalls > 0 ? [`${plural(recalls, "recall")} that ${recalls === 1 ? "repeats" : "repeat"} ${events === 1 ? "it" : "them"}`] : []),
    ...(feedback > 0 ? [`feedback on ${events === 1 ? "it" : "them"} (${count(feedback)})`] : []),
  ];
  return (
    <dialog ref={dialog} class="key-dialog confirm" aria-labelledby="erase-title" aria-describedby="erase-about" onClose={onCancel}>
      <h2 id="erase-title">{events === 0 ? "Nothing to erase" : `Erase ${plural(events, "event")} for good?`}</h2>
      <div id="erase-about">
        {events === 0 ? (
          <p>No event that you may erase is selected.</p>
        ) : (
          <p>
            {along.length > 0 && <>With {events === 1 ? "it" : "them"} {recalls + feedback === 1 ? "goes" : "go"} {along.join(" and ")}. </>}
            All that was derived goes too. <strong>This cannot be undone.</strong>
          </p>
        )}
        {others > 0 && <p class="muted">{plural(others, "more event")} you can read but not erase: {others === 1 ? "it stays" : "they stay"}.</p>}
      </div>
      <div class="confirm-actions">
        <button ref={cancel} type="button" onClick={() => dialog.current?.close()}>
          Cancel
        </button>
        {events > 0 && (
          <button type="button" class="danger solid" onClick={onErase}>
            Erase for good
          </button>
        )}
      </div>
    </dialog>
  );
}

export function Receipts() {
  const all = useStore(receipts);
  if (all.length === 0) return null;
  return (
    <section class="receipts" aria-label="Receipts">
      <h2>Receipts</h2>
      <p class="muted">They hold counts and nothing of what was erased. Note the id if you need proof.</p>
      {all.map((receipt) => (
        <dl key={receipt.id} class="receipt">
          <Line name="Receipt" value={receipt.id} />
          <Line name="Erased" value={momentWords(receipt.erased_at)} />
          <Line name="Events" value={`${count(receipt.events)}, with recalls and feedback on them`} />
          <Line name="Derived" value={`${plural(receipt.derived, "row")} of indices, vectors, facts and summaries`} />
          <Line name="Derived again" value={`${plural(receipt.rederived, "event")} whose surroundings changed`} />
          <Line name="Selected by" value={Object.keys(receipt.selection).join(", ")} />
        </dl>
      ))}
    </section>
  );
}

function Line({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
