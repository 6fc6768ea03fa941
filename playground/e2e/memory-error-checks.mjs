/** What the memory page says when it is refused: no memory, no key, no trust, too much, a failure. */

import { Playground } from "./checks.mjs";

const WIDE = { width: 1440, height: 900 };

/** A real server without a memory. */
export async function checkNoMemory(browser, base, checks) {
  await checks.group("a server without a memory", async () => {
    const context = await browser.newContext({ viewport: WIDE });
    const page = await context.newPage();
    const view = new Playground(page, new URL("#/memory/timeline", base).href);
    await page.goto(view.base);
    await page.getByText("This server remembers nothing").waitFor();
    checks.expect(await page.getByText("tenfold serve --memory FOLDER").isVisible(), "the page says how to start one");
    await page.getByRole("link", { name: "Chat" }).click();
    await checks.eventually("chatting goes on", () => view.message.isVisible());
    checks.expect(view.complaints.length === 0, "the browser's console is clean", view.complaints.join(" | "));
    await context.close();
  });
}

const REFUSALS = [
  [403, "member_not_trusted", "X-Tenfold-Member is not trusted here (leave it out: the API key says who you are)"],
  [400, "member_missing", "X-Tenfold-Member is missing (name the member there)"],
  [429, "overloaded", "256 requests wait already"],
  [503, "memory_unavailable", "the memory cannot be used as it stands (the server's log says why)"],
  [500, "internal_error", "the server failed on this request (its log says why)"],
];

/** A real server with a memory, whose refusals are put between: it seldom gives them of itself. */
export async function checkMemoryErrors(browser, base, checks) {
  const context = await browser.newContext({ viewport: WIDE });
  const page = await context.newPage();
  const view = new Playground(page, new URL("#/memory/search", base).href);
  const ANY = "**/v1/memory/**";
  const refuse = async (status, code, message) => {
    await page.unroute(ANY);
    const body = JSON.stringify({ error: { message, type: "t", param: null, code } });
    await page.route(ANY, (route) => route.fulfill({ status, contentType: "application/json", body }));
  };
  for (const [status, code, message] of REFUSALS) {
    await checks.group(`${status} ${code}`, async () => {
      await refuse(status, code, message);
      await page.goto("about:blank");
      await page.goto(view.base);
      const problem = page.getByRole("alert");
      await problem.waitFor();
      const said = await problem.innerText();
      checks.expect(said.includes(message) && said.includes(`${status}`) && said.includes(code), "the message, status and code are shown", said);
      await page.unroute(ANY);
      await page.getByRole("button", { name: "Try again" }).click();
      await checks.eventually("trying again works", async () => (await problem.count()) === 0);
      await refuse(status, code, message);
      await page.getByLabel("Search the memory").fill("figs");
      await page.keyboard.press("Enter");
      await problem.waitFor();
      checks.expect((await page.getByLabel("Search the memory").inputValue()) === "figs", "a refused search keeps the query");
    });
  }
  await checks.group("401", async () => {
    await refuse(401, "invalid_api_key", "the API key is missing");
    await page.goto("about:blank");
    await page.goto(view.base);
    await page.getByRole("dialog").getByLabel("API key").waitFor();
    checks.expect(true, "the page asks for the key");
  });
  checks.expect(view.complaints.length === 0, "the browser's console is clean", view.complaints.join(" | "));
  await context.close();
}
