import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Example } from "../api/contract";
import { change } from "../state/chats";
import { type Conversation, fromExample } from "../state/conversation";
import { settings } from "../state/run";
import { catalogue } from "../state/server";
import { chosenModel } from "../state/settings";
import { useStore } from "../state/store";
import { Icon } from "./icon";
import { TurnView } from "./turn";
import { plural } from "./wording";

const NEAR_END = 80;

export function Transcript({ conversation, busy }: { conversation: Conversation; busy: boolean }) {
  const frame = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const follow = useRef(true);
  const [away, setAway] = useState(false);
  const { id, turns } = conversation;
  const toEnd = () => {
    if (frame.current) frame.current.scrollTop = frame.current.scrollHeight;
  };

  useLayoutEffect(() => {
    follow.current = true;
    toEnd();
  }, [id, turns.length]);
  // Follows whatever makes the page longer, until the reader scrolls away from its end.
  useEffect(() => {
    if (!content.current) return;
    const observer = new ResizeObserver(() => follow.current && toEnd());
    observer.observe(content.current);
    return () => observer.disconnect();
  }, []);
  const onScroll = () => {
    const element = frame.current;
    if (!element) return;
    follow.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_END;
    setAway(!follow.current);
  };
  const last = turns.at(-1);
  return (
    <div class="transcript" ref={frame} onScroll={onScroll}>
      <div class="column" ref={content}>
        {turns.length === 0 && <Welcome />}
        <Facts key={id} conversation={conversation} />
        {turns.length === 0 && <Examples conversation={conversation} />}
        {/* aria-busy holds the announcement back until the answer stands. */}
        <div role="log" aria-live="polite" aria-busy={busy} aria-label="Conversation">
          {turns.map((turn) => (
            <TurnView key={turn.id} conversationId={id} turn={turn} last={turn === last} busy={busy} />
          ))}
        </div>
      </div>
      {away && turns.length > 0 && (
        <button type="button" class="to-end" onClick={toEnd}>
          <Icon name="down" /> Latest
        </button>
      )}
    </div>
  );
}

function Welcome() {
  return (
    <div class="welcome">
      <h1>What would you like to know?</h1>
      <p class="muted">
        Ask the model directly, or choose a strategy that writes several answers, scores them as they grow and keeps the
        best.
      </p>
    </div>
  );
}

/** The system message, named after what it is for: the facts an answer may draw on. */
function Facts({ conversation }: { conversation: Conversation }) {
  const { id, facts, turns } = conversation;
  const [open, setOpen] = useState(false);
  const lines = facts.trim() ? plural(facts.trim().split("\n").length, "line") : "none";
  return (
    <details class="facts" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        Facts <span class="muted">{lines}</span>
        {!open && <span class="muted preview">{facts.trim().split("\n")[0]}</span>}
      </summary>
      <textarea
        aria-label="Facts"
        aria-describedby="facts-about"
        rows={Math.max(4, Math.min(14, facts.split("\n").length + 1))}
        value={facts}
        placeholder="Opening hours, prices, names: whatever the answer should rest on."
        onInput={(event) => {
          const typed = event.currentTarget.value;
          change(id, (one) => ({ ...one, facts: typed }));
        }}
      />
      <p class="about" id="facts-about">
        Sent as the system message{turns.length > 0 ? " with every message from now on" : ""}.
      </p>
    </details>
  );
}

function Examples({ conversation }: { conversation: Conversation }) {
  const { models, state } = useStore(catalogue);
  const model = chosenModel(useStore(settings), models);
  // A preset is the same model decoded otherwise, so it shares the examples.
  const examples = model?.tenfold?.examples ?? models.find((one) => one.tenfold?.examples)?.tenfold?.examples ?? [];
  if (state === "loading") return <p class="muted">Asking the server what it offers…</p>;
  if (examples.length === 0) return null;
  const load = (example: Example) => {
    change(conversation.id, (one) => fromExample(one, example, model?.id ?? ""));
    document.querySelector<HTMLTextAreaElement>(".composer textarea")?.focus();
  };
  return (
    <section class="examples" aria-label="Examples">
      {examples.map((example) => (
        <button type="button" key={example.title} onClick={() => load(example)}>
          <strong>{example.title}</strong>
          <span>{example.messages.findLast((message) => message.role === "user")?.content ?? ""}</span>
        </button>
      ))}
    </section>
  );
}
