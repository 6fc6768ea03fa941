/** Search: the best events for a query, each with the parts that its score is the sum of. */

import { useEffect, useRef } from "preact/hooks";
import { found, hello, runSearch, searchForm } from "../state/memory";
import { filterMistake } from "../state/memory-filter";
import { hashOf } from "../state/route";
import { useStore } from "../state/store";
import { announce } from "./announcer";
import { Filters, Time } from "./memory-filters";
import { Hits } from "./memory-hits";
import { ProblemCard } from "./problem-card";
import { plural } from "./wording";

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
          <label class="check">
            <input
              type="checkbox"
              checked={form.verbatim}
              onChange={(event) => set({ verbatim: event.currentTarget.checked })}
            />
            Every event by itself, no summaries
          </label>
        </Filters>
      </form>
      {problem && (
        <ProblemCard problem={problem}>
          <button type="button" disabled={!ready} onClick={() => void submit()}>
            Try again
          </button>
        </ProblemCard>
      )}
      {data && <Hits found={data} event={event} busy={state === "loading"} />}
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
