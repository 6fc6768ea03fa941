/** The memory page against a real server: adding, finding, tracing, going back in time, erasing. */

import { Playground } from "./checks.mjs";

const WIDE = { width: 1440, height: 900 };
const PHONE = { width: 360, height: 740 };
const TALK = [
  ["2026-03-02T18:20:00Z", "plans", "user", "I live in Porto, close to the harbour. My sister Anna lives there too."],
  ["2026-03-02T18:21:00Z", "plans", "assistant", "Noted. Shall I look for restaurants near the harbour?"],
  ["2026-03-02T18:23:00Z", "plans", "user", "Yes, but I am allergic to walnuts."],
  ["2026-03-02T18:24:00Z", "plans", "assistant", "Olive and Thyme by the harbour cooks without walnuts and opens at noon."],
  ["2026-03-02T18:26:00Z", "plans", "user", "Please book a table for two at Olive and Thyme on Friday."],
  ["2026-05-20T20:40:00Z", "moving", "user", "I moved to Lisbon. The new flat has a balcony."],
  ["2026-05-20T20:42:00Z", "moving", "user", "The wifi password is hunter2-Tram28."],
];
const MARKUP = 'Look: <img src=x onerror="document.title=1"> **bold** [link](javascript:alert(1))';

async function send(base, path, body) {
  const response = await fetch(new URL(path, base), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

export async function checkMemory(browser, base, checks) {
  const events = TALK.map(([valid_at, conversation, role, text]) => ({ valid_at, conversation, role, text }));
  const context = await browser.newContext({ viewport: WIDE, reducedMotion: "reduce", timezoneId: "Europe/Lisbon" });
  const page = await context.newPage();
  const view = new Playground(page, base);
  const tab = (name) => page.getByRole("navigation", { name: "Memory" }).getByRole("link", { name }).click();
  const results = page.getByRole("list", { name: /Results for/ }).locator("> li");
  const search = async (query) => {
    await page.getByLabel("Search the memory").fill(query);
    await page.keyboard.press("Enter");
    await page.getByRole("list", { name: `Results for ${query}` }).waitFor();
  };
  const lineage = page.getByRole("region", { name: "Lineage" });
  const eraseFor = (name) => page.getByRole("dialog").getByRole("button", { name }).click();

  await checks.group("an empty memory", async () => {
    await view.open();
    await page.getByRole("link", { name: "Memory" }).click();
    await page.getByText("Nothing is remembered yet").waitFor();
    checks.expect(page.url().endsWith("#/memory/search"), "the page has an address", page.url());
    checks.expect(await page.getByLabel("Search the memory").evaluate((one) => one === document.activeElement), "one can type at once");
    await page.goBack();
    await checks.eventually("going back leads to the chat", () => view.message.isVisible());
    await page.goForward();
    await page.getByRole("link", { name: "Add something" }).click();
    await page.getByRole("textbox", { name: "Text", exact: true }).fill(MARKUP);
    await view.button("Remember").click();
    await page.getByText("1 event remembered").first().waitFor();
    await page.getByText(/^…/).first().click();
    await lineage.getByText(MARKUP).waitFor();
    checks.expect((await page.locator(".traced img, .traced a, .traced strong").count()) === 0, "stored text is never markup");
    await view.button("Erase this event…").click();
    await eraseFor("Erase for good");
    await lineage.getByText("This event was erased").waitFor();
    checks.expect((await page.getByText(MARKUP).count()) === 0, "what was erased leaves the page");
  });
  await send(base, "v1/memory/events", { events });

  await checks.group("a pasted conversation", async () => {
    await tab("Add");
    await page.getByLabel("A conversation, pasted").check();
    await page.getByRole("textbox", { name: "Conversation", exact: true }).first().fill("Me: I like figs.\nBen: I live in Faro.\nAssistant: Noted.");
    const heard = page.getByRole("region", { name: "What was understood" });
    checks.expect((await heard.getByRole("listitem").allInnerTexts()).join("|") === "you I like figs.|Ben I live in Faro.|the assistant Noted.", "who said what is shown first", (await heard.getByRole("listitem").allInnerTexts()).join("|"));
    checks.expect(await page.getByRole("button", { name: "Remember 3 messages" }).isDisabled(), "it needs a name");
    await page.getByRole("textbox", { name: "Conversation", exact: true }).last().fill("lunch");
    await page.getByRole("button", { name: "Remember 3 messages" }).click();
    await page.getByText("3 events remembered").first().waitFor();
  });

  await checks.group("search explains its scores", async () => {
    await tab("Search");
    await search("Where does Anna live?");
    checks.expect((await results.first().innerText()).includes("My sister Anna"), "the best event is first", await results.first().innerText());
    const first = results.first();
    const parts = (await first.locator("tbody td:last-child").allInnerTexts()).map((text) => Number(text.replace("−", "-")));
    const score = Number((await first.locator(".hit-score").innerText()).replace(/[^\d.−-]/g, "").replace("−", "-"));
    const sum = parts.reduce((total, part) => total + part, 0);
    checks.expect(parts.length > 3 && Math.abs(sum - score) < 0.01 * parts.length, "the parts add up to the score", `${sum} for ${score}`);
    checks.expect((await first.locator(".part-bar").count()) === parts.length, "each has a bar");
    const before = await results.count();
    await page.getByText("Filters").click();
    await page.getByRole("textbox", { name: "Conversation" }).fill("moving");
    await search("password");
    checks.expect((await results.count()) === 2 && before > 2, "a filter restricts", `${before}, then ${await results.count()}`);
    await page.getByLabel("As it was known on").fill("2026-01-01T00:00");
    await page.keyboard.press("Tab");
    await view.button("Search").click();
    await checks.eventually("going back in time finds nothing yet", () => page.getByText("Nothing that you may read matches").isVisible());
    await page.getByLabel("As it was known on").fill("");
    await view.button("Clear all").click();
  });

  await checks.group("feedback", async () => {
    await search("Where does Anna live?");
    await results.first().getByRole("button", { name: "Useful", exact: true }).click();
    const send = view.button("Send feedback");
    checks.expect(await send.isDisabled(), "one mark alone teaches nothing and says so");
    await results.nth(1).getByRole("button", { name: "Not useful" }).click();
    await send.click();
    await page.getByText("The ranking learns from it").waitFor();
    await results.first().getByRole("link", { name: "Lineage" }).click();
    await lineage.getByText("Feedback on it").waitFor();
    checks.expect(true, "the event's lineage names the feedback");
  });

  await checks.group("lineage", async () => {
    await search("Where does Anna live?");
    await results.first().getByRole("link", { name: "Lineage" }).click();
    await lineage.getByText("Turn vector").waitFor();
    const said = await lineage.innerText();
    checks.expect(["Text index", "Window vector", "lives in Porto", "ended", "Summary of plans"].every((words) => said.includes(words)), "index, vectors, facts and summary are named", said);
    await page.reload();
    await lineage.getByText("Turn vector").waitFor();
    checks.expect(true, "the address opens the same event again");
    await lineage.locator(".fact .event-link").last().click();
    await lineage.getByText("I moved to Lisbon").first().waitFor();
    checks.expect(true, "a derived thing leads to its other sources");
  });

  await checks.group("timeline", async () => {
    await tab("Timeline");
    const facts = page.getByRole("complementary", { name: "Facts" });
    await facts.getByText("allergic to").waitFor();
    const shown = () => page.locator(".days .event").count();
    const all = await shown();
    checks.expect(all === 11, "all events are there", String(all));
    checks.expect((await page.locator(".days h2").allInnerTexts()).slice(1).join() === "May 20, 2026,Mar 2, 2026", "under their days", (await page.locator(".days h2").allInnerTexts()).join());
    checks.expect((await facts.innerText()).includes("Mar 2, 2026 to May 20, 2026"), "an ended fact has both ends", await facts.innerText());
    await page.getByLabel("Moment", { exact: true }).fill("2026-04-01T12:00");
    await page.keyboard.press("Tab");
    await checks.eventually("a date goes back", async () => (await shown()) === 5);
    checks.expect(!(await facts.innerText()).includes("Lisbon"), "and what was not yet so is not shown");
    await page.getByLabel("as it was known then").check();
    await checks.eventually("then nothing had been recorded", () => page.getByText("Nothing was remembered by then").isVisible());
    await view.button("Back to now").click();
    await page.getByLabel("as it is known today").check();
    await checks.eventually("and back to now", async () => (await shown()) === all);
    const slider = page.getByRole("slider", { name: /Moment/ });
    await slider.focus();
    await page.keyboard.press("Home");
    await checks.eventually("the slider's left end is the first event", async () => (await shown()) < 5);
    checks.expect((await slider.getAttribute("aria-valuetext"))?.startsWith("Mar 2, 2026"), "and says its moment", await slider.getAttribute("aria-valuetext"));
    await page.keyboard.press("End");
    await checks.eventually("its right end is now", async () => (await shown()) === all);
  });

  await checks.group("audit", async () => {
    await tab("Audit");
    await view.button("Look through the memory").click();
    const secrets = page.locator(".finding", { hasText: "Secrets" });
    await secrets.locator(".event-link").first().click();
    await lineage.getByText("hunter2").first().waitFor();
    checks.expect(true, "a finding leads to its event");
  });

  await checks.group("erasing", async () => {
    await tab("Search");
    await search("password");
    await tab("Erase");
    await page.getByRole("textbox", { name: "Conversation" }).fill("moving");
    await view.button("Erase what is selected…").click();
    const dialog = page.getByRole("dialog");
    await dialog.waitFor();
    const asked = await dialog.innerText();
    checks.expect(asked.includes("Erase 2 events for good?") && asked.includes("cannot be undone"), "the question says how many, and that it is for good", asked);
    checks.expect(await dialog.getByRole("button", { name: "Cancel" }).evaluate((one) => one === document.activeElement), "the safe answer has the focus");
    await page.keyboard.press("Escape");
    checks.expect((await dialog.count()) === 0 && (await send(base, "v1/memory/erase/preview", { conversation: "moving" })).events === 2, "Escape erases nothing");
    await view.button("Erase what is selected…").click();
    await eraseFor("Erase for good");
    const receipt = page.locator(".receipt").first();
    await receipt.waitFor();
    checks.expect(/Events\s*2/.test(await receipt.innerText()) && /conversation/.test(await receipt.innerText()), "a receipt is shown", await receipt.innerText());
    await tab("Search");
    await checks.eventually("results found before are gone", async () => (await page.getByText("hunter2").count()) === 0);
    await tab("Erase");
    await view.button("Erase what is selected…").click();
    await checks.eventually("nothing is left to erase", () => dialog.getByText("Nothing to erase").isVisible());
    await page.keyboard.press("Escape");
  });

  checks.expect(view.complaints.length === 0, "the browser's console is clean", view.complaints.join(" | "));
  await context.close();
  await checkPhone(browser, base, checks);
}

async function checkPhone(browser, base, checks) {
  await checks.group("on a narrow phone, in the dark", async () => {
    const context = await browser.newContext({ viewport: PHONE, hasTouch: true, isMobile: true, colorScheme: "dark", reducedMotion: "reduce" });
    const page = await context.newPage();
    const view = new Playground(page, base);
    await view.open();
    await page.locator(".show-chats").click();
    await page.getByRole("link", { name: "Memory" }).click();
    await page.getByLabel("Search the memory").fill("Where does Anna live?");
    await page.keyboard.press("Enter");
    await page.locator(".hits > li").first().waitFor();
    checks.expect(await view.fits(), "search does not scroll sideways");
    await page.getByRole("link", { name: "Lineage" }).first().click();
    const panel = page.locator(".side.lineage.open");
    await panel.getByText("Turn vector").waitFor();
    checks.expect((await page.locator("main").getAttribute("inert")) !== null, "lineage opens over the page and takes the focus");
    await page.keyboard.press("Escape");
    await checks.eventually("Escape closes it", async () => (await panel.count()) === 0);
    for (const name of ["Timeline", "Add", "Erase", "Audit"]) {
      await page.getByRole("navigation", { name: "Memory" }).getByRole("link", { name }).click();
      await page.waitForTimeout(300);
      checks.expect(await view.fits(), `${name} does not scroll sideways`);
    }
    checks.expect(view.complaints.length === 0, "the browser's console is clean", view.complaints.join(" | "));
    await context.close();
  });
}
