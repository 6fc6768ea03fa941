/** Search: the best events for a query, each with the parts that its score is the sum of. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { Hit } from "../api/memory";
import { found, hello, runSearch, searchForm } from "../state/memory";
import { filterMistake } from "../state/memory-filter";
import { type Part, partsOf, scaleOf } from "../state/memory-score";
import { hashOf } from "../state/route";
import { useStore } from "../state/store";
import { announce } from "./announcer";
import { Icon } from "./icon";
import { EventCard } from "./memory-event";
import { Filters, Time } from "./memory-filters";
import { ProblemCard } from "./problem-card";
import { count, plural, score } from "./wording";

const LENGTHS = [5, 10, 25, 50];

export function MemorySearch({ event }: { event: string | null }) {
  const form = useStore(searchForm);
  const { state, data, problem } = useStore(found);
  const empty = useStore(hello).data?.data.length === 0;
  const box = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (!matchMedia("(pointer: coarse)").matches) box.current?.focus();
  }, []);
  const set = (part: Partial<typeof form>) => searchForm.update((now) => ({ ...now, ...part }));
  const ready = form.query.trim() !== "" && filterMistake(form.filter) === null;
  const submit = async () => {
    if (!ready) return;
    const hits = await runSearch();
    if (hits !== null) announce(hits === 0 ? "Nothing was found" : `${plural(hits, "event")} found`);
  };
  return (
    <>
      <form
        class="memory-search"
        role="search"
        onSubmit={(submitted) => {
          submitted.preventDefault();
          void submit();
        }}
      >
        <div class="search-box">
          <input
            ref={box}
            type="search"
            aria-label="Search the memory"
            placeholder="What do you want to know? “Where does Anna live?”"
            maxLength={8192}
            value={form.query}
            onInput={(typed) => set({ query: typed.currentTarget.value })}
          />
          <button type="submit" class="primary" disabled={!ready || state === "loading"}>
            Search
          </button>
        </div>
        <Filters filter={form.filter} onChange={(filter) => set({ filter })} more={form.asOf ? 1 : 0}>
          <Time label="As it was known on" value={form.asOf} onChange={(asOf) => set({ asOf })} />
          <div class="field">
            <label for="hits">At most</label>
            <select id="hits" value={form.k} onChange={(chosen) => set({ k: Number(chosen.currentTarget.value) })}>
              {LENGTHS.map((length) => (
                <option key={length} value={length}>
                  {length} events
                </option>
              ))}
            </select>
          </div>
        </Filters>
      </form>
      {problem && (
        <ProblemCard problem={problem}>
          <button type="button" disabled={!ready} onClick={() => void submit()}>
            Try again
          </button>
        </ProblemCard>
      )}
      {data && <Hits hits={data.hits} query={data.query} event={event} busy={state === "loading"} />}
      {!data && !problem && state !== "loading" && (
        <p class="muted hint">
          {empty ? (
            <>
              Nothing is remembered yet. <a href={hashOf({ page: "memory", tab: "add", event: null })}>Add something</a>{" "}
              to begin with.
            </>
          ) : (
            "Everything that was said is kept word for word. A search ranks it and shows what each score is made of."
          )}
        </p>
      )}
      {!data && state === "loading" && <p class="waiting">Searching</p>}
    </>
  );
}

function Hits({ hits, query, event, busy }: { hits: Hit[]; query: string; event: string | null; busy: boolean }) {
  if (hits.length === 0) {
    return <p class="muted hint">Nothing that you may read matches “{query}”. Fewer filters find more.</p>;
  }
  const scale = scaleOf(hits);
  return (
    <ol class="hits" aria-label={`Results for ${query}`} aria-busy={busy}>
      {hits.map((hit, at) => (
        <li key={hit.event.id}>
          <EventCard
            event={hit.event}
            open={hit.event.id === event}
            aside={
              <span class="hit-score" title="Score: the sum of its parts">
                <span class="offscreen">Score </span>
                {score(hit.score)}
              </span>
            }
          />
          <Why hit={hit} scale={scale} first={at === 0} />
        </li>
      ))}
    </ol>
  );
}

function Why({ hit, scale, first }: { hit: Hit; scale: number; first: boolean }) {
  const [open, setOpen] = useState(first);
  const parts = partsOf(hit, scale);
  return (
    <div class="why">
      <button type="button" class="disclosure" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name={open ? "down" : "right"} />
        Why: {count(parts.length)} {parts.length === 1 ? "reason" : "reasons"}
        {!open && parts[0] && <span class="muted">{parts[0].words.toLowerCase()} first</span>}
      </button>
      {open && (
        <table class="parts">
          <thead class="offscreen">
            <tr>
              <th scope="col">Reason</th>
              <th scope="col">Bar</th>
              <th scope="col">Part of the score</th>
            </tr>
          </thead>
          <tbody>
            {parts.map((part) => (
              <PartRow key={part.name} part={part} />
            ))}
          </tbody>
          <tfoot>
            <tr>
              <th scope="row">Score</th>
              <td />
              <td>{score(hit.score)}</td>
            </tr>
          </tfoot>
        </table>
      )}
    </div>
  );
}

function PartRow({ part }: { part: Part }) {
  const sign = part.value < 0 ? "against" : "for";
  return (
    <tr data-part={part.name}>
      <th scope="row">{part.words}</th>
      <td aria-hidden="true">
        <span class={`part-bar ${sign}`}>
          <span style={{ width: `${(100 * part.share).toFixed(1)}%` }} />
        </span>
      </td>
      <td>{`${part.value < 0 ? "" : "+"}${score(part.value)}`}</td>
    </tr>
  );
}
