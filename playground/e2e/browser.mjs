/** Starts the system's chromium for one task, with a profile of its own. */

import { chromium } from "playwright-core";

const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export async function withBrowser(task) {
  // Without a user-data folder playwright makes a fresh one and removes it at the end.
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ARGUMENTS,
  });
  try {
    return await task(browser);
  } finally {
    await browser.close();
  }
}
