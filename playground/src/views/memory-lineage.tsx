/** Lineage: what an event came from, and all that came of it; and the way to erase both. */

import { useEffect } from "preact/hooks";
import type { Lineage, MemoryEvent, Thing } from "../api/memory";
import { lineage, loadLineage } from "../state/memory";
import { standing } from "../state/memory-timeline";
import { useStore } from "../state/store";
import { CopyButton } from "./copy-button";
import { EraseFlow, Receipts } from "./memory-erase";
import { EventLink, EventText, Moment, momentWords, speakerOf } from "./memory-event";
import { FactItem } from "./memory-timeline";
import { ProblemCard } from "./problem-card";
import { plural, spoken } from "./wording";

const STATES: Record<Lineage["state"], string> = {
  derived: "Derived from",
  waiting: "Waits to be derived from",
  failed: "Deriving from it failed",
  never: "Never derived from",
};

export function LineagePanel({ event }: { event: string | null }) {
  const { state, data, problem } = useStore(lineage);
  useEffect(() => {
    if (event) loadLineage(event);
    else lineage.reset();
  }, [event]);
  if (!event) {
    return (
      <section class="lineage">
        <h2>Lineage</h2>
        <p class="muted">Choose an event to see where it came from, and what became of it.</p>
      </section>
    );
  }
  const shown = data?.event.id === event ? data : null;
  return (
    <section class="lineage" aria-label="Lineage" aria-busy={state === "loading"}>
      <h2>Lineage</h2>
      {problem && (
        <ProblemCard problem={problem}>
          <button type="button" onClick={() => loadLineage(event)}>
            Try again
          </button>
        </ProblemCard>
      )}
      {!shown && state === "loading" && <p class="waiting">Tracing</p>}
      {!shown && state === "idle" && (
        <>
          <p class="muted">This event was erased, or belongs to another key.</p>
          <Receipts />
        </>
      )}
      {shown && <Traced found={shown} />}
    </section>
  );
}

function Traced({ found }: { found: Lineage }) {
  const { event } = found;
  const now = Date.now();
  const others = found.things.filter((one) => one.kind !== "entity");
  return (
    <>
      <div class="traced">
        <p class="muted">
          {speakerOf(event)} · <Moment at={event.valid_at} />
        </p>
        <EventText text={event.text} />
      </div>
      <dl class="origin">
        <Row name="Id">
          <code>{event.id}</code> <CopyButton text={event.id} label="Copy the id" />
        </Row>
        <Row name="Recorded">
          <Moment at={event.recorded_at} /> by {event.author}
        </Row>
        {Object.entries(event.provenance).map(([name, value]) => (
          <Row key={name} name={spoken(name)}>
            {value}
          </Row>
        ))}
        <Row name="State">
          {STATES[found.state]}
          {found.reason && <span class="wrong"> {found.reason}</span>}
        </Row>
      </dl>
      <Events title="Repeats or answers" events={found.sources} />
      <Group title="Indices" count={found.vectors.length + (found.words ? 1 : 0)}>
        <ul>
          {found.words && <li>Text index</li>}
          {found.vectors.map((vector) => (
            <li key={vector.kind}>
              {vector.kind === "window" ? "Window vector" : "Turn vector"} <span class="muted">{vector.deriver}</span>
              <Sources ids={vector.events} self={event.id} />
            </li>
          ))}
        </ul>
      </Group>
      <Group title="Facts" count={found.facts.length}>
        <ul>
          {found.facts.map((fact, at) => (
            <FactItem key={at} fact={fact} standing={standing(fact, now)} />
          ))}
        </ul>
      </Group>
      <Entities things={found.things.filter((one) => one.kind === "entity")} />
      <Group title="Also made of it" count={others.length}>
        <ul>
          {others.map((thing, at) => (
            <ThingItem key={at} thing={thing} self={event.id} />
          ))}
        </ul>
      </Group>
      <Events title="Recalled in" events={found.recalls} />
      <Events title="Feedback on it" events={found.feedback} />
      {!found.complete && (
        <p class="muted">The memory is large: only its newest part was looked through for recalls, summaries and clusters.</p>
      )}
      <EraseFlow selected={{ ids: [event.id] }} what="this event" />
    </>
  );
}

function Row({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Group({ title, count, children }: { title: string; count: number; children: preact.ComponentChildren }) {
  if (count === 0) return null;
  return (
    <section class="came-of">
      <h3>
        {title} <span class="muted">{count}</span>
      </h3>
      {children}
    </section>
  );
}

function Events({ title, events }: { title: string; events: MemoryEvent[] }) {
  return (
    <Group title={title} count={events.length}>
      <ul>
        {events.map((event) => (
          <li key={event.id}>
            <EventLink id={event.id}>{brief(event.text)}</EventLink>{" "}
            <span class="muted">{momentWords(event.valid_at)}</span>
          </li>
        ))}
      </ul>
    </Group>
  );
}

const brief = (text: string) => (text.length > 90 ? `${text.slice(0, 88).trimEnd()}…` : text);

/** The other events that something came from as well. */
function Sources({ ids, self }: { ids: string[]; self: string }) {
  const others = ids.filter((id) => id !== self);
  if (others.length === 0) return null;
  return (
    <span class="muted sources">
      {" · "}
      also from{" "}
      {others.slice(0, 6).map((id) => (
        <span key={id}>
          <EventLink id={id} />{" "}
        </span>
      ))}
      {others.length > 6 && `and ${others.length - 6} more`}
    </span>
  );
}

function Entities({ things }: { things: Thing[] }) {
  return (
    <Group title="Names, dates, amounts" count={things.length}>
      <p class="chips">
        {things.map((thing, at) => (
          <span key={at} class="badge" title={`${String(thing.value["type"])}: ${String(thing.value["value"])}`}>
            {String(thing.value["surface"])}
          </span>
        ))}
      </p>
    </Group>
  );
}

function ThingItem({ thing, self }: { thing: Thing; self: string }) {
  const { value } = thing;
  const size = typeof value["size"] === "number" ? value["size"] : thing.events.length;
  return (
    <li>
      {thing.kind === "duplicate" && <>Said {plural(size, "time")} in almost the same words</>}
      {thing.kind === "summary" && (
        <>
          Summary of {String(value["conversation"] || "its conversation")}
          <q class="quoted">{String(value["text"])}</q>
        </>
      )}
      {thing.kind === "weights" && <>What search learnt from feedback</>}
      {!["duplicate", "summary", "weights"].includes(thing.kind) && <>{spoken(thing.kind)}</>}{" "}
      <span class="muted" title={thing.kept ? "Stored, and erased with its events" : "Not stored: worked out when asked for"}>
        {thing.deriver}
        {!thing.kept && ", not stored"}
      </span>
      <Sources ids={thing.events} self={self} />
    </li>
  );
}
