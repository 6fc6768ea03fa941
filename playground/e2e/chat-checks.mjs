/** Chatting: streaming, stop, regenerate, edit, examples, storage, settings, safety of text. */

import { Playground } from "./checks.mjs";

const WIDE = { width: 1440, height: 900 };

export async function checkChat(browser, base, checks) {
  const context = await browser.newContext({ viewport: WIDE });
  const requests = [];
  const outside = [];
  context.on("request", (request) => {
    if (!request.url().startsWith(base)) outside.push(request.url());
    if (request.method() === "POST") requests.push(request.postDataJSON());
  });
  const page = await context.newPage();
  const view = new Playground(page, base);
  await view.open();

  await checks.group("first visit", async () => {
    await checks.eventually("examples of the model are offered", async () => (await page.locator(".examples button").count()) === 3);
    checks.expect(await view.message.evaluate((one) => one === document.activeElement), "the message field has the focus");
    checks.expect(await view.button("Send").isDisabled(), "nothing can be sent while the message is empty");
    const unlabelled = await page.evaluate(() =>
      [...document.querySelectorAll("input, select, textarea, button")]
        .filter((one) => !(one.labels?.length || one.ariaLabel || one.textContent.trim()))
        .map((one) => one.outerHTML),
    );
    checks.expect(unlabelled.length === 0, "every control has a name", unlabelled.join(" "));
  });

  await checks.group("an example", async () => {
    await page.locator(".examples button").nth(1).click();
    checks.expect((await view.message.inputValue()).includes("its number"), "its last message waits to be sent");
    await page.locator(".facts summary").click();
    checks.expect((await page.getByLabel("Facts", { exact: true }).inputValue()).includes("The Harbour Table"), "its facts fill the facts box");
    await view.message.press("Enter");
    await view.settled();
    const sent = requests.at(-1);
    checks.expect(sent.messages.map((one) => one.role).join() === "system,user,assistant,user", "facts and earlier turns are sent");
    checks.expect(sent.stream_options.include_usage && sent.stream_options.include_progress, "usage and progress are asked for");
    checks.expect(!("temperature" in sent), "an empty setting sends nothing");
  });

  await checks.group("streaming and stop", async () => {
    await view.button("New chat").click();
    await view.ask("Tell me about all of them at length.");
    await view.lastAnswer.locator("> .prose").waitFor();
    const early = (await view.answerText()).length;
    await checks.eventually("the answer grows", async () => (await view.answerText()).length > early + 40);
    checks.expect((await page.getByRole("log").getAttribute("aria-busy")) === "true", "the log is busy while it grows");
    await view.button("Stop").click();
    await view.settled();
    const stopped = await view.answerText();
    await page.waitForTimeout(400);
    checks.expect((await view.answerText()) === stopped, "nothing arrives after stop");
    checks.expect((await view.lastAnswer.getAttribute("data-state")) === "stopped", "what arrived is kept and marked");
    const stats = await (await fetch(new URL("v1/stats", base))).json();
    checks.expect(stats.aborted >= 1 && stats.sequences.running === 0, "the server saw the disconnect");
  });

  await checks.group("regenerate and edit", async () => {
    await view.button("Regenerate").click();
    await view.settled();
    checks.expect((await page.locator(".versions").innerText()).includes("2/2"), "the new answer is the second of two");
    await view.button("Previous answer").click();
    checks.expect((await page.locator(".versions").innerText()).includes("1/2"), "the first is still there");
    await view.ask("And what else?");
    await view.settled();
    await page.locator(".user").first().hover();
    await page.getByRole("button", { name: "Edit and resend" }).first().click();
    checks.expect(await page.getByText("Later messages will be removed.").isVisible(), "the cost of editing is said");
    await page.getByLabel("Edit message").fill("Only the cheapest, please.");
    await page.locator(".editor").getByRole("button", { name: "Send" }).click();
    await view.settled();
    checks.expect((await page.locator(".turn").count()) === 1, "later messages are gone");
    checks.expect(requests.at(-1).messages.at(-1).content === "Only the cheapest, please.", "the edited words were sent");
  });

  await checks.group("model text stays text", async () => {
    const attack = "<img src=x onerror=alert(1)> **bold** `code`";
    await page.route("**/v1/chat/completions", (route) => {
      const chunk = { choices: [{ index: 0, delta: { content: attack }, finish_reason: "stop" }] };
      void route.fulfill({ contentType: "text/event-stream", body: `data: ${JSON.stringify(chunk)}\r\n\r\ndata: [DONE]\r\n\r\n` });
    });
    await view.ask("Attack me");
    await view.settled();
    await page.unroute("**/v1/chat/completions");
    checks.expect((await view.answerText()).startsWith("<img src=x onerror=alert(1)>"), "markup is shown as written");
    checks.expect((await view.lastAnswer.locator("img").count()) === 0, "and makes no element");
    checks.expect((await view.lastAnswer.locator("strong").innerText()) === "bold", "light markdown is drawn");
  });

  await checks.group("settings", async () => {
    await page.getByLabel("Temperature").fill("0.3");
    await page.getByLabel("Max tokens").fill("7");
    await page.getByLabel("Seed").fill("5");
    await view.ask("Seven tokens");
    await view.settled();
    const sent = requests.at(-1);
    checks.expect(sent.temperature === 0.3 && sent.max_tokens === 7 && sent.seed === 5, "sampling settings are sent as numbers");
    checks.expect((await view.lastAnswer.innerText()).includes("Stopped at the token limit"), "a cut answer says so");
    await page.getByLabel("Temperature").fill("9");
    await view.message.fill("Too hot");
    checks.expect(await view.button("Send").isDisabled(), "a value out of range is not sent");
    checks.expect(await page.getByText("Settings to correct: Temperature: at most 2").isVisible(), "and the page says which");
    for (const name of ["Temperature", "Max tokens", "Seed"]) await page.getByLabel(name).fill("");
    await page.getByLabel("Model", { exact: false }).first().selectOption("concierge@best");
    await view.message.fill("");
    await view.ask("With the preset");
    await view.settled();
    checks.expect(requests.at(-1).model === "concierge@best" && !requests.at(-1).decode, "a preset is sent by its name alone");
    await page.getByLabel("Model", { exact: false }).first().selectOption("concierge");
  });

  await checks.group("a second visit", async () => {
    await view.message.fill("half a thou");
    await page.waitForTimeout(1000);
    await page.reload();
    await view.message.waitFor();
    checks.expect((await view.message.inputValue()) === "half a thou", "the unsent message is still there");
    checks.expect((await page.locator(".turn").count()) >= 3, "the conversation is still there");
    checks.expect((await page.locator(".chat-list li").count()) === 2, "both conversations are listed");
    await page.locator(".chat-list li").last().hover();
    await page.locator(".chat-list li").last().getByRole("button", { name: /^Delete/ }).click();
    await page.getByRole("button", { name: "Delete?" }).click();
    checks.expect((await page.locator(".chat-list li").count()) === 1, "a conversation can be deleted");
  });

  checks.expect(outside.length === 0, "no request left the server", outside.join(" "));
  checks.expect(view.complaints.length === 0, "the browser's console is clean", view.complaints.join(" | "));
  await context.close();
}
