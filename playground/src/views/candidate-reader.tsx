/** Reads one candidate in full, with the scores it was given on the way. */

import { useEffect, useRef } from "preact/hooks";
import type { Candidate } from "../state/candidates";
import { CopyButton } from "./copy-button";
import { IconButton } from "./icon";
import { Markdown } from "./markdown";
import { count, plural, score } from "./wording";

interface Props {
  candidates: Candidate[];
  at: number;
  onMove: (at: number) => void;
  onClose: () => void;
}

export function stateWords(candidate: Candidate): string {
  if (candidate.state === "winner") return "winner";
  if (candidate.state === "cut") return `cut after ${plural(candidate.tokens, "token")}`;
  return candidate.state === "lost" ? "ended" : "growing";
}

export function CandidateReader({ candidates, at, onMove, onClose }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (!dialog.current?.open) dialog.current?.showModal();
  }, []);
  const candidate = candidates[at];
  if (!candidate) return null;
  const move = (step: number) => onMove((at + step + candidates.length) % candidates.length);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "ArrowLeft") move(-1);
    else if (event.key === "ArrowRight") move(1);
  };
  return (
    <dialog
      ref={dialog}
      class="reader"
      aria-label={`Candidate ${candidate.id}`}
      onClose={onClose}
      onKeyDown={onKeyDown}
      onClick={(event) => event.target === dialog.current && dialog.current?.close()}
    >
      <div class="reader-frame">
        <header>
          <h2>
            Candidate {candidate.id} <span class={`state ${candidate.state}`}>{stateWords(candidate)}</span>
          </h2>
          <CopyButton text={candidate.text} label="Copy this candidate" />
          <IconButton icon="left" label="Previous candidate" onClick={() => move(-1)} />
          <IconButton icon="right" label="Next candidate" onClick={() => move(1)} />
          <IconButton icon="close" label="Close" onClick={() => dialog.current?.close()} />
        </header>
        <div class="reader-text" tabIndex={0}>
          {candidate.text ? <Markdown text={candidate.text} /> : <p class="muted">Nothing yet.</p>}
        </div>
        <footer>
          <span>{plural(candidate.tokens, "token")}</span>
          {candidate.history.map((given, index) => (
            <span key={index}>
              {score(given.score)} <span class="muted">at {count(given.tokens)}</span>
            </span>
          ))}
        </footer>
      </div>
    </dialog>
  );
}
