/** Takes the pictures of docs/memory-page.md: BASE_URL=… node e2e/memory-shots.mjs FOLDER
 *
 *  From a server with an empty memory (tenfold serve --memory FOLDER), which is filled by this. */

import { join } from "node:path";
import { withBrowser } from "./browser.mjs";

const base = process.env.BASE_URL;
const folder = process.argv[2];
if (!base || !folder) throw new Error("usage: BASE_URL=… node e2e/memory-shots.mjs FOLDER");

const TALK = [
  ["2026-03-02T18:20:00Z", "dinner", "user", "I live in Porto, close to the harbour. My sister Anna lives there too."],
  ["2026-03-02T18:21:00Z", "dinner", "assistant", "Noted. Shall I look for restaurants near the harbour?"],
  ["2026-03-02T18:23:00Z", "dinner", "user", "Yes, but I am vegetarian, and I am allergic to walnuts."],
  ["2026-03-02T18:24:00Z", "dinner", "assistant", "Olive and Thyme cooks without meat and opens at 12:00."],
  ["2026-04-11T09:02:00Z", "garden", "user", "Anna planted three fig trees behind her house last weekend."],
  ["2026-04-11T09:03:00Z", "garden", "assistant", "Figs like sun and little water. When should I remind you?"],
  ["2026-04-11T09:05:00Z", "garden", "user", "Every Sunday morning, please. Anna's birthday is on 14 June, by the way."],
  ["2026-05-20T20:40:00Z", "moving", "user", "I moved to Lisbon. The new flat has a balcony."],
  ["2026-05-20T20:41:00Z", "moving", "assistant", "Congratulations! What shall I remember about it?"],
  ["2026-05-20T20:42:00Z", "moving", "user", "The landlord is called Rui, and the rent is due on the 5th."],
];

const events = TALK.map(([valid_at, conversation, role, text]) => ({ valid_at, conversation, role, text }));
const answer = await fetch(new URL("v1/memory/events", base), {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ events }),
});
if (!answer.ok) throw new Error(await answer.text());

await withBrowser(async (browser) => {
  const open = async (tab, options) => {
    const page = await (await browser.newContext({ timezoneId: "UTC", reducedMotion: "reduce", ...options })).newPage();
    await page.goto(new URL(`#/memory/${tab}`, base).href);
    return page;
  };
  const shot = async (page, name) => {
    await page.waitForTimeout(1300);
    await page.screenshot({ path: join(folder, `${name}.png`) });
    await page.context().close();
  };

  const search = await open("search", { viewport: { width: 1440, height: 900 } });
  await search.getByLabel("Search the memory").fill("Where does Anna live?");
  await search.keyboard.press("Enter");
  await search.locator(".hits .event-link").first().click();
  await search.getByText("Turn vector").waitFor();
  await shot(search, "memory-search");

  const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
  const timeline = await open("timeline", { ...phone, colorScheme: "dark" });
  await timeline.locator(".fact").first().waitFor();
  await timeline.getByLabel("Moment", { exact: true }).fill("2026-05-21T12:00");
  await timeline.keyboard.press("Tab");
  await timeline.getByText("May 21, 2026, 12:00").waitFor();
  await timeline.evaluate(() => document.activeElement?.blur());
  await shot(timeline, "memory-timeline");
});
