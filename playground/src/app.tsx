/** The page: conversations on the left, the chat or the memory beside them, and what belongs to it on the right. */

import { useEffect, useRef, useState } from "preact/hooks";
import { chats } from "./state/chats";
import { type Conversation, shownAnswer, titleOf } from "./state/conversation";
import { settings } from "./state/run";
import { catalogue, figures, keyWanted, loadCatalogue } from "./state/server";
import { chosenModel } from "./state/settings";
import { go, route } from "./state/route";
import { useStore } from "./state/store";
import { announce, Announcer } from "./views/announcer";
import { Composer } from "./views/composer";
import { Icon, IconButton } from "./views/icon";
import { KeyDialog } from "./views/key-dialog";
import { LineagePanel } from "./views/memory-lineage";
import { MemoryPage } from "./views/memory-page";
import { ProblemCard } from "./views/problem-card";
import { SettingsInBrief, SettingsPanel } from "./views/settings-panel";
import { Sidebar } from "./views/sidebar";
import { Transcript } from "./views/transcript";
import { speed } from "./views/wording";

// The same widths as in layout.css: below them a side becomes a drawer.
const CHATS_DRAWER = "(max-width: 820px)";
const SETTINGS_DRAWER = "(max-width: 1180px)";

type Drawer = "chats" | "settings" | null;

export function App() {
  const { all, activeId } = useStore(chats);
  const at = useStore(route);
  const [drawer, setDrawer] = useState<Drawer>(null);
  const chatsDrawer = useMedia(CHATS_DRAWER);
  const settingsDrawer = useMedia(SETTINGS_DRAWER);
  const conversation = all.find((one) => one.id === activeId);
  const answer = conversation?.turns.at(-1);
  const shown = answer ? shownAnswer(answer) : null;
  const busy = shown?.state === "running";
  useAnnouncements(shown?.id ?? "", shown?.state ?? "", shown?.search?.checkpoints.at(-1));
  const close = () => setDrawer(null);
  const event = at.page === "memory" ? at.event : null;
  useEffect(() => {
    if (drawer === "settings") close();
  }, [at.page]);
  if (!conversation) return null;
  const inert = (drawer !== null && (drawer === "chats" ? chatsDrawer : settingsDrawer)) || (event !== null && settingsDrawer);
  return (
    <div class="app">
      <Side name="chats" label="Conversations and engine" drawer={chatsDrawer} open={drawer === "chats"} onClose={close}>
        <Sidebar onPick={close} />
      </Side>
      <main inert={inert}>
        {at.page === "memory" ? (
          <MemoryPage route={at} onChats={() => setDrawer("chats")} />
        ) : (
          <>
            <TopBar conversation={conversation} onDrawer={setDrawer} />
            <Banner />
            <Transcript conversation={conversation} busy={busy} />
            <Composer conversation={conversation} busy={busy} />
          </>
        )}
      </main>
      {at.page === "memory" ? (
        <Side
          name="lineage"
          label="Lineage"
          drawer={settingsDrawer}
          open={event !== null}
          onClose={() => go({ ...at, event: null })}
        >
          <LineagePanel event={event} />
        </Side>
      ) : (
        <Side name="settings" label="Settings" drawer={settingsDrawer} open={drawer === "settings"} onClose={close}>
          <SettingsPanel />
        </Side>
      )}
      <KeyDialog />
      <Announcer />
    </div>
  );
}

interface SideProps {
  name: "chats" | "settings" | "lineage";
  label: string;
  drawer: boolean;
  open: boolean;
  onClose: () => void;
  children: preact.ComponentChildren;
}

function Side({ name, label, drawer, open, onClose, children }: SideProps) {
  const side = useRef<HTMLElement>(null);
  const shown = drawer && open;
  useEffect(() => {
    if (!shown) return;
    const before = document.activeElement;
    side.current?.querySelector<HTMLElement>("button")?.focus();
    const onKeyDown = (event: KeyboardEvent) => event.key === "Escape" && onClose();
    document.addEventListener("keydown", onKeyDown);
    return () => {
      document.removeEventListener("keydown", onKeyDown);
      if (before instanceof HTMLElement) before.focus();
    };
  }, [shown]);
  return (
    <>
      {shown && <button type="button" class="backdrop" aria-label="Close" tabIndex={-1} onClick={onClose} />}
      <aside ref={side} class={`side ${name} ${open ? "open" : ""}`} aria-label={label} inert={drawer && !open}>
        {drawer && <IconButton icon="close" label={`Close ${name}`} class="close-side" onClick={onClose} />}
        {children}
      </aside>
    </>
  );
}

function TopBar({ conversation, onDrawer }: { conversation: Conversation; onDrawer: (drawer: Drawer) => void }) {
  const { models } = useStore(catalogue);
  const model = chosenModel(useStore(settings), models);
  const { stats, live } = useStore(figures);
  return (
    <header class="top-bar">
      <IconButton icon="menu" label="Conversations and engine" class="show-chats" onClick={() => onDrawer("chats")} />
      <h2>{conversation.turns.length > 0 ? titleOf(conversation) : "New chat"}</h2>
      {stats && live && <span class="live muted">{speed(stats.tokens_per_second)} tokens/s</span>}
      <button type="button" class="show-settings" onClick={() => onDrawer("settings")}>
        <SettingsInBrief model={model} />
        <Icon name="sliders" />
        <span class="offscreen">, settings</span>
      </button>
    </header>
  );
}

function Banner() {
  const { state, problem } = useStore(catalogue);
  const wanted = useStore(keyWanted);
  if (state !== "failed" || !problem || wanted) return null;
  const again = () => (problem.status === 401 ? keyWanted.set(true) : void loadCatalogue());
  return (
    <div class="banner">
      <ProblemCard problem={problem}>
        <button type="button" onClick={again}>
          {problem.status === 401 ? "Give a key" : "Try again"}
        </button>
      </ProblemCard>
    </div>
  );
}

function useMedia(query: string): boolean {
  const [matches, setMatches] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const onChange = () => setMatches(list.matches);
    list.addEventListener("change", onChange);
    return () => list.removeEventListener("change", onChange);
  }, [query]);
  return matches;
}

function useAnnouncements(id: string, state: string, point: { tokens: number; alive: number; cut: number } | undefined) {
  const before = useRef({ id, state });
  useEffect(() => {
    const changed = before.current.id !== id || before.current.state !== state;
    const wasRunning = before.current.id === id && before.current.state === "running";
    before.current = { id, state };
    if (!changed) return;
    if (state === "running") announce("The answer is being written");
    else if (wasRunning) announce(state === "done" ? "The answer is complete" : `The answer ${state}`);
  }, [id, state]);
  useEffect(() => {
    if (point && state === "running") {
      announce(`At ${point.tokens} tokens, ${point.alive} of ${point.alive + point.cut} candidates were kept`);
    }
  }, [point]);
}
