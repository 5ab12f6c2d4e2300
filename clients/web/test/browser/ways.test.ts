// Ways through the chat page: by keyboard alone, by the browser's own way back, from right to left, and after one another.
import { expect, test } from "vitest";
import { entry, newWorld, phone, say, user, write } from "./tabs.js";
import type { Page } from "playwright-core";

const world = newWorld();

/** The name of what has the focus, else its tag. */
function focused(page: Page): Promise<string> {
  return page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent ?? "");
}

test("by keyboard the focus goes along, wide and as narrow as a phone", async () => {
  const [alice, bob] = [user("alice"), user("bob")];
  const token = await world.server.token(bob, "b1");
  await world.server.token(alice, "a0");
  await world.server.call("MessageService/SendMessage", { peerUserId: alice, messageId: crypto.randomUUID(), content: { text: { body: "hi" } } }, token);
  for (const viewport of [phone, { width: 1280, height: 800 }]) {
    const a = await world.chat(alice, { viewport, hasTouch: viewport === phone, isMobile: viewport === phone });
    const listed = a.getByRole("button", { name: new RegExp(bob) });
    await listed.waitFor();
    await listed.focus();
    await a.keyboard.press("Enter");
    await expect.poll(() => focused(a)).toBe(viewport === phone ? bob : `Message to ${bob}`);
    await a.getByRole("button", { name: "Details" }).focus();
    await a.keyboard.press("Enter");
    await a.getByRole("button", { name: "Close details" }).waitFor();
    await expect.poll(() => focused(a)).toBe(viewport === phone ? "Close details" : "Details");
    await a.getByRole("button", { name: "Close details" }).focus();
    await a.keyboard.press("Enter");
    await expect.poll(() => focused(a)).toBe("Details");
    if (viewport === phone) {
      await a.getByRole("button", { name: "Back to conversations" }).focus();
      await a.keyboard.press("Enter");
      await expect.poll(() => focused(a)).toContain(bob);
      expect(await listed.evaluate((el) => el === document.activeElement)).toBe(true);
    }
    await a.context().close();
  }
});

test("a reload leaves the conversation open, and the browser's way back leads to the list", async () => {
  const [alice, bob, carol] = [user("alice"), user("bob"), user("carol")];
  await world.server.token(bob, "b1");
  await world.server.token(carol, "c1");
  const a = await world.chat(alice, { viewport: phone });
  await write(a, bob);
  await say(a, "first");
  await entry(a, "first").getByText("Sent", { exact: true }).waitFor({ state: "attached" });
  await a.reload();
  await entry(a, "first").waitFor();
  await a.getByRole("heading", { level: 2, name: bob }).waitFor();
  await a.goBack();
  await a.getByRole("button", { name: new RegExp(bob) }).click();
  await a.getByRole("button", { name: "Back to conversations" }).click();
  await write(a, carol);
  await a.goBack();
  await a.getByRole("button", { name: "New conversation" }).first().waitFor();
  await a.goForward();
  await a.getByRole("heading", { level: 2, name: carol }).waitFor();
});

test("who signs in next in a tab finds nothing of who was there before", async () => {
  const [alice, bob] = [user("alice"), user("bob")];
  await world.server.token(bob, "b0");
  const a = await world.chat(alice);
  await write(a, bob);
  await say(a, "hi");
  await entry(a, "hi").getByText("Sent", { exact: true }).waitFor({ state: "attached" });
  await a.getByRole("textbox", { name: `Message to ${bob}` }).fill("not for bob's eyes");
  await a.getByRole("button", { name: "Menu", exact: true }).click();
  await a.getByRole("menuitem", { name: "Sign out" }).click();
  await a.getByLabel("Another name").fill(bob);
  await a.getByRole("button", { name: "Sign in", exact: true }).click();
  await a.getByRole("button", { name: new RegExp(alice) }).click();
  await entry(a, "hi").waitFor();
  expect(await a.getByRole("textbox", { name: `Message to ${alice}` }).inputValue()).toBe("");
  await a.goBack();
  await a.getByText("Pick a conversation").waitFor();
});

test("what is written from right to left is shown so", async () => {
  const [alice, bob] = [user("alice"), user("bob")];
  const token = await world.server.token(bob, "b1");
  await world.server.token(alice, "a0");
  const hebrew = "שלום לכולם!";
  await world.server.call("MessageService/SendMessage", { peerUserId: alice, messageId: crypto.randomUUID(), content: { text: { body: hebrew } } }, token);
  const a = await world.chat(alice);
  const direction = (selector: string): Promise<string> => a.locator(selector).last().evaluate((el) => getComputedStyle(el).direction);
  await a.getByText(hebrew).first().waitFor();
  expect(await direction(".session .last")).toBe("rtl");
  await a.getByRole("button", { name: new RegExp(bob) }).click();
  await entry(a, hebrew).waitFor();
  expect([await direction(".bubble"), await direction(".body"), await direction(".sender, .bubble bdi")]).toEqual(["rtl", "rtl", "ltr"]);
  const box = a.getByRole("textbox", { name: `Message to ${bob}` });
  await box.fill(hebrew);
  expect(await direction(".composer textarea")).toBe("rtl");
  await box.fill("hello");
  expect(await direction(".composer textarea")).toBe("ltr");
  await say(a, "hello all!");
  await entry(a, "hello all!").waitFor();
  expect(await direction(".bubble")).toBe("ltr");
});

test("who becomes an admin can recall what others wrote before", async () => {
  const [alice, bob, carol] = [user("alice"), user("bob"), user("carol")];
  const token = await world.server.token(bob, "b1");
  const other = await world.server.token(carol, "c1");
  await world.server.token(alice, "a0");
  const { session: { sessionId } } = await world.server.call<{ session: { sessionId: string } }>("SessionService/CreateSession",
    { group: { title: "Team" }, memberIds: [alice, carol], requestId: crypto.randomUUID() }, token);
  await world.server.call("MessageService/SendMessage", { sessionId, messageId: crypto.randomUUID(), content: { text: { body: "a rude word" } } }, other);
  const a = await world.chat(alice);
  await a.getByRole("button", { name: /Team/ }).click();
  const rude = entry(a, "a rude word");
  await rude.hover();
  await rude.getByRole("button", { name: "Message actions" }).click();
  await a.getByRole("menuitem", { name: "Delete for me" }).waitFor();
  expect(await a.getByRole("menuitem", { name: "Recall for everybody" }).count()).toBe(0);
  await a.keyboard.press("Escape");
  await world.server.call("SessionService/SetMemberRole", { sessionId, userId: alice, role: "MEMBER_ROLE_ADMIN" }, token);
  await a.getByText(`${bob} made you an admin`).last().waitFor();
  await rude.hover();
  await rude.getByRole("button", { name: "Message actions" }).click();
  await a.getByRole("menuitem", { name: "Recall for everybody" }).click();
  await entry(a, "Message recalled").waitFor();
});

test("what comes below what one looks at is counted", async () => {
  const [alice, bob] = [user("alice"), user("bob")];
  const token = await world.server.token(bob, "b1");
  await world.server.token(alice, "a0");
  const many = (from: number, to: number) => world.server.call("MessageService/SendMessages", {
    messages: Array.from({ length: to - from + 1 }, (_, i) => ({ peerUserId: alice, messageId: crypto.randomUUID(), content: { text: { body: `no ${from + i}.` } } })),
  }, token);
  await many(1, 60);
  const a = await world.chat(alice);
  await a.getByRole("button", { name: new RegExp(bob) }).click();
  await entry(a, "no 60.").waitFor();
  await a.getByRole("log").evaluate((el) => (el.scrollTop = 500));
  await many(61, 67);
  await a.getByRole("button", { name: "7 new" }).click();
  await entry(a, "no 67.").waitFor();
});
