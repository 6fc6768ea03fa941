/** What the engine is doing right now, polled once a second. */

import { figures, HISTORY } from "../state/server";
import { useStore } from "../state/store";
import { compact, count, percent, speed } from "./wording";

export function EngineFigures() {
  const { stats, speeds, live } = useStore(figures);
  if (!stats) {
    return (
      <section class="engine" aria-label="Engine">
        <h2>Engine</h2>
        <p class="muted">{live ? "Waiting for figures…" : "No figures from the server yet."}</p>
      </section>
    );
  }
  const { kv, sequences, tokens } = stats;
  const paused = sequences.paused > 0 ? ` · ${count(sequences.paused)} paused` : "";
  return (
    <section class={live ? "engine" : "engine stale"} aria-label="Engine">
      <h2>
        Engine <span class="muted">{live ? `${stats.executor} · ${stats.dtype}` : "not answering"}</span>
      </h2>
      <div class="speed">
        <p>
          <strong data-figure="speed">{speed(stats.tokens_per_second)}</strong> <span class="muted">tokens/s</span>
        </p>
        <Sparkline values={speeds} />
      </div>
      <KvBar used={kv.blocks_used} cached={kv.blocks_cached} total={kv.blocks_total} />
      <dl class="figures-list">
        <Figure name="Sequences" value={`${count(sequences.running)} running · ${count(sequences.waiting)} waiting${paused}`} />
        <Figure name="Prefix cache hits" value={percent(stats.prefix_cache_hit_rate)} />
        <Figure name="Generated" value={`${compact(tokens.generated)} tokens`} id="generated" />
        <Figure name="Dropped" value={`${compact(tokens.dropped)} tokens`} />
        <Figure name="Prompt" value={`${compact(tokens.prompt)} · ${compact(tokens.cached)} cached`} />
      </dl>
    </section>
  );
}

function Figure({ name, value, id }: { name: string; value: string; id?: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd data-figure={id}>{value}</dd>
    </div>
  );
}

function KvBar({ used, cached, total }: { used: number; cached: number; total: number }) {
  const share = (blocks: number) => (total > 0 ? Math.min(100, (100 * blocks) / total) : 0);
  const words = `${count(used)} of ${count(total)} KV blocks used, ${count(cached)} cached`;
  return (
    <div class="kv">
      <p>
        <span class="muted">KV blocks</span>
        <span>{count(total)}</span>
      </p>
      <div class="kv-bar" role="img" aria-label={words} title={words}>
        <span class="kv-used" style={{ width: `${share(used)}%` }} />
        <span class="kv-cached" style={{ width: `${Math.min(share(cached), 100 - share(used))}%` }} />
      </div>
      <p class="kv-legend" aria-hidden="true">
        <span class="kv-used">{count(used)} used</span>
        <span class="kv-cached">{count(cached)} cached</span>
        <span class="kv-free">{count(Math.max(0, total - used - cached))} free</span>
      </p>
    </div>
  );
}

/** The last minute, newest at the right edge; its height is the minute's own maximum. */
function Sparkline({ values }: { values: number[] }) {
  const top = Math.max(1, ...values);
  const first = HISTORY - values.length;
  const points = values.map((value, at) => `${first + at},${(22 - (20 * value) / top).toFixed(2)}`);
  const line = points.join(" ");
  return (
    <svg class="sparkline" viewBox={`0 0 ${HISTORY - 1} 24`} preserveAspectRatio="none" aria-hidden="true">
      {points.length > 1 && (
        <>
          <polygon points={`${first},24 ${line} ${HISTORY - 1},24`} />
          <polyline points={line} />
        </>
      )}
    </svg>
  );
}
