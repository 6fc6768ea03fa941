/** Draws model text as elements. Text only ever becomes text nodes, never markup. */

import { useMemo } from "preact/hooks";
import { blocksOf, type Block, type Inline } from "./markdown-blocks";

export function Markdown({ text }: { text: string }) {
  const blocks = useMemo(() => blocksOf(text), [text]);
  return (
    <div class="prose">
      {blocks.map((block, at) => (
        <BlockView key={at} block={block} />
      ))}
    </div>
  );
}

function BlockView({ block }: { block: Block }) {
  switch (block.kind) {
    case "paragraph":
      return <p>{inline(block.parts)}</p>;
    case "heading":
      return <p class="heading">{inline(block.parts)}</p>;
    case "code":
      return (
        <pre tabIndex={0}>
          <code>{block.text}</code>
        </pre>
      );
    case "list": {
      const items = block.items.map((item, at) => <li key={at}>{inline(item)}</li>);
      return block.ordered ? <ol start={block.start}>{items}</ol> : <ul>{items}</ul>;
    }
  }
}

function inline(parts: Inline[]) {
  return parts.map((part, at) => {
    if (part.kind === "text") return part.text;
    if (part.kind === "code") return <code key={at}>{part.text}</code>;
    return part.kind === "strong" ? (
      <strong key={at}>{inline(part.parts)}</strong>
    ) : (
      <em key={at}>{inline(part.parts)}</em>
    );
  });
}
