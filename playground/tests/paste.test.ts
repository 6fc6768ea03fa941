import { expect, test } from "vitest";
import { eventsOf, isAssistant, likelySelf, parsePaste, speakersOf } from "../src/state/paste";

const HOW = { self: "Ada", conversation: "tea", scope: "private", validAt: undefined, paste: "p" };

test("lines of Name: text become what each one said, with lines that go on", () => {
  const said = parsePaste("Ada: I moved.\nTo Lisbon, at 10:30.\n\nBen Müller: See https://example.org\nAssistant: Noted!");
  expect(said).toEqual([
    { speaker: "Ada", text: "I moved.\nTo Lisbon, at 10:30." },
    { speaker: "Ben Müller", text: "See https://example.org" },
    { speaker: "Assistant", text: "Noted!" },
  ]);
  expect(speakersOf(said)).toEqual(["Ada", "Ben Müller", "Assistant"]);
});

test("bold names, as chats are copied, are names", () => {
  expect(parsePaste("**Ada**: Hello\n**Ben:** Hi").map((one) => one.speaker)).toEqual(["Ada", "Ben"]);
});

test("an address or a time at the start of a line is no speaker", () => {
  expect(parsePaste("https://example.org is good\n10:30 is the time")).toEqual([
    { speaker: "", text: "https://example.org is good\n10:30 is the time" },
  ]);
});

test("chat messages in JSON are read, without the system's", () => {
  const list = [
    { role: "system", content: "Be brief." },
    { role: "user", content: [{ type: "text", text: "Hello" }, { type: "image_url" }] },
    { role: "assistant", content: "Hi", name: "Npc" },
    { role: "assistant", content: null },
  ];
  const expected = [
    { speaker: "user", text: "Hello" },
    { speaker: "Npc", text: "Hi" },
  ];
  expect(parsePaste(JSON.stringify(list))).toEqual(expected);
  expect(parsePaste(JSON.stringify({ messages: list }))).toEqual(expected);
  expect(parsePaste(list.map((one) => JSON.stringify(one)).join("\n"))).toEqual(expected);
});

test("what only looks like JSON is text", () => {
  expect(parsePaste("[laughs] Well.")).toEqual([{ speaker: "", text: "[laughs] Well." }]);
  expect(parsePaste("{not json")).toEqual([{ speaker: "", text: "{not json" }]);
  expect(parsePaste("  \n ")).toEqual([]);
});

test("who one is follows the names, and nobody is guessed among several", () => {
  expect(likelySelf(["user", "assistant"], "me")).toBe("user");
  expect(likelySelf(["Ben", "Ada"], "ada")).toBe("Ada");
  expect(likelySelf(["Ben", "Assistant"], "me")).toBe("Ben");
  expect(likelySelf(["Ben", "Carol"], "me")).toBe("");
  expect(isAssistant("ChatGPT")).toBe(true);
});

test("what others say is about them, one's own words are one's own, and order is kept", () => {
  const said = parsePaste("Ada: I live in Porto.\nBen: I live in Faro.\nAssistant: Noted.");
  const events = eventsOf(said, { ...HOW, validAt: "2026-05-01T10:00:00.000Z" });
  expect(events.map(({ role, subject, provenance, valid_at }) => [role, subject, provenance, valid_at])).toEqual([
    ["user", undefined, undefined, "2026-05-01T10:00:00.000Z"],
    ["user", "Ben", { speaker: "Ben" }, "2026-05-01T10:00:01.000Z"],
    ["assistant", undefined, undefined, "2026-05-01T10:00:02.000Z"],
  ]);
  // The same paste sent again has the same keys: the server then keeps what it has.
  expect(eventsOf(said, HOW).map((event) => event.key)).toEqual(["p:0", "p:1", "p:2"]);
});
