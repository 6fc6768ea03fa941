/** The memory page: what the server remembers, why it finds it, where it comes from, how it goes. */

import { useEffect } from "preact/hooks";
import { greet, hello, member, memoryOff } from "../state/memory";
import { hashOf, type Route, TABS, type Tab } from "../state/route";
import { useStore } from "../state/store";
import { IconButton } from "./icon";
import { MemoryAdd } from "./memory-add";
import { MemoryAudit } from "./memory-audit";
import { MemoryErase } from "./memory-erase";
import { MemorySearch } from "./memory-search";
import { MemoryTimeline } from "./memory-timeline";
import { ProblemCard } from "./problem-card";

const NAMES: Record<Tab, string> = {
  search: "Search",
  timeline: "Timeline",
  add: "Add",
  erase: "Erase",
  audit: "Audit",
};

interface Props {
  route: Extract<Route, { page: "memory" }>;
  onChats: () => void;
}

export function MemoryPage({ route, onChats }: Props) {
  const off = useStore(memoryOff);
  const whose = useStore(member);
  const { state, problem } = useStore(hello);
  const { tab } = route;
  useEffect(() => {
    if (state === "idle") void greet();
  }, [state]);
  useEffect(() => {
    document.title = `${NAMES[tab]} · memory · tenfold playground`;
    return () => {
      document.title = "tenfold playground";
    };
  }, [tab]);
  return (
    <>
      <header class="top-bar">
        <IconButton icon="menu" label="Conversations and engine" class="show-chats" onClick={onChats} />
        <h1>
          Memory {whose && !off && <span class="muted">of {whose}</span>}
        </h1>
      </header>
      {off ? (
        <MemoryOff />
      ) : (
        <>
          <nav class="tabs" aria-label="Memory">
            {TABS.map((one) => (
              <a
                key={one}
                href={hashOf({ page: "memory", tab: one, event: route.event })}
                aria-current={one === tab ? "page" : undefined}
              >
                {NAMES[one]}
              </a>
            ))}
          </nav>
          <div class="transcript" key={tab}>
            <div class="column">
              {problem && (
                <ProblemCard problem={problem}>
                  <button type="button" onClick={() => void greet()}>
                    Try again
                  </button>
                </ProblemCard>
              )}
              {tab === "search" && <MemorySearch event={route.event} />}
              {tab === "timeline" && <MemoryTimeline event={route.event} />}
              {tab === "add" && <MemoryAdd />}
              {tab === "erase" && <MemoryErase />}
              {tab === "audit" && <MemoryAudit event={route.event} />}
            </div>
          </div>
        </>
      )}
    </>
  );
}

function MemoryOff() {
  return (
    <div class="transcript">
      <div class="column">
        <div class="welcome" role="status">
          <h2>This server remembers nothing</h2>
          <p class="muted">
            It was started without a memory. Start it with a folder to keep one in, and this page shows what is
            remembered, why it is found, and lets you erase it:
          </p>
          <pre class="command" tabIndex={0}>
            <code>tenfold serve --memory FOLDER</code>
          </pre>
          <button type="button" onClick={() => void greet()}>
            Look again
          </button>
        </div>
      </div>
    </div>
  );
}
