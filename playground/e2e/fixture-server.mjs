/** A small server that speaks tenfold's HTTP contract with canned text, for checks of states that a
 *  real server reaches rarely. `node e2e/fixture-server.mjs [--port N] [--static DIR] [--pace MS]`.
 *
 *  Words in the last user message choose the state: "unknown field" answers 400, "overload" 429,
 *  "break off" ends the stream early, "fail midway" sends an error inside the stream.
 *  Everything under /locked/ wants the key "open-sesame" (and shows that addresses are relative). */

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { respond } from "./fixture-completion.mjs";
import { MODELS, REWARDS, STRATEGIES } from "./fixture-model.mjs";

const { values: options } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    static: {
      type: "string",
      default: fileURLToPath(new URL("../../src/tenfold/server/static", import.meta.url)),
    },
    pace: { type: "string", default: "12" },
  },
});

const KEY = "open-sesame";
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const started = Date.now();
const engine = { pace: Number(options.pace), running: 0, aborted: 0, prompt: 0, generated: 0, dropped: 0, recent: [] };

function stats() {
  const now = Date.now();
  engine.recent = engine.recent.filter((at) => now - at < 1000);
  return {
    model: "concierge",
    executor: "fixture",
    dtype: "float32",
    kv: { blocks_total: 512, blocks_used: Math.min(512, engine.running * 6), blocks_cached: Math.min(96, Math.ceil(engine.prompt / 16)), block_size: 16 },
    sequences: { running: engine.running, waiting: 0, paused: 0 },
    tokens: { prompt: engine.prompt, generated: engine.generated, dropped: engine.dropped, cached: Math.floor(engine.prompt / 2) },
    tokens_per_second: engine.recent.length,
    prefix_cache_hit_rate: engine.prompt > 0 ? 0.5 : 0,
    uptime_s: (now - started) / 1000,
    aborted: engine.aborted,
  };
}

function json(response, status, body) {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(body));
}

function problem(response, status, message, { param = null, type = "invalid_request_error", code = null } = {}) {
  json(response, status, { error: { message, type, param, code } });
}

async function page(response, path) {
  const file = normalize(path).replace(/^\/+/, "") || "index.html";
  try {
    const body = await readFile(join(options.static, file));
    response.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", "Cache-Control": "no-cache" });
    response.end(body);
  } catch {
    problem(response, 404, `Nothing is served at ${path}.`, { type: "not_found_error" });
  }
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString());
}

const server = createServer(async (request, response) => {
  let path = new URL(request.url, "http://localhost").pathname;
  const locked = path.startsWith("/locked/");
  if (locked) path = path.slice("/locked".length);
  if (!path.startsWith("/v1/")) return page(response, path);
  if (locked && request.headers.authorization !== `Bearer ${KEY}`) {
    return problem(response, 401, "An API key is needed. Send it as 'Authorization: Bearer KEY'.", {
      type: "authentication_error",
      code: "invalid_api_key",
    });
  }
  if (path === "/v1/models") return json(response, 200, { object: "list", data: MODELS });
  if (path === "/v1/strategies") return json(response, 200, { object: "list", data: STRATEGIES, rewards: REWARDS });
  if (path === "/v1/stats") return json(response, 200, stats());
  if (path !== "/v1/chat/completions" || request.method !== "POST") {
    return problem(response, 404, `No such endpoint: ${path}.`, { type: "not_found_error" });
  }
  try {
    await respond(await bodyOf(request), response, engine, problem);
  } catch (thrown) {
    if (response.headersSent) response.destroy();
    else problem(response, 400, String(thrown));
  }
});

server.listen(Number(options.port), "127.0.0.1", () => {
  console.log(`listening http://127.0.0.1:${server.address().port}`);
});
