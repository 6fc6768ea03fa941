/** Server-sent events, fed piecewise: a chunk may end anywhere, even inside "\r\n". */

export interface ServerEvent {
  event: string;
  data: string;
}

export class EventParser {
  private line = "";
  private data: string[] = [];
  private event = "";
  private started = false;
  private sawReturn = false;

  /** Takes decoded text and returns the events it completed. */
  feed(text: string): ServerEvent[] {
    const out: ServerEvent[] = [];
    let from = 0;
    if (!this.started && text.length > 0) {
      this.started = true;
      if (text.charCodeAt(0) === 0xfeff) from = 1;
    }
    for (let at = from; at < text.length; at++) {
      const char = text[at];
      if (char !== "\n" && char !== "\r") continue;
      if (char === "\n" && this.sawReturn && at === from) {
        // Second half of a "\r\n" whose "\r" already ended the line.
        this.sawReturn = false;
        from = at + 1;
        continue;
      }
      this.endLine(this.line + text.slice(from, at), out);
      this.line = "";
      this.sawReturn = char === "\r";
      from = at + 1;
    }
    if (from < text.length) {
      this.line += text.slice(from);
      this.sawReturn = false;
    }
    return out;
  }

  private endLine(line: string, out: ServerEvent[]): void {
    if (line === "") {
      if (this.data.length > 0) {
        out.push({ event: this.event || "message", data: this.data.join("\n") });
      }
      this.data = [];
      this.event = "";
      return;
    }
    if (line.startsWith(":")) return; // a comment: the server keeps the connection open
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const rest = colon < 0 ? "" : line.slice(colon + 1);
    const value = rest.startsWith(" ") ? rest.slice(1) : rest;
    if (field === "data") this.data.push(value);
    else if (field === "event") this.event = value;
  }
}

/** Reads a response body as events; the reader is released however the caller leaves the loop. */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder(); // holds back a character split between two chunks
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      yield* parser.feed(decoder.decode(value, { stream: true }));
    }
    yield* parser.feed(decoder.decode());
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
