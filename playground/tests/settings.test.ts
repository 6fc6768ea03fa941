import { expect, test } from "vitest";
import type { Model, Strategy } from "../src/api/contract";
import { addAnswer, addTurn, editTurn, fromExample, messagesFor, newAnswer, newConversation } from "../src/state/conversation";
import { chosenModel, defaultSettings, mistakes, requestOf, restoreSettings } from "../src/state/settings";

const MODELS: Model[] = [
  { id: "concierge@best", tenfold: { preset: { strategy: "best_of_n", n: 8 } } },
  { id: "concierge", tenfold: { preset: null } },
];
const STRATEGIES: Strategy[] = [
  { id: "best_of_n", needs: ["reward"], params: { properties: { n: { type: "integer", default: 8, minimum: 1, maximum: 64 } } } },
];
const HELLO = [{ role: "user" as const, content: "Hello" }];

test("defaults send the model, the messages and nothing else of their own", () => {
  expect(requestOf(defaultSettings, MODELS, STRATEGIES, HELLO)).toEqual({
    model: "concierge",
    messages: HELLO,
    stream: true,
    stream_options: { include_usage: true, include_progress: true },
  });
});

test("a strategy is sent with its defaults, its reward and what was typed", () => {
  const settings = { ...defaultSettings, strategy: "best_of_n", reward: "logprob", sampling: { temperature: "0.7", seed: "" } };
  const request = requestOf(settings, MODELS, STRATEGIES, HELLO);
  expect(request.decode).toEqual({ strategy: "best_of_n", n: 8, reward: "logprob" });
  expect(request.temperature).toBe(0.7);
  expect("seed" in request).toBe(false);
});

test("a strategy the server no longer has is not sent", () => {
  expect(requestOf({ ...defaultSettings, strategy: "gone" }, MODELS, STRATEGIES, HELLO).decode).toBeUndefined();
});

test("the chosen model is kept while it exists", () => {
  expect(chosenModel({ ...defaultSettings, model: "concierge@best" }, MODELS)?.id).toBe("concierge@best");
  expect(chosenModel({ ...defaultSettings, model: "gone" }, MODELS)?.id).toBe("concierge");
  expect(chosenModel(defaultSettings, [])).toBeNull();
});

test("mistakes of both forms are named", () => {
  const settings = { ...defaultSettings, strategy: "best_of_n", params: { best_of_n: { n: 65 } }, sampling: { top_p: 0 } };
  expect(mistakes(settings, STRATEGIES)).toEqual(["Top-p: more than 0", "n: at most 64"]);
});

test("kept settings of any shape are survived", () => {
  expect(restoreSettings(null)).toEqual(defaultSettings);
  expect(restoreSettings({ model: 3, params: { x: { n: 2, odd: [] } }, sampling: "?" })).toEqual({
    ...defaultSettings,
    params: { x: { n: 2 } },
  });
});

test("messages: facts first, turns without an answer left out", () => {
  let talk = { ...newConversation(), facts: "The sky is green." };
  for (const [user, reply] of [["a", "1"], ["b", ""], ["c", "3"]] as const) {
    talk = addTurn(talk, user);
    talk = addAnswer(talk, talk.turns.at(-1)?.id ?? "", { ...newAnswer("m", ""), text: reply });
  }
  const sent = messagesFor(talk, talk.turns.at(-1)?.id ?? "");
  expect(sent.map((message) => message.content)).toEqual(["The sky is green.", "a", "1", "c"]);
});

test("editing drops what came after, and keeps the draft", () => {
  let talk = addTurn(addTurn(newConversation(), "a"), "b");
  talk = { ...talk, draft: "later" };
  const edited = editTurn(talk, talk.turns[0]?.id ?? "", "A");
  expect(edited.turns.map((turn) => turn.user)).toEqual(["A"]);
  expect(edited.draft).toBe("later");
});

test("an example becomes facts, turns and a draft", () => {
  const example = {
    title: "t",
    messages: [
      { role: "system" as const, content: "facts" },
      { role: "user" as const, content: "a" },
      { role: "assistant" as const, content: "1" },
      { role: "user" as const, content: "b" },
    ],
  };
  const talk = fromExample(newConversation(), example, "concierge");
  expect([talk.facts, talk.turns.length, talk.turns[0]?.answers[0]?.text, talk.draft]).toEqual(["facts", 1, "1", "b"]);
});
