import { expect, test } from "vitest";
import { blocksOf, inlineOf, plainOf } from "../src/views/markdown-blocks";

test("paragraphs, lists, headings and code", () => {
  const source = "# Title\nOne\ntwo\n\n- a\n- **b**\n  more\n\n2. x\n3) y\n\n```py\n1 < 2\n\n- no\n```\nend";
  expect(blocksOf(source).map((block) => block.kind)).toEqual(["heading", "paragraph", "list", "list", "code", "paragraph"]);
  expect(blocksOf(source)[2]).toMatchObject({ ordered: false, items: [[{ text: "a" }], [{ kind: "strong" }, { text: "\n" }, { text: "more" }]] });
  expect(blocksOf(source)[3]).toMatchObject({ ordered: true, start: 2 });
  expect(blocksOf(source)[4]).toEqual({ kind: "code", text: "1 < 2\n\n- no", language: "py" });
});

test("a fence that is still open is code to the end", () => {
  expect(blocksOf("```\nhalf")).toEqual([{ kind: "code", text: "half", language: "" }]);
});

test("emphasis hugs its words", () => {
  expect(inlineOf("2 * 3 * 4 and a_long_name")).toEqual([{ kind: "text", text: "2 * 3 * 4 and a_long_name" }]);
  expect(inlineOf("**open")).toEqual([{ kind: "text", text: "**open" }]);
  expect(inlineOf("**a *b* c**")).toMatchObject([{ kind: "strong", parts: [{}, { kind: "em" }, {}] }]);
  expect(inlineOf("`**x**`")).toEqual([{ kind: "code", text: "**x**" }]);
});

test("markup is text", () => {
  expect(blocksOf("<script>alert(1)</script>")).toEqual([
    { kind: "paragraph", parts: [{ kind: "text", text: "<script>alert(1)</script>" }] },
  ]);
});

test("plain words for small places", () => {
  expect(plainOf("The **Harbour *Table*** at `17:30`")).toBe("The Harbour Table at 17:30");
});

test.each(["*a ", "`", "**", "**a ", "`` ", "- "])("a long run of %j comes to an end", (piece) => {
  expect(plainOf(piece.repeat(3000)).length).toBeGreaterThan(0);
});
