import { useEffect, useRef } from "preact/hooks";
import { apiKey, keyWanted } from "../state/server";
import { useStore } from "../state/store";
import { KeyForm } from "./settings-panel";

export function KeyDialog() {
  const wanted = useStore(keyWanted);
  const key = useStore(apiKey);
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (!wanted) return;
    dialog.current?.showModal();
    dialog.current?.querySelector("input")?.focus();
  }, [wanted]);
  if (!wanted) return null;
  return (
    // Closing leaves the page usable: a conversation can still be read without a key.
    <dialog ref={dialog} class="key-dialog" aria-labelledby="key-title" onClose={() => keyWanted.set(false)}>
      <h2 id="key-title">This server asks for an API key</h2>
      <p class="muted">
        {key ? "The server refused the key it was given." : "It is sent with every request from this tab."}
      </p>
      <KeyForm focus />
    </dialog>
  );
}
