/** Checks against a real tenfold server: nothing is assumed about the words of its answers. */

import { Playground } from "./checks.mjs";

const PATIENCE_MS = 90_000;
const CANDIDATES = 4;

export async function checkReal(browser, base, checks) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  const view = new Playground(page, base);
  await view.open();
  const example = page.locator(".examples button").first();
  await checks.eventually("the server's examples are offered", () => example.isVisible(), PATIENCE_MS);
  const first = await view.generated();

  const fromExample = async (strategy, params) => {
    await view.button("New chat").click();
    await example.click();
    await view.strategy(strategy, params);
    await view.message.press("Enter");
  };

  await checks.group("a streamed answer", async () => {
    await fromExample("sample");
    await view.settled(PATIENCE_MS);
    checks.expect((await view.lastAnswer.getAttribute("data-state")) === "done", "it is complete", await view.lastAnswer.innerText());
    checks.expect((await view.answerText()).trim().length > 0, "it has text");
    checks.expect(/\d+ tokens?/.test(await view.lastAnswer.locator(".meta").innerText()), "its tokens are counted");
    await checks.eventually("the engine's figures change", async () => (await view.generated()) > first, 8000);
  });

  await checks.group("stop", async () => {
    // Many candidates last long enough to be stopped, even on a fast machine.
    await fromExample("best_of_n", { n: 128 });
    await page.locator(".tile").first().waitFor({ timeout: PATIENCE_MS });
    await view.button("Stop").click();
    await view.settled(PATIENCE_MS);
    checks.expect((await view.lastAnswer.getAttribute("data-state")) === "stopped", "the answer is marked as stopped");
    await checks.eventually("nothing is left running", () => page.getByText("0 running").isVisible(), 8000);
  });

  await checks.group("best of n", async () => {
    await fromExample("best_of_n", { n: CANDIDATES });
    await view.settled(PATIENCE_MS);
    checks.expect((await page.locator(".tile").count()) === CANDIDATES, `${CANDIDATES} candidates are shown`, String(await page.locator(".tile").count()));
    checks.expect((await page.locator(".tile.winner").count()) === 1, "one is the winner");
    checks.expect(/Generated/.test(await page.locator(".report").innerText()), "the decode report is shown");
    await page.locator(".tile.winner").click();
    const plain = (text) => text.replaceAll(/\s+/g, " ").trim();
    const read = plain(await page.getByRole("dialog").locator(".prose").innerText());
    await page.keyboard.press("Escape");
    checks.expect(read === plain(await view.answerText()), "the winner's text is the answer", read);
  });

  checks.expect(view.complaints.length === 0, "the browser's console is clean", view.complaints.join(" | "));
  await context.close();
}
