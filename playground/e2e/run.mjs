/** Drives the playground in a browser: BASE_URL=… node e2e/run.mjs [--real | --memory]
 *
 *  Without --real the server must be the fixture (e2e/fixture-server.mjs), whose rare states are
 *  checked too. With --real it is any tenfold server without a memory; nothing is assumed about its
 *  words. With --memory it is one with an empty memory and the embedder "words". */

import { withBrowser } from "./browser.mjs";
import { Checks } from "./checks.mjs";
import { checkChat } from "./chat-checks.mjs";
import { checkErrors } from "./error-checks.mjs";
import { checkMemory } from "./memory-checks.mjs";
import { checkMemoryErrors, checkNoMemory } from "./memory-error-checks.mjs";
import { checkReal } from "./real-checks.mjs";
import { checkSearch } from "./search-checks.mjs";

const base = process.env.BASE_URL;
if (!base) {
  console.error("Set BASE_URL to the address of the playground.");
  process.exit(2);
}
const address = base.endsWith("/") ? base : `${base}/`;
const checks = new Checks();
await withBrowser(async (browser) => {
  const suites = process.argv.includes("--memory")
    ? [checkMemory, checkMemoryErrors]
    : process.argv.includes("--real")
      ? [checkNoMemory, checkReal]
      : [checkChat, checkSearch, checkErrors];
  for (const suite of suites) await suite(browser, address, checks);
});
console.log(checks.failed === 0 ? "\nall checks passed" : `\n${checks.failed} failed`);
process.exit(checks.failed === 0 ? 0 : 1);
