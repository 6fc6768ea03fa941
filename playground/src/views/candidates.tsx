/** The candidates of one answer, live: growing, scored, cut, and one of them chosen. */

import { useState } from "preact/hooks";
import { type Candidate, ranked, type Search, tokensOf } from "../state/candidates";
import { CandidateReader, stateWords } from "./candidate-reader";
import { DecodeSummary } from "./decode-summary";
import { Icon } from "./icon";
import { plainOf } from "./markdown-blocks";
import { pure } from "./pure";
import { count, plural, score } from "./wording";

/** Up to here a candidate gets a card with text; beyond, a tile with its figures. */
const MOST_CARDS = 12;

interface Props {
  search: Search;
  running: boolean;
  startOpen: boolean;
}

export const Candidates = pure(function Candidates({ search, running, startOpen }: Props) {
  const [chosen, setChosen] = useState<boolean | null>(null);
  const [reading, setReading] = useState<number | null>(null);
  const [byScore, setByScore] = useState(false);
  // By number while they grow: tiles that change places cannot be followed by eye.
  const sortable = search.winner !== null && search.candidates.length > 1;
  const candidates = byScore && sortable ? ranked(search.candidates) : search.candidates;
  const open = chosen ?? startOpen;
  const dense = candidates.length > MOST_CARDS;
  const longest = Math.max(1, ...candidates.map((candidate) => candidate.tokens));
  const cut = candidates.filter((candidate) => candidate.state === "cut").length;
  const [low, high] = scoreRange(candidates);
  const worth = (candidate: Candidate) =>
    candidate.score === null ? 0.5 : high > low ? (candidate.score - low) / (high - low) : 1;
  return (
    <section class="candidates" aria-label="Candidates">
      <header>
        <button type="button" class="disclosure" aria-expanded={open} onClick={() => setChosen(!open)}>
          <Icon name={open ? "down" : "right"} />
          {plural(candidates.length, "candidate")}
        </button>
        <span class="muted figures">
          {running && search.winner === null ? `${count(candidates.length - cut)} growing` : null}
          {cut > 0 && <span>{count(cut)} cut</span>}
          <span>{plural(tokensOf(candidates), "token")}</span>
          {open && sortable && (
            <button type="button" class="sort" aria-pressed={byScore} onClick={() => setByScore(!byScore)}>
              Best first
            </button>
          )}
        </span>
      </header>
      {open && (
        <>
          {search.checkpoints.length > 0 && (
            <ol class="checkpoints" aria-label="Checkpoints">
              {search.checkpoints.map((point, at) => (
                <li key={at}>
                  {point.alive + point.cut} → {point.alive} <span class="muted">at {count(point.tokens)}</span>
                </li>
              ))}
            </ol>
          )}
          <ul class={dense ? "tiles dense" : "tiles"}>
            {candidates.map((candidate, at) => (
              <Tile
                key={candidate.id}
                candidate={candidate}
                dense={dense}
                length={candidate.tokens / longest}
                worth={worth(candidate)}
                at={at}
                onRead={setReading}
              />
            ))}
          </ul>
        </>
      )}
      {search.report && open && <DecodeSummary report={search.report} />}
      {reading !== null && (
        <CandidateReader
          candidates={candidates}
          at={reading}
          onMove={setReading}
          onClose={() => setReading(null)}
        />
      )}
    </section>
  );
});

function scoreRange(candidates: Candidate[]): [number, number] {
  const scores = candidates.flatMap((candidate) => (candidate.score === null ? [] : [candidate.score]));
  return [Math.min(...scores), Math.max(...scores)];
}

interface TileProps {
  candidate: Candidate;
  dense: boolean;
  length: number;
  worth: number;
  at: number;
  onRead: (at: number) => void;
}

const Tile = pure(function Tile({ candidate, dense, length, worth, at, onRead }: TileProps) {
  const words = `Candidate ${candidate.id}, ${stateWords(candidate)}, score ${score(candidate.score)}`;
  return (
    <li>
      <button
        type="button"
        class={`tile ${candidate.state}`}
        aria-label={`${words}. Read in full`}
        title={words}
        data-candidate={candidate.id}
        data-state={candidate.state}
        onClick={() => onRead(at)}
      >
        <span class="tile-head">
          <span class="tile-id">
            {candidate.id}
            {candidate.state === "winner" && !dense && <Icon name="star" />}
          </span>
          <span class="tile-score">{candidate.score === null ? "" : score(candidate.score)}</span>
        </span>
        {!dense && (
          <span class="tile-text">
            <span>{plainOf(candidate.text)}</span>
          </span>
        )}
        <span class="tile-bar">
          <span style={{ width: `${Math.round(length * 100)}%`, opacity: 0.35 + 0.65 * worth }} />
        </span>
        {!dense && <span class="tile-foot">{plural(candidate.tokens, "token")}</span>}
      </button>
    </li>
  );
});
