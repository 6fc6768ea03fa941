import { useEffect, useState } from "preact/hooks";
import { chats, discard, kept, open, openNew } from "../state/chats";
import { type Conversation, isBlank, titleOf } from "../state/conversation";
import { go, route } from "../state/route";
import { stop } from "../state/run";
import { useStore } from "../state/store";
import { EngineFigures } from "./engine-figures";
import { Icon, IconButton } from "./icon";

export function Sidebar({ onPick }: { onPick: () => void }) {
  const { all, activeId } = useStore(chats);
  const stored = useStore(kept);
  const { page } = useStore(route);
  const listed = all.filter((conversation) => !isBlank(conversation)).sort((a, b) => b.updated - a.updated);
  return (
    <>
      <p class="brand">tenfold</p>
      <nav class="pages" aria-label="Pages">
        <a href="#/" aria-current={page === "chat" ? "page" : undefined} onClick={onPick}>
          Chat
        </a>
        <a href="#/memory/search" aria-current={page === "memory" ? "page" : undefined} onClick={onPick}>
          Memory
        </a>
      </nav>
      <button
        type="button"
        class="new-chat"
        onClick={() => {
          openNew();
          go({ page: "chat" });
          onPick();
        }}
      >
        <Icon name="plus" /> New chat
      </button>
      <nav aria-label="Conversations">
        {listed.length === 0 && <p class="muted">Your conversations will be listed here, kept in this browser.</p>}
        <ul class="chat-list">
          {listed.map((conversation) => (
            <ChatRow
              key={conversation.id}
              conversation={conversation}
              active={page === "chat" && conversation.id === activeId}
              onPick={onPick}
            />
          ))}
        </ul>
      </nav>
      {!stored && <p class="wrong">The browser's storage is full or closed; new messages will not be kept.</p>}
      <EngineFigures />
    </>
  );
}

function ChatRow({ conversation, active, onPick }: { conversation: Conversation; active: boolean; onPick: () => void }) {
  const [sure, setSure] = useState(false);
  useEffect(() => {
    if (!sure) return;
    const timer = setTimeout(() => setSure(false), 3000);
    return () => clearTimeout(timer);
  }, [sure]);
  const title = titleOf(conversation);
  const onDelete = () => {
    if (!sure) return setSure(true);
    stop(conversation.id);
    discard(conversation.id);
  };
  return (
    <li class={active ? "active" : ""}>
      <button
        type="button"
        class="chat-title"
        aria-current={active ? "page" : undefined}
        title={title}
        onClick={() => {
          open(conversation.id);
          go({ page: "chat" });
          onPick();
        }}
      >
        {title}
      </button>
      {sure ? (
        <button type="button" class="sure" onClick={onDelete}>
          Delete?
        </button>
      ) : (
        <IconButton icon="trash" label={`Delete “${title}”`} onClick={onDelete} />
      )}
    </li>
  );
}
