/** A user's message and the answer shown for it. */

import { useEffect, useRef, useState } from "preact/hooks";
import { change } from "../state/chats";
import { type Answer, showAnswer, type Turn } from "../state/conversation";
import { regenerate, resend } from "../state/run";
import { Candidates } from "./candidates";
import { CopyButton } from "./copy-button";
import { DecodeSummary } from "./decode-summary";
import { IconButton } from "./icon";
import { Markdown } from "./markdown";
import { ProblemCard } from "./problem-card";
import { pure } from "./pure";
import { duration, plural, speed, spoken } from "./wording";

interface Props {
  conversationId: string;
  turn: Turn;
  last: boolean;
  busy: boolean;
}

export const TurnView = pure(function TurnView({ conversationId, turn, last, busy }: Props) {
  const answer = turn.answers[turn.shown];
  return (
    <article class="turn">
      <UserMessage conversationId={conversationId} turn={turn} last={last} busy={busy} />
      {answer && <AnswerView conversationId={conversationId} turn={turn} answer={answer} last={last} busy={busy} />}
    </article>
  );
});

function UserMessage({ conversationId, turn, last, busy }: Props) {
  const [editing, setEditing] = useState(false);
  if (editing) {
    const onSend = (text: string) => {
      setEditing(false);
      resend(conversationId, turn.id, text);
    };
    return <Editor text={turn.user} last={last} busy={busy} onSend={onSend} onCancel={() => setEditing(false)} />;
  }
  return (
    <div class="user">
      <div class="bubble">{turn.user}</div>
      <div class="actions">
        <IconButton icon="pencil" label="Edit and resend" disabled={busy} onClick={() => setEditing(true)} />
        <CopyButton text={turn.user} label="Copy message" />
      </div>
    </div>
  );
}

interface EditorProps {
  text: string;
  last: boolean;
  busy: boolean;
  onSend: (text: string) => void;
  onCancel: () => void;
}

function Editor({ text, last, busy, onSend, onCancel }: EditorProps) {
  const [typed, setTyped] = useState(text);
  const area = useRef<HTMLTextAreaElement>(null);
  useEffect(() => area.current?.focus(), []);
  return (
    <form
      class="editor"
      onSubmit={(event) => {
        event.preventDefault();
        if (typed.trim() && !busy) onSend(typed);
      }}
      onKeyDown={(event) => event.key === "Escape" && onCancel()}
    >
      <textarea
        ref={area}
        aria-label="Edit message"
        rows={Math.min(12, typed.split("\n").length + 1)}
        value={typed}
        onInput={(event) => setTyped(event.currentTarget.value)}
      />
      <div class="editor-actions">
        {!last && <span class="muted">Later messages will be removed.</span>}
        <button type="button" class="quiet" onClick={onCancel}>
          Cancel
        </button>
        <button type="submit" class="primary" disabled={!typed.trim() || busy}>
          Send
        </button>
      </div>
    </form>
  );
}

function AnswerView({ conversationId, turn, answer, last, busy }: Props & { answer: Answer }) {
  const running = answer.state === "running";
  const { search } = answer;
  const choosing = (search?.candidates.length ?? 0) > 0;
  return (
    <div class="answer" data-state={answer.state}>
      {search && choosing && <Candidates search={search} running={running} startOpen={last} />}
      {answer.text ? (
        <Markdown text={answer.text} />
      ) : (
        running && <p class="waiting">{choosing ? "Choosing the best candidate" : "Thinking"}</p>
      )}
      {answer.problem && (
        <ProblemCard problem={answer.problem}>
          {last && (
            <button type="button" disabled={busy} onClick={() => regenerate(conversationId)}>
              Try again
            </button>
          )}
        </ProblemCard>
      )}
      {!running && (
        <div class="actions">
          {turn.answers.length > 1 && <Versions conversationId={conversationId} turn={turn} busy={busy} />}
          {answer.text && <CopyButton text={answer.text} label="Copy answer" />}
          {last && !answer.problem && (
            <IconButton icon="again" label="Regenerate" disabled={busy} onClick={() => regenerate(conversationId)} />
          )}
          {(answer.text || !answer.problem) && <p class="meta">{metaOf(answer)}</p>}
        </div>
      )}
      {/* Plain sampling has a report too, worth a line only when something cut it short. */}
      {!choosing && search?.report && search.report.stopped_by !== "complete" && (
        <DecodeSummary report={search.report} />
      )}
    </div>
  );
}

function Versions({ conversationId, turn, busy }: { conversationId: string; turn: Turn; busy: boolean }) {
  const show = (shown: number) => change(conversationId, (one) => showAnswer(one, turn.id, shown));
  return (
    <div class="versions" role="group" aria-label="Answers to this message">
      <IconButton
        icon="left"
        label="Previous answer"
        disabled={busy || turn.shown === 0}
        onClick={() => show(turn.shown - 1)}
      />
      <span>
        {turn.shown + 1}/{turn.answers.length}
      </span>
      <IconButton
        icon="right"
        label="Next answer"
        disabled={busy || turn.shown === turn.answers.length - 1}
        onClick={() => show(turn.shown + 1)}
      />
    </div>
  );
}

function metaOf(answer: Answer): string {
  const tokens = answer.usage?.completion_tokens;
  const seconds = (answer.totalMs ?? 0) / 1000;
  return [
    answer.state === "stopped" ? "Stopped" : null,
    answer.finish === "length" ? "Stopped at the token limit" : null,
    answer.model,
    answer.strategy && answer.strategy !== "sample" ? spoken(answer.search?.report?.strategy ?? answer.strategy) : null,
    tokens === undefined ? null : plural(tokens, "token"),
    answer.totalMs === null ? null : duration(answer.totalMs),
    tokens !== undefined && seconds > 0 ? `${speed(tokens / seconds)} tokens/s` : null,
  ]
    .filter(Boolean)
    .join(" · ");
}
