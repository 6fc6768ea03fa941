/** What a selection strategy is doing, rebuilt from the progress events of a stream. */

import type { DecodeReport, ProgressEvent, Scores } from "../api/contract";

export type CandidateState = "alive" | "cut" | "winner" | "lost";

export interface Candidate {
  id: number;
  text: string;
  tokens: number;
  state: CandidateState;
  score: number | null;
  /** Every score it was given, with its length in tokens at that moment. */
  history: { tokens: number; score: number }[];
  cutAt: number | null;
}

export interface Checkpoint {
  tokens: number;
  alive: number;
  cut: number;
}

export interface Search {
  candidates: Candidate[];
  checkpoints: Checkpoint[];
  winner: number | null;
  report: DecodeReport | null;
}

export const emptySearch: Search = { candidates: [], checkpoints: [], winner: null, report: null };

/** Applies a batch: objects that did not change keep their identity, so views can skip them. */
export function applyProgress(search: Search, events: readonly ProgressEvent[]): Search {
  if (events.length === 0) return search;
  const draft = new Draft(search);
  for (const event of events) {
    if (event.event === "tokens") draft.grow(event.candidate, event.text, event.tokens);
    else if (event.event === "checkpoint") draft.checkpoint(event);
    else if (event.event === "result") draft.result(event);
    // Events of later releases are passed over rather than refused.
  }
  return draft.finish();
}

class Draft {
  private readonly byId: Map<number, Candidate>;
  private readonly fresh = new Set<number>();
  private checkpoints: Checkpoint[];
  private winner: number | null;
  private report: DecodeReport | null;

  constructor(base: Search) {
    this.byId = new Map(base.candidates.map((candidate) => [candidate.id, candidate]));
    this.checkpoints = base.checkpoints;
    this.winner = base.winner;
    this.report = base.report;
  }

  grow(id: number, text: string, tokens: number): void {
    const candidate = this.own(id);
    candidate.text += text ?? "";
    candidate.tokens += tokens ?? 0;
  }

  checkpoint(event: Extract<ProgressEvent, { event: "checkpoint" }>): void {
    this.score(event.scores);
    for (const id of event.cut) {
      const candidate = this.own(id);
      candidate.state = "cut";
      candidate.cutAt = event.tokens;
    }
    // Candidates that finished early or have not spoken yet are still listed.
    for (const id of event.alive) this.own(id);
    this.checkpoints = [
      ...this.checkpoints,
      { tokens: event.tokens, alive: event.alive.length, cut: event.cut.length },
    ];
  }

  result(event: Extract<ProgressEvent, { event: "result" }>): void {
    const { event: _name, scores, ...report } = event;
    this.report = report;
    this.score(scores);
    const said = report.winner;
    this.winner = typeof said === "number" ? said : (said?.candidate ?? null);
    // Independent samples are all answers: none of them won.
    if (report.strategy === "sample") this.winner = null;
    this.settle(report);
    if (this.winner === null || this.byId.size === 0) return;
    const won = this.own(this.winner);
    won.state = "winner";
    won.cutAt = null;
    if (typeof said === "object" && typeof said?.score === "number") won.score = said.score;
  }

  /** Ends what still grew. A last checkpoint may "cut" answers that were whole already (best-of-n
   *  scores only at the end): when all were finished, none of them was cut short. */
  private settle(report: DecodeReport): void {
    const whole = report.candidates && report.candidates.finished === report.candidates.started;
    for (const [id, candidate] of [...this.byId]) {
      if (candidate.state === "alive" || (candidate.state === "cut" && whole)) {
        Object.assign(this.own(id), { state: "lost", cutAt: null });
      }
    }
  }

  finish(): Search {
    return {
      candidates: [...this.byId.values()].sort((left, right) => left.id - right.id),
      checkpoints: this.checkpoints,
      winner: this.winner,
      report: this.report,
    };
  }

  private score(scores: Scores | undefined): void {
    for (const [name, score] of Object.entries(scores ?? {})) {
      if (typeof score !== "number") continue; // JSON has no NaN: an unscored candidate is null
      const candidate = this.own(Number(name));
      candidate.score = score;
      const last = candidate.history.at(-1);
      if (last?.tokens === candidate.tokens && last.score === score) continue;
      candidate.history = [...candidate.history, { tokens: candidate.tokens, score }];
    }
  }

  /** A candidate this batch may write to: copied once, made when first heard of. */
  private own(id: number): Candidate {
    const known = this.byId.get(id);
    if (known && this.fresh.has(id)) return known;
    const mine: Candidate = known
      ? { ...known }
      : { id, text: "", tokens: 0, state: "alive", score: null, history: [], cutAt: null };
    this.byId.set(id, mine);
    this.fresh.add(id);
    return mine;
  }
}

/** Nothing feeds the candidates any more, whether the stream was whole, stopped or broken. */
export function endSearch(search: Search): Search {
  const candidates = search.candidates.map((candidate) =>
    candidate.state === "alive" ? { ...candidate, state: "lost" as const } : candidate,
  );
  return { ...search, candidates };
}

/** Best first: the winner, then by score, unscored last; ties keep the server's numbering. */
export function ranked(candidates: readonly Candidate[]): Candidate[] {
  const worth = (candidate: Candidate) => candidate.score ?? Number.NEGATIVE_INFINITY;
  return [...candidates].sort((left, right) => {
    if (left.state === "winner") return -1;
    if (right.state === "winner") return 1;
    return worth(right) - worth(left) || left.id - right.id;
  });
}

export function tokensOf(candidates: readonly Candidate[]): number {
  return candidates.reduce((sum, candidate) => sum + candidate.tokens, 0);
}
