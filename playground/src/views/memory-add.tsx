/** Adding: one thing to remember, or a pasted conversation with who is who in it. */

import { useMemo, useState } from "preact/hooks";
import type { MemoryEvent, NewMemory } from "../api/memory";
import type { Problem } from "../api/problem";
import { member } from "../state/memory";
import { momentOf } from "../state/memory-filter";
import { addAll, freshPaste } from "../state/memory-changes";
import { eventsOf, isAssistant, likelySelf, parsePaste, type Said, speakersOf } from "../state/paste";
import { useStore } from "../state/store";
import { announce } from "./announcer";
import { EventLink } from "./memory-event";
import { Text, Time } from "./memory-filters";
import { ProblemCard } from "./problem-card";
import { plural } from "./wording";

/** Events have a longest text; a longer one is an error of the server's, told before it is sent. */
const LONGEST = 32_768;
const SHOWN = 8;

interface Outcome {
  events: MemoryEvent[];
  problem: Problem | null;
}

export function MemoryAdd() {
  const [text, setText] = useState("");
  const [pasted, setPasted] = useState(false);
  const [conversation, setConversation] = useState("");
  const [subject, setSubject] = useState("");
  const [scope, setScope] = useState("private");
  const [when, setWhen] = useState("");
  const [chosenSelf, setSelf] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const [outcome, setOutcome] = useState<Outcome | null>(null);
  const [paste, setPaste] = useState(freshPaste);
  const said = useMemo(() => (pasted ? parsePaste(text) : []), [pasted, text]);
  const speakers = speakersOf(said);
  const self = chosenSelf !== null && speakers.includes(chosenSelf) ? chosenSelf : likelySelf(speakers, useStore(member));
  const longest = Math.max(0, ...(pasted ? said.map((one) => one.text.length) : [text.length]));
  const wrong =
    longest > LONGEST
      ? `One text has ${longest.toLocaleString("en")} characters; ${LONGEST.toLocaleString("en")} make one event at most`
      : pasted && said.length > 0 && !conversation.trim()
        ? "A pasted conversation needs a name"
        : null;
  const ready = text.trim() !== "" && wrong === null && !busy && (!pasted || said.length > 0);
  const events = (): NewMemory[] => {
    const validAt = momentOf(when);
    const place = { conversation: conversation.trim(), scope: scope.trim() || "private" };
    if (pasted) return eventsOf(said, { ...place, self, validAt, paste });
    const about = subject.trim() ? { subject: subject.trim() } : {};
    return [{ text, role: "user", ...place, ...about, key: paste, ...(validAt ? { valid_at: validAt } : {}) }];
  };
  const submit = async () => {
    if (!ready) return;
    setBusy(true);
    const done = await addAll(events());
    setBusy(false);
    setOutcome(done);
    if (done.problem) return;
    announce(`${plural(done.events.length, "event")} remembered`);
    setText("");
    setPaste(freshPaste());
  };
  return (
    <form
      class="memory-add"
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
    >
      <div class="choice" role="radiogroup" aria-label="What to add">
        <label>
          <input type="radio" name="what" checked={!pasted} onChange={() => setPasted(false)} /> One thing to remember
        </label>
        <label>
          <input type="radio" name="what" checked={pasted} onChange={() => setPasted(true)} /> A conversation, pasted
        </label>
      </div>
      <textarea
        aria-label={pasted ? "Conversation" : "Text"}
        aria-describedby="add-about"
        rows={pasted ? 10 : 4}
        value={text}
        placeholder={pasted ? "Anna: I moved to Porto in May.\nAssistant: Noted!" : "I live in Porto."}
        onInput={(event) => {
          setText(event.currentTarget.value);
          // Other words under the keys of before would be refused.
          if (outcome) setPaste(freshPaste());
          setOutcome(null);
        }}
      />
      <p class="about" id="add-about">
        {pasted
          ? "Lines of “Name: text”, or chat messages in JSON. System messages are left out."
          : "Kept word for word, never shortened or rewritten."}
      </p>
      {pasted && said.length > 0 && <Heard said={said} speakers={speakers} self={self} onSelf={setSelf} />}
      <div class="filters">
        <Text label="Conversation" value={conversation} hint={pasted ? "a name for it" : "none"} onChange={setConversation} />
        {!pasted && <Text label="About (subject)" value={subject} hint="you" onChange={setSubject} />}
        <Text label="Scope" value={scope} hint="private" onChange={setScope} />
        <Time label="Said at" value={when} onChange={setWhen} />
      </div>
      {wrong && <p class="wrong">{wrong}</p>}
      <div class="add-actions">
        <button type="submit" class="primary" disabled={!ready}>
          {pasted ? `Remember ${plural(said.length, "message")}` : "Remember"}
        </button>
      </div>
      {outcome && <Done outcome={outcome} />}
    </form>
  );
}

interface HeardProps {
  said: Said[];
  speakers: string[];
  self: string;
  onSelf: (speaker: string) => void;
}

/** What was understood of a paste, so that mistakes are seen before they are remembered. */
function Heard({ said, speakers, self, onSelf }: HeardProps) {
  const people = speakers.filter((speaker) => speaker && !isAssistant(speaker));
  const who = (speaker: string) =>
    isAssistant(speaker) ? "the assistant" : speaker === self || speaker === "" ? "you" : speaker;
  return (
    <section class="heard" aria-label="What was understood">
      {people.length > 0 && (
        <div class="field">
          <label for="self">You are</label>
          <select id="self" value={self} onChange={(event) => onSelf(event.currentTarget.value)}>
            {people.map((speaker) => (
              <option key={speaker} value={speaker}>
                {speaker}
              </option>
            ))}
            <option value="">nobody of them</option>
          </select>
        </div>
      )}
      <ol>
        {said.slice(0, SHOWN).map((one, at) => (
          <li key={at}>
            <strong>{who(one.speaker)}</strong> <span>{one.text}</span>
          </li>
        ))}
      </ol>
      {said.length > SHOWN && <p class="muted">and {plural(said.length - SHOWN, "more message")}</p>}
    </section>
  );
}

function Done({ outcome }: { outcome: Outcome }) {
  const { events, problem } = outcome;
  return (
    <>
      {problem && <ProblemCard problem={problem} />}
      {events.length > 0 && (
        <p class="added">
          {problem ? "Before that, " : ""}
          {plural(events.length, "event")} remembered:{" "}
          {events.slice(0, 12).map((event) => (
            <span key={event.id}>
              <EventLink id={event.id} />{" "}
            </span>
          ))}
          {problem && "Sent again, nothing is remembered twice."}
        </p>
      )}
    </>
  );
}
