import type { DecodeReport } from "../api/contract";
import { count, duration, percent, plural } from "./wording";

const STOPPED: Record<string, string> = {
  complete: "complete",
  deadline: "by its deadline",
  budget: "by its budget",
};

/** The decode report: what the answer cost, and why the search ended. */
export function DecodeSummary({ report }: { report: DecodeReport }) {
  const { tokens, ms, reward, stopped_by: stopped } = report;
  const facts: [string, string][] = [];
  if (tokens) {
    const share = tokens.generated > 0 ? ` (${percent(tokens.discarded / tokens.generated)})` : "";
    facts.push(["Generated", plural(tokens.generated, "token")], ["Discarded", count(tokens.discarded) + share]);
  }
  if (ms?.total !== undefined) facts.push(["Took", duration(ms.total)]);
  if (reward) {
    const calls = reward.calls === undefined ? "" : `, ${plural(reward.calls, "call")}`;
    facts.push(["Reward", reward.name + calls]);
  }
  if (stopped) facts.push(["Ended", STOPPED[stopped] ?? stopped]);
  if (facts.length === 0) return null;
  return (
    <dl class="report">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
