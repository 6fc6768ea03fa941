/** Strategies: the form from the schema, candidates live, sixty-four of them, engine figures, phone. */

import { Playground } from "./checks.mjs";

export async function checkSearch(browser, base, checks) {
  for (const [name, viewport] of [["wide", { width: 1440, height: 900 }], ["phone", { width: 390, height: 844 }]]) {
    const context = await browser.newContext({ viewport, reducedMotion: "reduce" });
    let sent = null;
    context.on("request", (request) => request.method() === "POST" && (sent = request.postDataJSON()));
    const page = await context.newPage();
    const view = new Playground(page, base);
    await view.open();
    const phone = name === "phone";
    const settings = async (task) => {
      if (phone) await page.locator(".show-settings").click();
      await task();
      if (phone) await page.keyboard.press("Escape");
    };

    await checks.group(`${name}: the form follows the schema`, async () => {
      await settings(async () => {
        await view.strategy("speculative_rejection");
        const panel = page.locator(".settings");
        checks.expect((await panel.locator('input[name="alpha"]').inputValue()) === "0.5", "a default is filled in");
        checks.expect(await panel.locator('input[name="keep_prefix"]').isChecked(), "a boolean is a box");
        checks.expect((await panel.locator('select[name="decide"] option').count()) === 2, "an enum is a list");
        await panel.locator('select[name="reward"]').selectOption("concierge-rm");
        await panel.locator('input[name="budget.ms"]').fill("8000");
        await panel.locator('input[name="n"]').last().fill("8");
      });
      checks.expect(await view.fits(), "the page does not scroll sideways");
    });

    await checks.group(`${name}: candidates`, async () => {
      await view.ask("Which one opens first?");
      await checks.eventually("candidates appear while they grow", async () => (await page.locator(".tile.alive").count()) > 0);
      await page.locator(".tile.cut").first().waitFor();
      checks.expect((await view.lastAnswer.getAttribute("data-state")) === "running", "some are cut while others grow");
      await view.settled();
      const decode = sent.decode;
      checks.expect(
        decode.strategy === "speculative_rejection" && decode.n === 8 && decode.alpha === 0.5 && decode.budget.ms === 8000 && decode.reward === "concierge-rm",
        "the form's values are sent, typed and nested",
        JSON.stringify(decode),
      );
      checks.expect((await page.locator(".tile").count()) === 8, "all eight are shown");
      checks.expect((await page.locator(".tile.winner").count()) === 1, "one is the winner");
      checks.expect((await page.locator(".checkpoints li").count()) === 3, "checkpoints are listed");
      const report = await page.locator(".report").innerText();
      checks.expect(/Discarded/.test(report) && /complete/.test(report), "the decode report is shown", report);
      await page.locator(".tile.winner").click();
      const dialog = page.getByRole("dialog");
      const plain = (text) => text.replaceAll(/\s+/g, " ").trim();
      checks.expect(
        plain(await dialog.locator(".prose").innerText()) === plain(await view.answerText()),
        "the winner's text is the answer",
      );
      const before = await dialog.locator("h2").innerText();
      await page.keyboard.press("ArrowRight");
      await checks.eventually("the arrow keys turn to the next candidate", async () => (await dialog.locator("h2").innerText()) !== before);
      await page.keyboard.press("Escape");
      checks.expect((await dialog.count()) === 0, "Escape closes the reader");
    });

    await checks.group(`${name}: sixty-four candidates`, async () => {
      await settings(() => view.strategy("best_of_n", { n: 64 }));
      await view.ask("Try harder");
      await checks.eventually("all sixty-four grow", async () => (await page.locator(".tile.alive").count()) === 64);
      await view.settled();
      checks.expect((await page.locator(".dense .tile.winner").count()) === 1, "one of them wins");
      checks.expect((await page.locator(".dense .tile.lost").count()) === 63, "the others were whole, not cut short");
      await view.button("Best first").click();
      checks.expect((await page.locator(".tile").first().getAttribute("data-state")) === "winner", "best first puts the winner in front");
      checks.expect((await page.locator(".tile").count()) === 64, "earlier candidates are folded away");
      const box = await page.locator(".dense").boundingBox();
      checks.expect(box.height < 700 && (await view.fits()), "the grid stays compact", JSON.stringify(box));
    });

    await checks.group(`${name}: engine figures`, async () => {
      if (phone) await page.locator(".show-chats").click();
      const first = await view.generated();
      checks.expect(first > 0, "tokens are counted", String(first));
      if (phone) {
        checks.expect(await page.getByRole("button", { name: "Close chats" }).evaluate((one) => one === document.activeElement), "the drawer takes the focus");
        await page.keyboard.press("Escape");
        await checks.eventually("Escape closes the drawer", async () => (await page.locator(".side.chats.open").count()) === 0);
      }
      await settings(() => view.strategy("sample", { n: 3 }));
      await view.ask("One more");
      await view.settled();
      checks.expect((await page.locator(".tile.lost").count()) === 3, "several samples are shown side by side, none a winner");
      await checks.eventually("the figures change", async () => (await view.generated()) > first, 5000);
      checks.expect((await page.locator(".sparkline polyline").count()) === 1, "speed is drawn");
    });

    checks.expect(view.complaints.length === 0, `${name}: the browser's console is clean`, view.complaints.join(" | "));
    await context.close();
  }
}
