import { useEffect, useRef } from "preact/hooks";
import { change } from "../state/chats";
import type { Conversation } from "../state/conversation";
import { send, settings, stop } from "../state/run";
import { catalogue } from "../state/server";
import { mistakes } from "../state/settings";
import { useStore } from "../state/store";
import { Icon } from "./icon";

export function Composer({ conversation, busy }: { conversation: Conversation; busy: boolean }) {
  const area = useRef<HTMLTextAreaElement>(null);
  const { strategies } = useStore(catalogue);
  const wrong = mistakes(useStore(settings), strategies);
  const { id, draft } = conversation;
  const ready = draft.trim() !== "" && !busy && wrong.length === 0;

  // A draft can also come from an example or another conversation, so its height follows the value.
  useEffect(() => {
    const element = area.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight}px`;
  }, [draft, id]);
  useEffect(() => {
    if (!matchMedia("(pointer: coarse)").matches) area.current?.focus();
  }, [id]);

  const submit = () => {
    if (ready) send(id, draft.trim());
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape" && busy) stop(id);
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    // On a touch keyboard Enter is the only way to a new line.
    if (matchMedia("(pointer: coarse)").matches) return;
    event.preventDefault();
    submit();
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      {wrong.length > 0 && <p class="wrong">Settings to correct: {wrong.join("; ")}</p>}
      <div class="composer-box">
        <textarea
          ref={area}
          rows={1}
          name="message"
          aria-label="Message"
          placeholder="Ask something"
          value={draft}
          onInput={(event) => {
            const typed = event.currentTarget.value;
            change(id, (one) => ({ ...one, draft: typed }));
          }}
          onKeyDown={onKeyDown}
        />
        {busy ? (
          <button type="button" class="send stop" aria-label="Stop" title="Stop (Esc)" onClick={() => stop(id)}>
            <Icon name="stop" />
          </button>
        ) : (
          <button type="submit" class="send" aria-label="Send" title="Send (Enter)" disabled={!ready}>
            <Icon name="send" />
          </button>
        )}
      </div>
    </form>
  );
}
