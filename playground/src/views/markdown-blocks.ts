/** Light markdown as data: what models commonly write, and nothing that could run. */

export type Inline =
  | { kind: "text"; text: string }
  | { kind: "code"; text: string }
  | { kind: "strong" | "em"; parts: Inline[] };

export type Block =
  | { kind: "paragraph"; parts: Inline[] }
  | { kind: "heading"; parts: Inline[] }
  | { kind: "code"; text: string; language: string }
  | { kind: "list"; ordered: boolean; start: number; items: Inline[][] };

const FENCE = /^\s*```\s*([\w+-]*)\s*$/;
const BULLET = /^\s*[-*•]\s+(.*)$/;
const NUMBER = /^\s*(\d{1,4})[.)]\s+(.*)$/;
const HEADING = /^#{1,6}\s+(.*)$/;

export function blocksOf(source: string): Block[] {
  const blocks: Block[] = [];
  const lines = source.replaceAll("\r\n", "\n").split("\n");
  let paragraph: string[] = [];
  const endParagraph = () => {
    if (paragraph.length > 0) blocks.push({ kind: "paragraph", parts: inlineOf(paragraph.join("\n")) });
    paragraph = [];
  };
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? "";
    const fence = FENCE.exec(line);
    if (fence) {
      endParagraph();
      const close = lines.findIndex((one, index) => index > at && /^\s*```\s*$/.test(one));
      const end = close < 0 ? lines.length : close; // still streaming: the rest is code for now
      blocks.push({ kind: "code", text: lines.slice(at + 1, end).join("\n"), language: fence[1] ?? "" });
      at = end;
    } else if (line.trim() === "") {
      endParagraph();
    } else if (HEADING.test(line)) {
      endParagraph();
      blocks.push({ kind: "heading", parts: inlineOf(HEADING.exec(line)?.[1] ?? "") });
    } else if (BULLET.test(line) || NUMBER.test(line)) {
      endParagraph();
      addItem(blocks, line, lines[at - 1]?.trim() === "");
    } else if (/^\s{2,}\S/.test(line) && paragraph.length === 0 && blocks.at(-1)?.kind === "list") {
      const list = blocks.at(-1) as Extract<Block, { kind: "list" }>;
      list.items.at(-1)?.push({ kind: "text", text: "\n" }, ...inlineOf(line.trim()));
    } else {
      paragraph.push(line);
    }
  }
  endParagraph();
  return blocks;
}

function addItem(blocks: Block[], line: string, afterGap: boolean): void {
  const number = NUMBER.exec(line);
  const ordered = number !== null;
  const text = ordered ? (number[2] ?? "") : (BULLET.exec(line)?.[1] ?? "");
  const last = blocks.at(-1);
  const start = Number(number?.[1] ?? 1);
  const continues = last?.kind === "list" && last.ordered === ordered && !(afterGap && ordered && start === 1);
  if (continues) last.items.push(inlineOf(text));
  else blocks.push({ kind: "list", ordered, start, items: [inlineOf(text)] });
}

// Emphasis must hug its words, so that "2 * 3 * 4" and "a_long_name" stay as written.
const INLINE = /(`+)(.+?)\1(?!`)|\*\*(?=\S)(.+?\S|\S)\*\*(?!\*)|(?<![\w*])\*(?=[^\s*])([^*\n]*[^\s*])\*(?![\w*])/s;

export function inlineOf(source: string): Inline[] {
  const parts: Inline[] = [];
  let rest = source;
  for (;;) {
    const found = INLINE.exec(rest);
    if (!found) break;
    if (found.index > 0) parts.push({ kind: "text", text: rest.slice(0, found.index) });
    if (found[2] !== undefined) parts.push({ kind: "code", text: found[2].trim() || found[2] });
    else if (found[3] !== undefined) parts.push({ kind: "strong", parts: inlineOf(found[3]) });
    else parts.push({ kind: "em", parts: inlineOf(found[4] ?? "") });
    rest = rest.slice(found.index + found[0].length);
  }
  if (rest) parts.push({ kind: "text", text: rest });
  return parts;
}

/** The words alone, for places too small for layout. */
export function plainOf(source: string): string {
  const words = (parts: Inline[]): string =>
    parts.map((part) => ("text" in part ? part.text : words(part.parts))).join("");
  return words(inlineOf(source));
}
