// What two people do in a conversation.
import { expect, test } from "vitest";
import { accessible, entry, newWorld, pictures, say, user, write } from "./tabs.js";

const world = newWorld();

test("two people write to each other: sent, typing, unread, read", async () => {
  const [alice, bob] = [user("alice"), user("bob")];
  const b = await world.chat(bob);
  const a = await world.chat(alice);
  await write(a, bob);
  await say(a, "hi bob");
  const listed = b.getByRole("button", { name: new RegExp(alice) });
  await listed.getByText("hi bob").waitFor();
  await listed.getByText("1 unread").waitFor();
  await a.getByText("online", { exact: true }).waitFor();
  await entry(a, "hi bob").getByText("Sent", { exact: true }).waitFor({ state: "attached" });
  await listed.click();
  await entry(b, "hi bob").waitFor();
  await entry(a, "hi bob").getByText("Read", { exact: true }).waitFor({ state: "attached" });
  expect(await listed.getByText("unread").count()).toBe(0);
  await b.getByRole("textbox", { name: `Message to ${alice}` }).pressSequentially("hi al");
  await a.getByText(`${bob} is typing…`).waitFor();
  await say(b, "hi alice");
  await entry(a, "hi alice").waitFor();
  await b.context().close();
  await a.getByText(/^last seen/).waitFor();
});

test("old messages come as one scrolls up, in order, and the place is kept", async () => {
  const [alice, bob] = [user("alice"), user("bob")];
  const token = await world.server.token(bob, "b1");
  await world.server.token(alice, "a0");
  let sessionId = "";
  for (let i = 0; i < 3; i++) {
    const messages = Array.from({ length: 150 }, (_, k) => ({
      ...(sessionId ? { sessionId } : { peerUserId: alice }), messageId: crypto.randomUUID(), content: { text: { body: `no ${i * 150 + k + 1}.` } },
    }));
    const sent = await world.server.call<{ results: Array<{ sent: { sessionId: string } }> }>("MessageService/SendMessages", { messages }, token);
    sessionId = sent.results[0]?.sent.sessionId ?? "";
  }
  const a = await world.chat(alice);
  await a.getByRole("button", { name: new RegExp(bob) }).click();
  await entry(a, "no 450.").waitFor();
  const log = a.getByRole("log");
  for (let i = 0; i < 60 && (await entry(a, "no 1.").count()) === 0; i++) {
    await log.evaluate((el) => (el.scrollTop = 0));
    await a.waitForTimeout(100);
  }
  const seqs = await a.locator("article.entry").evaluateAll((all) => all.map((el) => Number(el.getAttribute("data-seq"))));
  expect(seqs.length).toBeGreaterThanOrEqual(450);
  expect(seqs).toEqual([...seqs].sort((x, y) => x - y));
  expect(new Set(seqs).size).toBe(seqs.length);
  await world.server.call("MessageService/SendMessage", { sessionId, messageId: crypto.randomUUID(), content: { text: { body: "far below" } } }, token);
  await a.getByRole("button", { name: "1 new" }).click();
  await entry(a, "far below").waitFor();
  expect(await log.evaluate((el) => el.scrollHeight - el.scrollTop - el.clientHeight)).toBeLessThan(5);
});

test("recall, reply, who has read, delete for oneself", async () => {
  const [alice, bob] = [user("alice"), user("bob")];
  const b = await world.chat(bob);
  const a = await world.chat(alice);
  await write(a, bob);
  await say(a, "first");
  await say(a, "second");
  await b.getByRole("button", { name: new RegExp(alice) }).click();
  await entry(b, "second").waitFor();
  const act = async (page: typeof a, text: string, item: string): Promise<void> => {
    await entry(page, text).first().hover();
    await entry(page, text).first().getByRole("button", { name: "Message actions" }).click();
    await page.getByRole("menuitem", { name: item }).click();
  };
  await entry(a, "second").getByText("Read", { exact: true }).waitFor({ state: "attached" });
  await act(a, "second", "Who has read it");
  await a.getByRole("dialog").getByText(bob, { exact: true }).waitFor();
  await a.keyboard.press("Escape");
  await act(b, "first", "Reply");
  await say(b, "an answer");
  await entry(a, "an answer").locator("blockquote", { hasText: "first" }).waitFor();
  await act(a, "second", "Recall for everybody");
  await entry(b, "Message recalled").waitFor();
  expect(await entry(b, "second").count()).toBe(0);
  await act(b, "an answer", "Delete for me");
  await entry(b, "an answer").waitFor({ state: "detached" });
  expect(await entry(a, "an answer").count()).toBe(1);
});

test("without a network what is written waits, and goes when it is back", async () => {
  const [alice, bob] = [user("alice"), user("bob")];
  const b = await world.chat(bob);
  const a = await world.chat(alice);
  await write(a, bob);
  await say(a, "before");
  await b.getByRole("button", { name: new RegExp(alice) }).click();
  await entry(b, "before").waitFor();
  world.server.link.close();
  await a.getByText("Reconnecting…").waitFor();
  await say(a, "meanwhile");
  await entry(a, "meanwhile").getByText("Sending").waitFor({ state: "attached" });
  await a.getByRole("navigation", { name: "Conversations" }).getByText("You: meanwhile").waitFor();
  await accessible(a, "the page without a network");
  await pictures(a, "reconnecting");
  world.server.link.open();
  await entry(b, "meanwhile").waitFor();
  await entry(a, "meanwhile").getByText(/^(Sent|Read)$/).waitFor({ state: "attached" });
  await a.getByText("Reconnecting…").waitFor({ state: "detached" });
});
