/** The fixture's chat completions: checks the request, then streams canned candidates. */

import { MODELS, piecesOf, REWARDS, scoreOf, STRATEGIES } from "./fixture-model.mjs";

const FIELDS = new Set([
  "model", "messages", "temperature", "top_p", "top_k", "max_tokens", "seed", "stream", "stream_options", "decode",
]);
const CHECKPOINTS = [12, 24, 48];
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The first thing wrong with a request, as [message, param], or null. */
function mistake(body) {
  const odd = Object.keys(body).find((name) => !FIELDS.has(name));
  if (odd) return [`Unknown field '${odd}'.`, odd];
  if (!MODELS.some((model) => model.id === body.model)) return [`No model '${body.model}'. Try 'concierge'.`, "model"];
  const said = body.messages.at(-1).content;
  if (said.includes("unknown field")) return ["Unknown field 'decode.alhpa'. Did you mean 'decode.alpha'?", "decode.alhpa"];
  const roles = body.messages.map((message) => message.role).filter((role) => role !== "system");
  const alternate = roles.every((role, at) => role === (at % 2 === 0 ? "user" : "assistant"));
  if (!alternate) return ["Messages must alternate between user and assistant.", "messages"];
  if (!body.decode) return null;
  const { strategy, reward, budget: _limits, ...params } = body.decode;
  const known = STRATEGIES.find((one) => one.id === strategy);
  if (!known) return [`No strategy '${strategy}'.`, "decode.strategy"];
  const extra = Object.keys(params).find((name) => !(name in known.params.properties));
  if (extra) return [`Unknown field 'decode.${extra}'.`, `decode.${extra}`];
  if (reward && !REWARDS.some((one) => one.id === reward)) return [`No reward '${reward}'.`, "decode.reward"];
  if (params.n !== undefined && !Number.isInteger(params.n)) return ["'decode.n' must be an integer.", "decode.n"];
  return null;
}

export async function respond(body, response, engine, problem) {
  const wrong = mistake(body);
  if (wrong) return problem(response, 400, wrong[0], { param: wrong[1], code: "invalid_value" });
  const said = body.messages.at(-1).content;
  if (said.includes("overload")) {
    return problem(response, 429, "The waiting queue is full (64 sequences). Try again in a moment.", {
      type: "rate_limit_error",
      code: "queue_full",
    });
  }
  const stream = new Stream(body, response, engine);
  response.on("close", () => stream.close());
  await stream.run(said);
}

class Stream {
  constructor(body, response, engine) {
    this.response = response;
    this.engine = engine;
    this.model = body.model;
    this.open = true;
    const preset = MODELS.find((model) => model.id === body.model).tenfold.preset;
    this.decode = body.decode ?? preset ?? { strategy: "sample" };
    const given = STRATEGIES.find((one) => one.id === this.decode.strategy).params.properties;
    this.n = this.decode.n ?? given.n.default;
    this.limit = body.max_tokens ?? 400;
    this.seed = body.seed ?? engine.generated;
    this.started = Date.now();
    this.promptTokens = Math.ceil(JSON.stringify(body.messages).length / 4);
    this.generated = 0;
    this.done = false;
  }

  close() {
    this.open = false;
    if (!this.done) this.engine.aborted += 1;
  }

  async run(said) {
    this.response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
    this.engine.prompt += this.promptTokens;
    this.engine.running += this.n;
    this.chunk({ role: "assistant", content: "" });
    try {
      const finished = this.decode.strategy === "sample" ? await this.sample(said) : await this.select();
      if (!this.open || finished === null) return;
      this.chunk({}, finished);
      const usage = {
        prompt_tokens: this.promptTokens,
        completion_tokens: this.generated,
        total_tokens: this.promptTokens + this.generated,
      };
      this.write({ object: "chat.completion.chunk", model: this.model, choices: [], usage });
      this.response.write("data: [DONE]\n\n");
      this.done = true;
      this.response.end();
    } finally {
      this.engine.running -= this.n;
    }
  }

  /** Every line is sent in two halves, so that the page always meets split chunks. */
  write(data) {
    const line = `data: ${JSON.stringify(data)}\n\n`;
    const middle = Math.floor(line.length / 2);
    this.response.write(line.slice(0, middle));
    this.response.write(line.slice(middle));
  }

  chunk(delta, finish = null, extra = {}, index = 0) {
    this.write({ object: "chat.completion.chunk", model: this.model, choices: [{ index, delta, finish_reason: finish }], ...extra });
  }

  spend(tokens) {
    this.generated += tokens;
    this.engine.generated += tokens;
    for (let each = 0; each < tokens; each++) this.engine.recent.push(Date.now());
  }

  async sample(said) {
    const long = said.includes("at length") ? 12 : 1;
    const pieces = Array.from({ length: long }, (_, at) => [...piecesOf(this.seed + at), "\n\n"]).flat();
    for (const [at, piece] of pieces.slice(0, this.limit).entries()) {
      if (!this.open) return null;
      if (at === 10 && said.includes("break off")) {
        this.response.end();
        return null;
      }
      if (at === 10 && said.includes("fail midway")) {
        this.write({ error: { message: "The engine stopped: out of KV blocks.", type: "server_error", param: null, code: "kv_exhausted" } });
        this.response.end();
        return null;
      }
      this.chunk({ content: piece });
      for (let index = 1; index < this.n; index++) {
        this.chunk({ content: piecesOf(this.seed + index)[at] ?? "" }, null, {}, index);
      }
      this.spend(this.n);
      await wait(this.engine.pace);
    }
    return pieces.length > this.limit ? "length" : "stop";
  }

  async select() {
    const all = Array.from({ length: this.n }, (_, id) => piecesOf(this.seed + id).slice(0, this.limit));
    const cuts = this.decode.strategy === "speculative_rejection" ? CHECKPOINTS : [];
    const checkpoints = [];
    let alive = all.map((_, id) => id);
    const progress = (event) => this.chunk({}, null, { decode: event });
    for (let at = 0; alive.some((id) => at < all[id].length); at += 4) {
      if (!this.open) return null;
      this.response.write(": keep-alive\n\n");
      for (const id of alive) {
        const pieces = all[id].slice(at, at + 4);
        if (pieces.length === 0) continue;
        progress({ event: "tokens", candidate: id, text: pieces.join(""), tokens: pieces.length });
        this.spend(pieces.length);
      }
      if (cuts.includes(at + 4) && alive.length > 1) {
        const scores = Object.fromEntries(alive.map((id) => [id, scoreOf(this.seed + id, at)]));
        const ranked = [...alive].sort((left, right) => scores[right] - scores[left]);
        const keep = Math.max(1, Math.round(alive.length * (1 - (this.decode.alpha ?? 0.5))));
        const [kept, cut] = [ranked.slice(0, keep), ranked.slice(keep)].map((ids) => ids.sort((a, b) => a - b));
        progress({ event: "checkpoint", tokens: at + 4, alive: kept, cut, scores });
        checkpoints.push({ tokens: at + 4, alive: kept.length, cut: cut.length });
        this.engine.dropped += cut.length * (at + 4);
        alive = kept;
      }
      await wait(this.engine.pace * 4);
    }
    const scores = Object.fromEntries(alive.map((id) => [id, scoreOf(this.seed + id, all[id].length)]));
    const winner = [...alive].sort((left, right) => scores[right] - scores[left])[0];
    if (cuts.length === 0) {
      const tokens = Math.max(...all.map((pieces) => pieces.length));
      progress({ event: "checkpoint", tokens, alive: [winner], cut: alive.filter((id) => id !== winner), scores });
      checkpoints.push({ tokens, alive: 1, cut: this.n - 1 });
    }
    progress({
      event: "result",
      strategy: this.decode.strategy,
      params: this.decode,
      winner,
      scores,
      candidates: { started: this.n, finished: alive.length, dropped: this.n - alive.length },
      checkpoints,
      tokens: { generated: this.generated, discarded: this.generated - all[winner].length },
      reward: { name: this.decode.reward ?? "logprob", calls: checkpoints.length + 1, tokens: 0 },
      ms: { total: Date.now() - this.started },
      stopped_by: "complete",
    });
    this.chunk({ content: all[winner].join("") });
    return "stop";
  }
}
