import { render } from "preact";
import { App } from "./app";
import { save } from "./state/chats";
import { loadCatalogue, startPolling } from "./state/server";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/chat.css";
import "./styles/messages.css";
import "./styles/candidates.css";
import "./styles/reader.css";
import "./styles/sidebar.css";
import "./styles/settings.css";

const root = document.getElementById("app");
if (root) render(<App />, root);
void loadCatalogue();
startPolling();
// A tab may be closed between a change and its delayed save.
addEventListener("pagehide", save);
