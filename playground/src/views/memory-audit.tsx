/** Audit: what is wrong with the memory, by events. */

import { useState } from "preact/hooks";
import { type Audit, fetchAudit } from "../api/memory";
import { audit } from "../state/memory";
import { type Found, findingsOf } from "../state/memory-audit";
import { useStore } from "../state/store";
import { announce } from "./announcer";
import { Icon } from "./icon";
import { EventLink } from "./memory-event";
import { ProblemCard } from "./problem-card";
import { count, percent, plural } from "./wording";

/** As many events of one finding as are worth a look; the others are counted. */
const SHOWN = 30;

export function MemoryAudit({ event }: { event: string | null }) {
  const { state, data, problem } = useStore(audit);
  const run = async () => {
    const report = await audit.ask((key, signal) => fetchAudit(key, signal));
    if (report) announce("The audit is done");
  };
  return (
    <>
      <div class="welcome">
        <h2>Audit</h2>
        <p class="muted">
          Looks through all that you may read for what makes a memory worse. It reads every event, which takes a moment
          with a large one.
        </p>
      </div>
      <button type="button" class={data ? "" : "primary"} disabled={state === "loading"} onClick={() => void run()}>
        {state === "loading" ? "Looking…" : data ? "Look again" : "Look through the memory"}
      </button>
      {problem && <ProblemCard problem={problem} />}
      {data && <Report report={data} event={event} />}
    </>
  );
}

function Report({ report, event }: { report: Audit; event: string | null }) {
  const found = findingsOf(report);
  return (
    <section class="audit" aria-label="What was found">
      <p class="audit-sum">
        <strong>{percent(report.junk)}</strong> junk in {plural(report.events, "event")}
      </p>
      <ul>
        {found.map((one) => (
          <Finding key={one.name} found={one} event={event} />
        ))}
      </ul>
    </section>
  );
}

function Finding({ found, event }: { found: Found; event: string | null }) {
  const [open, setOpen] = useState(found.grave === true);
  const some = found.count > 0;
  return (
    <li class={`finding ${some ? (found.grave ? "grave" : "some") : "none"}`}>
      <button type="button" class="disclosure" aria-expanded={open && some} disabled={!some} onClick={() => setOpen(!open)}>
        {some ? <Icon name={open ? "down" : "right"} /> : <Icon name="check" />}
        <span class="finding-name">{found.name}</span>
        <span class="finding-count">{count(found.count)}</span>
      </button>
      <p class="muted">{found.about}</p>
      {open && some && (
        <ul class="finding-rows">
          {found.rows.slice(0, SHOWN).map((row, at) => (
            <li key={at} class={row.ids.some((id) => id === event) ? "open" : ""}>
              {row.ids.map((id) => (
                <span key={id}>
                  <EventLink id={id} />{" "}
                </span>
              ))}
              <span class="muted">{row.words}</span>
            </li>
          ))}
          {found.count > Math.min(SHOWN, found.rows.length) && (
            <li class="muted">and {count(found.count - Math.min(SHOWN, found.rows.length))} more</li>
          )}
        </ul>
      )}
    </li>
  );
}
