import { expect, test } from "vitest";
import { EventParser, readEvents, type ServerEvent } from "../src/api/sse";

function parse(...pieces: string[]): ServerEvent[] {
  const parser = new EventParser();
  return pieces.flatMap((piece) => parser.feed(piece));
}

const STREAM =
  '\uFEFF: hello\n\nevent: note\nid: 7\ndata: {"a":1}\ndata:second\r\n\r\n: keep-alive\r\rdata: [DONE]\r\n\r\n';
const EVENTS = [
  { event: "note", data: '{"a":1}\nsecond' },
  { event: "message", data: "[DONE]" },
];

test("fields, comments, a byte order mark and all three line ends", () => {
  expect(parse(STREAM)).toEqual(EVENTS);
});

test("the result does not depend on where the stream is split", () => {
  expect(parse(...STREAM)).toEqual(EVENTS);
  for (let first = 0; first <= STREAM.length; first++) {
    for (let second = first; second <= STREAM.length; second += 3) {
      const pieces = [STREAM.slice(0, first), STREAM.slice(first, second), STREAM.slice(second)];
      expect(parse(...pieces)).toEqual(EVENTS);
    }
  }
});

test("an event waits for its empty line, and an event without data is dropped", () => {
  expect(parse("data: x\n")).toEqual([]);
  expect(parse("event: ping\n\n", "data\n\n")).toEqual([{ event: "message", data: "" }]);
});

test("only one space after the colon belongs to the syntax", () => {
  expect(parse("data:  two\n\n")[0]?.data).toBe(" two");
});

test("characters split between two network chunks are put together", async () => {
  const bytes = new TextEncoder().encode("data: Crème brûlée 🍮\n\n");
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
      controller.close();
    },
  });
  const seen: ServerEvent[] = [];
  for await (const event of readEvents(body)) seen.push(event);
  expect(seen).toEqual([{ event: "message", data: "Crème brûlée 🍮" }]);
});

test("leaving the loop cancels the body", async () => {
  let cancelled = false;
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new TextEncoder().encode("data: more\n\n")),
    cancel: () => void (cancelled = true),
  });
  for await (const event of readEvents(body)) {
    expect(event.data).toBe("more");
    break;
  }
  expect(cancelled).toBe(true);
});
