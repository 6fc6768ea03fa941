/** The checks and the small language they are written in. */

import { setTimeout as wait } from "node:timers/promises";

export class Checks {
  failed = 0;

  expect(truth, words, seen = "") {
    console.log(`${truth ? "ok  " : "FAIL"} ${words}${truth || seen === "" ? "" : ` (saw: ${seen})`}`);
    if (!truth) this.failed += 1;
  }

  /** Polls, because what is checked arrives over the network. */
  async eventually(words, probe, limitMs = 15_000) {
    const until = Date.now() + limitMs;
    let seen = "";
    while (Date.now() < until) {
      try {
        if (await probe()) return this.expect(true, words);
        seen = "not yet true";
      } catch (thrown) {
        seen = String(thrown).split("\n")[0];
      }
      await wait(80);
    }
    this.expect(false, words, `${seen} after ${limitMs} ms`);
  }

  async group(name, task) {
    console.log(`\n${name}`);
    try {
      await task();
    } catch (thrown) {
      this.expect(false, name, String(thrown).slice(0, 600));
    }
  }
}

/** The page as a person handles it: by labels and roles, not by class names where that is possible. */
export class Playground {
  constructor(page, base) {
    this.page = page;
    this.base = base;
    this.complaints = [];
    page.on("pageerror", (error) => this.complaints.push(String(error)));
    page.on("console", (line) => {
      // The browser itself reports every 4xx; those are wanted here.
      const wanted = line.text().startsWith("Failed to load resource");
      if (line.type() === "error" && !wanted) this.complaints.push(line.text());
    });
  }

  async open() {
    await this.page.goto(this.base);
    await this.page.getByLabel("Message", { exact: true }).waitFor();
  }

  get message() {
    return this.page.getByLabel("Message", { exact: true });
  }

  get lastAnswer() {
    return this.page.locator(".answer").last();
  }

  button(name) {
    return this.page.getByRole("button", { name, exact: true });
  }

  async strategy(id, params = {}) {
    await this.page.getByLabel("Strategy", { exact: true }).selectOption(id);
    for (const [name, value] of Object.entries(params)) {
      await this.page.locator(`.settings input[name="${name}"]`).last().fill(String(value));
    }
  }

  async ask(text) {
    await this.message.fill(text);
    await this.message.press("Enter");
  }

  async settled(limitMs = 30_000) {
    await this.page.locator('.answer:not([data-state="running"])').last().waitFor({ timeout: limitMs });
    await this.button("Send").waitFor({ timeout: limitMs });
  }

  answerText() {
    return this.lastAnswer.locator("> .prose").innerText();
  }

  async generated() {
    const text = await this.page.locator('[data-figure="generated"]').textContent({ timeout: 5000 });
    return Number(text.replaceAll(/[^\d.]/g, "")) * (text.includes("K") ? 1000 : text.includes("M") ? 1e6 : 1);
  }

  async fits() {
    return this.page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);
  }
}
