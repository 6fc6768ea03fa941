/** Takes the screenshots of the page: BASE_URL=… node e2e/shots.mjs FOLDER */

import { join } from "node:path";
import { withBrowser } from "./browser.mjs";

const base = process.env.BASE_URL;
const folder = process.argv[2];
if (!base || !folder) throw new Error("usage: BASE_URL=… node e2e/shots.mjs FOLDER");

const WIDE = { width: 1440, height: 900 };
const PHONE = { width: 390, height: 844 };

async function ask(page, text, strategy, n) {
  const narrow = page.viewportSize().width < 1180;
  if (narrow) await page.locator(".show-settings").click();
  await page.getByLabel("Strategy", { exact: true }).selectOption(strategy);
  if (n) await page.getByLabel("N", { exact: true }).or(page.locator("input[name=n]")).first().fill(String(n));
  if (narrow) await page.getByRole("button", { name: "Close settings" }).click();
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
}

async function settled(page) {
  await page.locator('.answer:not([data-state="running"])').last().waitFor();
  await page.waitForTimeout(1300);
}

await withBrowser(async (browser) => {
  for (const scheme of ["light", "dark"]) {
    for (const [name, viewport] of [["wide", WIDE], ["phone", PHONE]]) {
      const context = await browser.newContext({ viewport, colorScheme: scheme });
      const page = await context.newPage();
      const shot = (state) => page.screenshot({ path: join(folder, `${name}-${scheme}-${state}.png`) });
      await page.goto(base);
      await page.locator(".examples button").first().waitFor();
      await page.waitForTimeout(1200);
      await shot("empty");
      await page.locator(".examples button").first().click();
      await ask(page, await page.getByLabel("Message", { exact: true }).inputValue(), "speculative_rejection", 8);
      await page.locator(".tile.cut").first().waitFor();
      await shot("growing");
      await settled(page);
      await shot("answer");
      await page.locator(".tile.winner").click();
      await shot("reader");
      await page.keyboard.press("Escape");
      await ask(page, "And with sixty-four candidates?", "speculative_rejection", 64);
      await settled(page);
      await shot("dense");
      await ask(page, "Please send an unknown field.", "sample");
      await settled(page);
      await shot("error");
      if (name === "phone") {
        await page.locator(".show-chats").click();
        await page.waitForTimeout(300);
        await shot("chats");
        await page.keyboard.press("Escape");
        await page.locator(".show-settings").click();
        await page.waitForTimeout(300);
        await shot("settings");
      }
      await context.close();
    }
  }
});
