/** Timeline: what was said when, what was believed beside it, and going back in time. */

import { useEffect, useRef } from "preact/hooks";
import type { Fact } from "../api/memory";
import { beliefs, endOf, loadMore, loadTimeline, timeline, travel, type Travel } from "../state/memory";
import { filterMistake, localOf, momentOf } from "../state/memory-filter";
import { daysOf, factsAt, momentAt, type Standing, stepAt, STEPS } from "../state/memory-timeline";
import { useStore } from "../state/store";
import { dayWords, EventCard, EventLink, momentWords } from "./memory-event";
import { Filters, Time } from "./memory-filters";
import { ProblemCard } from "./problem-card";
import { plural } from "./wording";

const PAUSE_MS = 250;

export function MemoryTimeline({ event }: { event: string | null }) {
  const { state, data, problem } = useStore(timeline);
  const where = useStore(travel);
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  useEffect(() => {
    if (timeline.get().state === "idle") void loadTimeline();
  }, [state === "idle"]);
  const move = (part: Partial<Travel>) => {
    travel.update((now) => ({ ...now, ...part }));
    if (timer.current) clearTimeout(timer.current);
    if (filterMistake(travel.get().filter) === null) timer.current = setTimeout(() => void loadTimeline(), PAUSE_MS);
  };
  return (
    <>
      <TimeTravel where={where} onMove={move} />
      <Filters filter={where.filter} onChange={(filter) => move({ filter })} />
      {problem && (
        <ProblemCard problem={problem}>
          <button type="button" onClick={() => void loadTimeline()}>
            Try again
          </button>
        </ProblemCard>
      )}
      {!data && state === "loading" && <p class="waiting">Looking back</p>}
      {data && (
        <div class="timeline" aria-busy={state === "loading"}>
          <div class="days">
            {data.data.length === 0 && (
              <p class="muted hint">{where.at ? "Nothing was remembered by then." : "Nothing is remembered yet."}</p>
            )}
            {daysOf(data.data).map((day) => (
              <section key={day.start} aria-label={dayWords(day.start)}>
                <h2>{dayWords(day.start)}</h2>
                {day.events.map((one) => (
                  <EventCard key={one.id} event={one} open={one.id === event} brief />
                ))}
              </section>
            ))}
            {data.next && (
              <button type="button" disabled={state === "loading"} onClick={() => void loadMore()}>
                Earlier events
              </button>
            )}
          </div>
          <Beliefs at={where.at} />
        </div>
      )}
    </>
  );
}

function TimeTravel({ where, onMove }: { where: Travel; onMove: (part: Partial<Travel>) => void }) {
  const now = Date.now();
  const first = where.first ?? now;
  const chosen = momentOf(where.at);
  const step = stepAt(chosen ? Date.parse(chosen) : null, first, now);
  const slide = (to: number) => {
    const moment = momentAt(to, first, now);
    onMove({ at: moment === null ? "" : localOf(moment) });
  };
  return (
    <fieldset class="travel">
      <legend>Go back in time</legend>
      <input
        type="range"
        min={0}
        max={STEPS}
        value={step}
        disabled={where.first === null}
        aria-label="Moment, from the first event to now"
        aria-valuetext={chosen ? momentWords(chosen) : "now"}
        onInput={(event) => slide(Number(event.currentTarget.value))}
      />
      <p class="travel-ends muted">
        <span>{where.first === null ? "–" : dayWords(first)}</span>
        <output>{chosen ? momentWords(chosen) : "now"}</output>
        <span>now</span>
      </p>
      <div class="travel-fields">
        <Time label="Moment" value={where.at} onChange={(at) => onMove({ at })} />
        <div class="choice" role="radiogroup" aria-label="Known">
          {(["today", "then"] as const).map((known) => (
            <label key={known}>
              <input type="radio" name="known" checked={where.known === known} onChange={() => onMove({ known })} />
              {known === "then" ? "as it was known then" : "as it is known today"}
            </label>
          ))}
        </div>
        <button type="button" disabled={!where.at} onClick={() => onMove({ at: "" })}>
          Back to now
        </button>
      </div>
    </fieldset>
  );
}

function Beliefs({ at }: { at: string }) {
  const { data, problem } = useStore(beliefs);
  const chosen = endOf(at);
  const facts = data ? factsAt(data.data, chosen ? Date.parse(chosen) : Date.now()) : [];
  return (
    <aside class="beliefs" aria-label="Facts">
      <h2>Facts</h2>
      {problem && <ProblemCard problem={problem} />}
      {data && facts.length === 0 && (
        <p class="muted">None are known{chosen ? " at that moment" : ""}. They are read from plain English sentences.</p>
      )}
      <ul>
        {facts.map(({ fact, standing }) => (
          <FactItem key={`${fact.events.join()} ${fact.predicate} ${fact.object} ${fact.denied}`} fact={fact} standing={standing} />
        ))}
      </ul>
      {data && data.more > 0 && <p class="muted">{plural(data.more, "more fact")} left out: choose a subject.</p>}
    </aside>
  );
}

export function FactItem({ fact, standing }: { fact: Fact; standing: Standing }) {
  return (
    <li class={`fact ${standing}`}>
      <p>
        <strong>{fact.subject}</strong> {fact.denied ? "not: " : ""}
        {fact.predicate} <strong>{fact.object}</strong>
        {standing === "ended" && <span class="badge">ended</span>}
        {fact.disputed && (
          <span class="badge danger" title="Two speakers, or the same moment, say different things">
            disputed
          </span>
        )}
      </p>
      <p class="muted">
        {spanOf(fact)}
        {fact.recorded_to && " · believed no more"} ·{" "}
        {fact.events.map((id, place) => (
          <span key={id}>
            {place > 0 && ", "}
            <EventLink id={id} />
          </span>
        ))}
      </p>
    </li>
  );
}

function spanOf(fact: Fact): string {
  const from = fact.valid_from === null ? null : dayWords(fact.valid_from);
  if (fact.valid_to === null) return from === null ? "some time ago" : `since ${from}`;
  return from === null ? `until ${dayWords(fact.valid_to)}` : `${from} to ${dayWords(fact.valid_to)}`;
}
