import { render } from "preact";
import { App } from "./app";
import { save } from "./state/chats";
import { startRouting } from "./state/route";
import { loadCatalogue, startPolling } from "./state/server";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/chat.css";
import "./styles/messages.css";
import "./styles/candidates.css";
import "./styles/reader.css";
import "./styles/sidebar.css";
import "./styles/settings.css";
import "./styles/memory.css";
import "./styles/memory-hits.css";
import "./styles/memory-timeline.css";
import "./styles/lineage.css";

startRouting();
const root = document.getElementById("app");
if (root) render(<App />, root);
void loadCatalogue();
startPolling();
// A tab may be closed between a change and its delayed save.
addEventListener("pagehide", save);
