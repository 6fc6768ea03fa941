import { useEffect, useState } from "preact/hooks";
import { announce } from "./announcer";
import { IconButton } from "./icon";

/** navigator.clipboard exists only in secure contexts; a server on the local network is not one. */
async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "offscreen";
    // Inside an open dialog only the dialog's own content can be selected.
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

export function CopyButton({ text, label = "Copy" }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return;
    const timer = setTimeout(() => setDone(false), 1500);
    return () => clearTimeout(timer);
  }, [done]);
  const onClick = async () => {
    const copied = await copy(text);
    setDone(copied);
    announce(copied ? "Copied" : "The browser refused to copy");
  };
  return <IconButton icon={done ? "check" : "copy"} label={label} onClick={() => void onClick()} />;
}
