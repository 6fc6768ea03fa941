/** Canned answers and catalogue of the fixture server. No model runs: the text is fixed. */

const FACTS = `restaurant: name The Harbour Table; cuisine seafood; price moderate; opens 17:30; phone 555-0142
restaurant: name Olive and Thyme; cuisine Mediterranean; price cheap; opens 12:00; phone 555-0177
restaurant: name Maison Verte; cuisine French; price expensive; opens 18:00; phone 555-0119`;

const EXAMPLES = [
  {
    title: "Compare restaurants",
    messages: [
      { role: "system", content: FACTS },
      { role: "user", content: "Which restaurant opens first, and what would you pick for a cheap dinner by the sea?" },
    ],
  },
  {
    title: "Plan an evening",
    messages: [
      { role: "system", content: FACTS },
      { role: "user", content: "We arrive at 17:00 and like seafood." },
      { role: "assistant", content: "The Harbour Table opens at 17:30 and serves seafood." },
      { role: "user", content: "Could you give me its number and a second choice?" },
    ],
  },
  {
    title: "One short question",
    messages: [
      { role: "system", content: FACTS },
      { role: "user", content: "When does Maison Verte open?" },
    ],
  },
];

const count = (standard, most, description) => ({
  type: "integer",
  default: standard,
  minimum: 1,
  maximum: most,
  description,
});
export const STRATEGIES = [
  { id: "sample", summary: "One answer, streamed as it grows.", params: { type: "object", properties: { n: count(1, 128, "Answers to write.") } }, needs: [], cost: "n answers" },
  {
    id: "best_of_n",
    summary: "Writes n answers and keeps the one the reward likes best.",
    params: { type: "object", properties: { n: count(8, 64, "Answers to write.") } },
    needs: ["reward"],
    cost: "n answers",
  },
  {
    id: "speculative_rejection",
    summary: "Best-of-n that drops weak answers while they are being written.",
    params: {
      type: "object",
      properties: {
        n: count(16, 64, "Answers to start."),
        alpha: { type: "number", default: 0.5, exclusiveMinimum: 0, exclusiveMaximum: 1, description: "Share dropped at each checkpoint." },
        keep_prefix: { type: "boolean", default: true, description: "Share the prompt's KV blocks." },
        decide: { type: "string", enum: ["score", "median"], default: "score", description: "How the cut is drawn." },
      },
    },
    needs: ["reward"],
    cost: "about n(1 − alpha) answers",
  },
];

export const REWARDS = [
  { id: "logprob", summary: "Mean log-probability under the model itself.", partial_ok: true },
  { id: "concierge-rm", summary: "A reward model trained on checked answers.", partial_ok: true },
];

export const MODELS = [
  { id: "concierge", object: "model", created: 1767225600, owned_by: "tenfold", tenfold: { context_length: 1024, examples: EXAMPLES, preset: null } },
  {
    id: "concierge@best",
    object: "model",
    created: 1767225600,
    owned_by: "tenfold",
    tenfold: { context_length: 1024, examples: EXAMPLES, preset: { strategy: "best_of_n", n: 8, reward: "logprob" } },
  },
];

const OPENINGS = [
  "**Olive and Thyme** opens first, at `12:00`.",
  "The first to open is **Olive and Thyme**, at 12:00.",
  "Olive and Thyme opens at noon, before the other two.",
  "Of the three, **Olive and Thyme** is the earliest: it opens at 12:00.",
];
const MIDDLES = [
  "For seafood I would look at:\n\n- **The Harbour Table**: seafood, moderate price, from 17:30\n- **Olive and Thyme**: Mediterranean and cheap, from 12:00",
  "It is also the cheap one, with Mediterranean food. By the sea, The Harbour Table serves seafood at a moderate price from 17:30.",
  "If the price matters most, stay with it. If you would rather have seafood, The Harbour Table is moderate in price and opens at 17:30.",
];
const ENDINGS = [
  "Would you like me to book a table, or give you the phone number?",
  "You can call Olive and Thyme on 555-0177.",
  "Maison Verte is the expensive choice, so I left it out. The Harbour Table's number is 555-0142.",
];

/** The answer of candidate `seed`, as a list of small pieces that stand for tokens. */
export function piecesOf(seed) {
  const pick = (list, step) => list[Math.floor(seed / step) % list.length];
  const text = [pick(OPENINGS, 1), pick(MIDDLES, 1), pick(ENDINGS, 2)].join(seed % 3 === 1 ? " " : "\n\n");
  return text.match(/\s*\S{1,6}/g);
}

/** A fixed but uneven score in about -1.2 .. -0.2, which moves a little with length. */
export function scoreOf(seed, tokens) {
  const base = Math.abs(Math.sin(seed * 12.9898 + 1) * 43758.5453) % 1;
  return -0.2 - base + 0.05 * Math.sin(tokens + seed);
}
