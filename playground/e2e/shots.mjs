/** Takes screenshots: BASE_URL=… node e2e/shots.mjs FOLDER [--docs]
 *
 *  --docs takes the two pictures of the documentation, from any tenfold server; otherwise every state
 *  worth looking at is taken, in both colour schemes, from the fixture server. */

import { join } from "node:path";
import { withBrowser } from "./browser.mjs";

const base = process.env.BASE_URL;
const folder = process.argv[2];
if (!base || !folder) throw new Error("usage: BASE_URL=… node e2e/shots.mjs FOLDER [--docs]");

const WIDE = { name: "wide", viewport: { width: 1440, height: 900 } };
const PHONE = {
  name: "phone",
  viewport: { width: 390, height: 844 },
  hasTouch: true,
  isMobile: true,
  deviceScaleFactor: 2,
};

async function settings(page, task) {
  const drawer = await page.locator(".show-settings").isVisible();
  if (drawer) await page.locator(".show-settings").click();
  await task();
  if (drawer) await page.getByRole("button", { name: "Close settings" }).click();
}

async function ask(page, text, strategies, n) {
  await settings(page, async () => {
    const picker = page.getByLabel("Strategy", { exact: true });
    const offered = await picker.locator("option").evaluateAll((options) => options.map((one) => one.value));
    await picker.selectOption(strategies.find((one) => offered.includes(one)));
    if (n) await page.locator('.settings input[name="n"]').last().fill(String(n));
  });
  if (text) await page.getByLabel("Message", { exact: true }).fill(text);
  await page.getByRole("button", { name: "Send", exact: true }).click();
}

async function settled(page) {
  await page.locator('.answer:not([data-state="running"])').last().waitFor({ timeout: 120_000 });
  // Long enough for the drawers to close and the engine's figures to be polled again.
  await page.waitForTimeout(1300);
}

async function opened(browser, { name: _name, ...device }, colorScheme) {
  const page = await (await browser.newContext({ ...device, colorScheme })).newPage();
  await page.goto(base);
  await page.locator(".examples button").first().waitFor();
  return page;
}

const SELECTING = ["speculative_rejection", "best_of_n"];

async function documentation(browser) {
  for (const device of [WIDE, PHONE]) {
    const page = await opened(browser, device, "light");
    // A long answer, sampled warmly: candidates that differ are worth looking at.
    await page.locator(".examples button").nth(2).click();
    await settings(page, () => page.locator('.settings input[name="temperature"]').fill("0.8"));
    await ask(page, "", SELECTING, device === WIDE ? 8 : 4);
    await settled(page);
    await page.mouse.move(2, 2);
    await page.screenshot({ path: join(folder, `playground-${device.name}.png`) });
    await page.context().close();
  }
}

async function everyState(browser) {
  for (const scheme of ["light", "dark"]) {
    for (const device of [WIDE, PHONE]) {
      const page = await opened(browser, device, scheme);
      const shot = (state) => page.screenshot({ path: join(folder, `${device.name}-${scheme}-${state}.png`) });
      await page.waitForTimeout(1200);
      await shot("empty");
      await page.locator(".examples button").first().click();
      await ask(page, "", SELECTING, 8);
      await page.locator(".tile.cut").first().waitFor();
      await shot("growing");
      await settled(page);
      await shot("answer");
      await page.locator(".tile.winner").click();
      await shot("reader");
      await page.keyboard.press("Escape");
      await ask(page, "And with sixty-four candidates?", SELECTING, 64);
      await settled(page);
      await shot("dense");
      await ask(page, "Please send an unknown field.", ["sample"]);
      await settled(page);
      await shot("error");
      if (device === PHONE) {
        await page.locator(".show-chats").click();
        await page.waitForTimeout(300);
        await shot("chats");
        await page.keyboard.press("Escape");
      }
      await settings(page, async () => {
        await page.waitForTimeout(300);
        await shot("settings");
      });
      await page.context().close();
    }
  }
}

await withBrowser(process.argv.includes("--docs") ? documentation : everyState);
