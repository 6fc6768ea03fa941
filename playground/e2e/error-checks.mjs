/** What goes wrong is shown in full, and never costs the user's words. */

import { Playground } from "./checks.mjs";

const WIDE = { width: 1440, height: 900 };

export async function checkErrors(browser, base, checks) {
  await checks.group("errors of a request", async () => {
    const context = await browser.newContext({ viewport: WIDE });
    const page = await context.newPage();
    const view = new Playground(page, base);
    await view.open();
    const problem = page.getByRole("alert").last();

    await view.ask("Please send an unknown field.");
    await view.settled();
    const said = await problem.innerText();
    checks.expect(said.includes("Did you mean 'decode.alpha'?") && said.includes("decode.alhpa"), "message and param are shown", said);
    checks.expect((await page.locator(".bubble").innerText()) === "Please send an unknown field.", "the user's words are kept");

    await view.ask("Cause an overload.");
    await view.settled();
    checks.expect((await problem.innerText()).includes("queue is full"), "a 429 is shown");

    await view.ask("Please fail midway.");
    await view.settled();
    checks.expect((await problem.innerText()).includes("out of KV blocks"), "an error inside the stream is shown");
    checks.expect((await view.answerText()).length > 10, "beside the text that had arrived");

    await view.ask("Please break off.");
    await view.settled();
    checks.expect((await problem.innerText()).includes("ended before the answer did"), "a broken stream is not taken for an answer");

    await page.route("**/v1/chat/completions", (route) => route.abort());
    await view.ask("Is anybody there?");
    await view.settled();
    checks.expect((await problem.innerText()).includes("Could not reach the server"), "an unreachable server is named");
    await page.unroute("**/v1/chat/completions");
    await view.button("Try again").click();
    await view.settled();
    checks.expect((await view.lastAnswer.getAttribute("data-state")) === "done", "trying again works");
    checks.expect(view.complaints.length === 0, "the browser's console is clean", view.complaints.join(" | "));
    await context.close();
  });

  await checks.group("a server behind a key, under a path prefix", async () => {
    const context = await browser.newContext({ viewport: WIDE });
    const page = await context.newPage();
    const view = new Playground(page, new URL("locked/", base).href);
    await view.open();
    const dialog = page.getByRole("dialog");
    await dialog.waitFor();
    checks.expect(await dialog.getByLabel("API key").evaluate((one) => one === document.activeElement), "the page asks for the key");
    await dialog.getByLabel("API key").fill("wrong");
    await page.keyboard.press("Enter");
    await checks.eventually("a wrong key is refused aloud", () => page.getByText("refused the key").isVisible());
    await dialog.getByLabel("API key").fill("open-sesame");
    await page.keyboard.press("Enter");
    await checks.eventually("the right one opens the page", async () => (await dialog.count()) === 0 && (await page.locator(".examples button").count()) === 3);
    await view.ask("Hello");
    await view.settled();
    checks.expect((await view.answerText()).length > 10, "and chatting works");
    const where = await page.evaluate(() => [JSON.stringify(localStorage).includes("open-sesame"), JSON.stringify(sessionStorage).includes("open-sesame")]);
    checks.expect(!where[0] && where[1], "the key is kept for the session only");
    await context.close();
  });

  await checks.group("a browser without storage", async () => {
    const context = await browser.newContext({ viewport: WIDE });
    await context.addInitScript(() => {
      const refuse = { get: () => { throw new DOMException("denied", "SecurityError"); } };
      Object.defineProperty(window, "localStorage", refuse);
      Object.defineProperty(window, "sessionStorage", refuse);
    });
    const page = await context.newPage();
    const view = new Playground(page, base);
    await view.open();
    await view.ask("Still there?");
    await view.settled();
    checks.expect((await view.answerText()).length > 10, "chatting works");
    await checks.eventually("the page says that nothing is kept", () => page.getByText("will not be kept").isVisible());
    checks.expect(view.complaints.length === 0, "without an error", view.complaints.join(" | "));
    await context.close();
  });
}
