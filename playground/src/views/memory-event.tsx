/** One event as it was recorded, and small ways to name events and moments. */

import { useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import type { MemoryEvent } from "../api/memory";
import { hashOf, route, type Tab } from "../state/route";
import { useStore } from "../state/store";

const day = new Intl.DateTimeFormat("en", { year: "numeric", month: "short", day: "numeric" });
const clock = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
/** Longer texts are folded: as many characters as some six lines hold. */
const LONG = 420;

export const dayWords = (moment: string | number): string => day.format(new Date(moment));

export const momentWords = (moment: string | number): string =>
  `${day.format(new Date(moment))}, ${clock.format(new Date(moment))}`;

export const clockWords = (moment: string): string => clock.format(new Date(moment));

/** Who spoke: as given, else whom "I" means; an assistant's turns are written down by the member. */
export function speakerOf(event: MemoryEvent): string {
  const named = event.provenance["speaker"];
  if (named) return named;
  return event.role === "user" ? event.subject || event.author : event.role;
}

export function Moment({ at, brief }: { at: string; brief?: boolean }) {
  return (
    <time dateTime={at} title={momentWords(at)}>
      {brief ? clockWords(at) : momentWords(at)}
    </time>
  );
}

/** A link that opens an event's lineage; the last signs of an id differ where the first are the time. */
export function EventLink({ id, children }: { id: string; children?: ComponentChildren }) {
  const now = useStore(route);
  const tab: Tab = now.page === "memory" ? now.tab : "timeline";
  const open = now.page === "memory" && now.event === id;
  return (
    <a
      class="event-link"
      href={hashOf({ page: "memory", tab, event: id })}
      title={`Event ${id}`}
      aria-current={open ? "true" : undefined}
    >
      {children ?? <code>…{id.slice(-6)}</code>}
    </a>
  );
}

interface Props {
  event: MemoryEvent;
  open: boolean;
  brief?: boolean;
  aside?: ComponentChildren;
  children?: ComponentChildren;
}

export function EventCard({ event, open, brief, aside, children }: Props) {
  const speaker = speakerOf(event);
  return (
    <article class={open ? "event open" : "event"} data-event={event.id} data-kind={event.kind}>
      <header>
        <strong>{speaker}</strong>
        {event.conversation && <span class="muted in">in {event.conversation}</span>}
        <span class="muted">
          <Moment at={event.valid_at} {...(brief ? { brief } : {})} />
        </span>
        <Badges event={event} />
        {aside}
      </header>
      <EventText text={event.text} />
      <footer>
        <EventLink id={event.id}>Lineage</EventLink>
        {children}
      </footer>
    </article>
  );
}

function Badges({ event }: { event: MemoryEvent }) {
  const about = event.subject && event.subject !== event.author && event.subject !== speakerOf(event);
  return (
    <>
      {event.kind !== "observation" && <span class="badge">{event.kind}</span>}
      {event.scope !== "private" && <span class="badge">{event.scope}</span>}
      {about && <span class="badge">about {event.subject}</span>}
    </>
  );
}

/** Stored text, shown as it is: it becomes text nodes and nothing else. */
export function EventText({ text }: { text: string }) {
  const [whole, setWhole] = useState(false);
  const long = text.length > LONG;
  return (
    <p class="event-text">
      {long && !whole ? `${text.slice(0, LONG - 40).trimEnd()}…` : text}
      {long && (
        <button type="button" class="quiet more" aria-expanded={whole} onClick={() => setWhole(!whole)}>
          {whole ? "Less" : "All of it"}
        </button>
      )}
    </p>
  );
}
