/** What a search found: events, why each was found, and whether it was useful. */

import { useEffect, useState } from "preact/hooks";
import type { Hit } from "../api/memory";
import type { Found } from "../state/memory";
import type { Problem } from "../api/problem";
import { give } from "../state/memory-changes";
import { feedbackOf, marked, type Marks, teachesNothing } from "../state/memory-feedback";
import { type Part, partsOf, scaleOf } from "../state/memory-score";
import { announce } from "./announcer";
import { Icon } from "./icon";
import { EventCard, EventLink } from "./memory-event";
import { ProblemCard } from "./problem-card";
import { count, plural, score } from "./wording";

interface Props {
  found: Found;
  event: string | null;
  busy: boolean;
}

export function Hits({ found, event, busy }: Props) {
  const { hits, query } = found;
  const [marks, setMarks] = useState<Marks>({});
  useEffect(() => setMarks({}), [found]);
  if (hits.length === 0) {
    return <p class="muted hint">Nothing that you may read matches “{query}”. Fewer filters find more.</p>;
  }
  const scale = scaleOf(hits);
  return (
    <>
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
            >
              <Judge
                mark={marks[hit.event.id]}
                onMark={(useful) => setMarks((now) => marked(now, hit.event.id, useful))}
              />
            </EventCard>
            <StandsFor hit={hit} />
            <Why hit={hit} scale={scale} first={at === 0} />
          </li>
        ))}
      </ol>
      <Feedback found={found} marks={marks} onSent={() => setMarks({})} />
    </>
  );
}

function Judge({ mark, onMark }: { mark: boolean | undefined; onMark: (useful: boolean) => void }) {
  return (
    <span class="judge" role="group" aria-label="Was it useful?">
      {[true, false].map((useful) => (
        <button type="button" key={String(useful)} class="quiet" aria-pressed={mark === useful} onClick={() => onMark(useful)}>
          {useful ? "Useful" : "Not useful"}
        </button>
      ))}
    </span>
  );
}

/** Sent once for the whole search: only differences between what was shown teach anything. */
function Feedback({ found, marks, onSent }: { found: Found; marks: Marks; onSent: () => void }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [thanks, setThanks] = useState(false);
  const { shown, useful } = feedbackOf(found.hits, marks);
  useEffect(() => {
    setProblem(null);
    if (shown.length > 0) setThanks(false);
  }, [marks]);
  useEffect(() => setThanks(false), [found]);
  if (shown.length === 0 && !thanks) return null;
  const wrong = teachesNothing(found.hits, marks);
  const send = async () => {
    setBusy(true);
    const failed = await give({
      query: found.query,
      shown,
      useful,
      ...(found.conversation ? { conversation: found.conversation } : {}),
    });
    setBusy(false);
    setProblem(failed);
    if (failed) return;
    setThanks(true);
    onSent();
    announce("Feedback kept");
  };
  return (
    <div class="feedback">
      {problem && <ProblemCard problem={problem} />}
      {thanks ? (
        <p>Kept. The ranking learns from it once there is enough, and only if that proves better.</p>
      ) : (
        <>
          <p>{wrong ?? `${count(useful.length)} of ${plural(shown.length, "judged event")} useful`}</p>
          <button type="button" class="primary" disabled={wrong !== null || busy} onClick={() => void send()}>
            Send feedback
          </button>
        </>
      )}
    </div>
  );
}

/** What a hit stands for besides itself: a consolidated conversation, or restatements. */
function StandsFor({ hit }: { hit: Hit }) {
  const { summary, repeats = [] } = hit;
  if (!summary && repeats.length === 0) return null;
  return (
    <div class="stands-for">
      {summary && (
        <>
          <p class="muted">Stands for {plural(summary.events.length, "event")}, summed up:</p>
          <q class="quoted">{summary.text}</q>
        </>
      )}
      {repeats.length > 0 && (
        <p class="muted">
          Said again in{" "}
          {repeats.map((id) => (
            <span key={id}>
              <EventLink id={id} />{" "}
            </span>
          ))}
        </p>
      )}
    </div>
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
