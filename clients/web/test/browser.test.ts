import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { accessible, desktop, entry, fits, phone, picture, say, World, write } from "./tabs.js";

const world = new World();

beforeAll(() => world.start());
afterAll(() => world.end());
afterEach(async () => {
  world.server.link.open();
  const { complaints } = world;
  await world.clear();
  expect(complaints).toEqual([]);
});

let round = 0;
const user = (name: string): string => `${name}${++round}`;

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

test("the picture of a busy page: in light and dark, wide and narrow, and accessible in each", async () => {
  const { server } = world;
  const token = new Map<string, string>();
  for (const name of ["alice", "bob", "carol", "dave"]) token.set(name, await server.token(name, "phone"));
  const post = (from: string, target: object, body: string): Promise<{ sessionId: string; seq: string }> =>
    server.call("MessageService/SendMessage", { ...target, messageId: crypto.randomUUID(), content: { text: { body } } }, token.get(from));
  const group = await server.call<{ session: { sessionId: string } }>("SessionService/CreateSession",
    { group: { title: "Weekend trip" }, memberIds: ["alice", "bob", "carol"], requestId: crypto.randomUUID() }, token.get("dave"));
  const { sessionId } = group.session;
  await post("carol", { peerUserId: "alice" }, "The invoice is paid, thank you!");
  await post("bob", { peerUserId: "alice" }, "See you at eight?");
  await post("dave", { sessionId }, "Train or car? The train is 3 h and we could play cards.");
  await post("bob", { sessionId }, "Train!");
  await post("carol", { sessionId }, "Train. I have found a cabin by the lake: https://cabins.example/42");
  await post("bob", { sessionId }, "It sleeps six, so there is room for the dog as well.");
  const b = await world.chat("bob");
  await b.getByRole("button", { name: /Weekend trip/ }).click();
  await entry(b, "Train or car").waitFor();
  const a = await world.chat("alice");
  await a.getByRole("button", { name: /Weekend trip/ }).click();
  await entry(a, "sleeps six").waitFor();
  await say(a, "Lovely. I book it tonight.");
  await entry(a, "I book it").getByText("read by 1 of 3").waitFor({ state: "attached" });
  await b.getByRole("textbox").last().pressSequentially("Who br");
  await a.getByText("bob is typing…").waitFor();
  await accessible(a, "a group, light");
  await picture(a, "chat-light");
  await a.getByRole("button", { name: "Details" }).click();
  await a.getByText("owner").waitFor();
  await a.emulateMedia({ colorScheme: "dark" });
  await a.setViewportSize({ width: 1120, height: 600 });
  await accessible(a, "details, dark");
  await picture(a, "chat-dark");
  await a.setViewportSize(phone);
  await accessible(a, "details on a phone");
  await picture(a, "details-phone-dark");
  await a.getByRole("button", { name: "Close details" }).click();
  await accessible(a, "a conversation on a phone");
  await picture(a, "chat-phone-dark");
  await a.getByRole("button", { name: "Back to conversations" }).click();
  await a.emulateMedia({ colorScheme: "light" });
  await accessible(a, "the list on a phone");
  await picture(a, "list-phone");
  await a.getByRole("button", { name: /Weekend trip/ }).click();
  await entry(a, "I book it").waitFor();
  await picture(a, "chat-phone");
});

test("long names and long words stay inside, on a phone too", async () => {
  const alice = user("alice");
  const long = `${"a-name-without-end-".repeat(3)}${++round}`;
  const token = await world.server.token(long, "1");
  await world.server.token(alice, "0");
  const { session } = await world.server.call<{ session: { sessionId: string } }>("SessionService/CreateSession",
    { group: { title: "Donaudampfschifffahrtsgesellschaftskapitänsmützenfabrikantenverein ".repeat(2).trim().slice(0, 120) }, memberIds: [alice], requestId: crypto.randomUUID() }, token);
  const post = (target: object, body: string): Promise<unknown> =>
    world.server.call("MessageService/SendMessage", { ...target, messageId: crypto.randomUUID(), content: { text: { body } } }, token);
  await post({ sessionId: session.sessionId }, `https://example.org/${"path/".repeat(60)}`);
  await post({ sessionId: session.sessionId }, "w".repeat(400));
  await post({ peerUserId: alice }, `many\nlines\nand ${"🐕".repeat(80)}`);
  const a = await world.chat(alice);
  for (const size of [desktop, phone]) {
    await a.setViewportSize(size);
    if (size === phone) await a.getByRole("button", { name: "Back to conversations" }).click();
    await a.getByRole("button", { name: /Donau/ }).waitFor();
    await fits(a, "the list");
    await a.getByRole("button", { name: /Donau/ }).click();
    await entry(a, "wwww").waitFor();
    await fits(a, "the conversation");
    await a.getByRole("button", { name: "Message actions" }).last().click();
    await a.getByRole("menu").waitFor();
    await fits(a, "the menu of a message");
    await a.keyboard.press("Escape");
    await a.getByRole("button", { name: "Details" }).click();
    await a.getByRole("region", { name: "Members" }).getByText(long).first().waitFor();
    await fits(a, "the details");
    await a.getByRole("button", { name: "Close details" }).click();
    if (size === phone) await a.getByRole("button", { name: "Back to conversations" }).click();
  }
  await a.getByRole("button", { name: "New conversation" }).first().click();
  const dialog = a.getByRole("dialog", { name: "New conversation" });
  await dialog.waitFor();
  await fits(a, "the dialog of a new conversation");
  await a.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  await a.getByRole("button", { name: "Menu", exact: true }).click();
  await a.getByRole("menu").waitFor();
  await fits(a, "the menu");
  for (const path of ["/docs", "/inspect"]) {
    const page = await world.tab(path === "/docs" ? path : `${path}#as=${alice}`, { viewport: phone });
    await (path === "/docs" ? page.locator("details.op").first() : page.getByRole("status").getByText("live")).waitFor();
    await fits(page, path);
    await accessible(page, `${path} on a phone`);
  }
});

test("signing in: a ready login, a wrong token, and none of it in the address", async () => {
  const page = await world.tab("/");
  await page.getByRole("heading", { name: "Sign in as" }).waitFor();
  await accessible(page, "signing in");
  await picture(page, "sign-in");
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize(phone);
  await accessible(page, "signing in on a phone, dark");
  await picture(page, "sign-in-phone-dark");
  await page.setViewportSize(desktop);
  await page.getByText("Use a token instead").click();
  await page.getByLabel("Token", { exact: true }).fill("nonsense");
  await page.locator("details").getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").getByText("no token").waitFor();
  const forged = `${btoa("{}")}.${btoa(JSON.stringify({ sub: "mallory", did: "x" }))}.x`;
  await page.getByLabel("Token", { exact: true }).fill(forged);
  await page.locator("details").getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").getByText("Signed out").waitFor();
  await page.getByRole("button", { name: "alice", exact: true }).click();
  await page.getByRole("heading", { level: 1, name: "alice" }).waitFor();
  await page.reload();
  await page.getByRole("heading", { level: 1, name: "alice" }).waitFor();
  await page.getByRole("button", { name: "Menu", exact: true }).click();
  await page.getByRole("menuitem", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in as" }).waitFor();

  const linked = await world.tab(`/#token=${await world.server.token(user("tom"), "t1")}`);
  await linked.getByRole("heading", { level: 1, name: /^Parley: tom/ }).waitFor();
  expect(linked.url()).toBe(`${world.server.url}/`);
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

test("groups: members, roles, muting, removal, by keyboard too", async () => {
  const [alice, bob, carol] = [user("alice"), user("bob"), user("carol")];
  await world.server.token(carol, "c1");
  const b = await world.chat(bob);
  const a = await world.chat(alice);
  await a.getByRole("button", { name: "New conversation" }).first().press("Enter");
  await accessible(a, "the dialog of a new conversation");
  await a.getByLabel("Name of the group").fill("Crew");
  await a.getByLabel("User ids of its members").fill(`${bob}`);
  await a.keyboard.press("Enter");
  await b.getByRole("button", { name: /Crew/ }).click();
  await a.getByRole("button", { name: "Details" }).click();
  const row = (name: string) => a.getByRole("region", { name: "Members" }).getByRole("listitem").filter({ hasText: name });
  await a.getByLabel("Add people by user id").fill(carol);
  await a.keyboard.press("Enter");
  await row(carol).waitFor();
  const choose = async (item: string): Promise<void> => {
    const button = a.getByRole("button", { name: `Actions for ${bob}` });
    await button.focus();
    await a.keyboard.press("Enter");
    for (let i = 0; i < 10 && !(await a.getByRole("menuitem", { name: item, exact: true }).evaluate((el) => el === document.activeElement)); i++) {
      await a.keyboard.press("ArrowDown");
    }
    await a.keyboard.press("Enter");
  };
  await choose("Make an admin");
  await row(bob).getByText("admin").waitFor();
  await b.getByRole("log").getByText(`${alice} made you an admin`).waitFor();
  await choose("Mute");
  await b.getByText("An admin has muted you here.").waitFor();
  await choose("Let write again");
  await say(b, "back again");
  await entry(a, "back again").waitFor();
  await a.getByLabel("Name", { exact: true }).fill("The crew");
  await a.keyboard.press("Enter");
  await b.getByRole("heading", { name: "The crew" }).waitFor();
  await choose("Remove from the group");
  await b.getByText("You are not in this group any more.").waitFor();
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

test("a second device has everything, and can be signed out from the first", async () => {
  const [alice, bob] = [user("alice"), user("bob")];
  await world.server.token(bob, "b1");
  const a = await world.chat(alice);
  await write(a, bob);
  await say(a, "from the first");
  await entry(a, "from the first").getByText("Sent", { exact: true }).waitFor({ state: "attached" });
  await a.getByRole("button", { name: "Menu", exact: true }).click();
  const [second] = await Promise.all([a.context().waitForEvent("page"), a.getByRole("menuitem", { name: "Open as second device" }).click()]);
  world.watch(second);
  await second.getByRole("button", { name: new RegExp(bob) }).click();
  await entry(second, "from the first").waitFor();
  await say(second, "from the second");
  await entry(a, "from the second").waitFor();
  await a.getByRole("button", { name: "Menu", exact: true }).click();
  await a.getByRole("menuitem", { name: "Settings" }).click();
  await a.getByText("(this one)").waitFor();
  await accessible(a, "the settings");
  await picture(a, "settings");
  await a.emulateMedia({ colorScheme: "dark" });
  await accessible(a, "the settings, dark");
  await a.getByRole("button", { name: /^Sign out web-/ }).click();
  await second.getByText("This device was signed out.").waitFor();
});

test("pin, mute, mark as unread, block", async () => {
  const [alice, bob, carol] = [user("alice"), user("bob"), user("carol")];
  await Promise.all([bob, carol].map((name) => world.server.token(name, "1")));
  const a = await world.chat(alice);
  for (const name of [bob, carol]) {
    await write(a, name);
    await say(a, `hi ${name}`);
  }
  const first = a.getByRole("navigation", { name: "Conversations" }).getByRole("listitem").first();
  await first.getByText(carol).first().waitFor();
  await a.getByRole("button", { name: new RegExp(`hi ${bob}`) }).click();
  await a.getByRole("button", { name: "Details" }).click();
  await a.getByRole("switch", { name: "Pin to the top" }).click();
  await first.getByText("pinned").waitFor({ state: "attached" });
  await first.getByText(bob).first().waitFor();
  await a.getByRole("switch", { name: "Mute notifications" }).click();
  await first.getByText("muted").waitFor({ state: "attached" });
  await a.getByRole("button", { name: `Block ${bob}` }).click();
  await a.getByRole("button", { name: `Unblock ${bob}` }).waitFor();
  await say(a, "to the blocked");
  await entry(a, "to the blocked").getByText("You have blocked this person.").first().waitFor();
  // Blocked people are listed, and let go again, in the settings too.
  await a.getByRole("button", { name: "Menu", exact: true }).click();
  await a.getByRole("menuitem", { name: "Settings" }).click();
  const blocked = a.getByRole("dialog").getByRole("region", { name: "Blocked people" });
  await blocked.getByText(bob, { exact: true }).waitFor();
  await blocked.getByRole("button", { name: `Unblock ${bob}` }).click();
  await blocked.getByText("Nobody.").waitFor();
  await a.keyboard.press("Escape");
  await a.getByRole("button", { name: "Close details" }).click();
  await a.getByRole("button", { name: "Details" }).click();
  await a.getByRole("button", { name: `Block ${bob}`, exact: true }).waitFor();
  await a.getByRole("button", { name: "Message actions" }).last().click();
  await a.getByRole("menuitem", { name: "Send again" }).click();
  await entry(a, "to the blocked").getByText("Sent", { exact: true }).waitFor({ state: "attached" });
  await a.getByRole("button", { name: "Mark as unread" }).click();
  await first.getByText("unread").waitFor({ state: "attached" });
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
  await accessible(a, "the page without a network");
  await picture(a, "reconnecting");
  world.server.link.open();
  await entry(b, "meanwhile").waitFor();
  await entry(a, "meanwhile").getByText(/^(Sent|Read)$/).waitFor({ state: "attached" });
  await a.getByText("Reconnecting…").waitFor({ state: "detached" });
});

test("the inspector shows every event, acks and how long they took", async () => {
  const [alice, bob] = [user("alice"), user("bob")];
  const { server } = world;
  const token = await server.token(bob, "b1");
  const other = await server.token(alice, "a2");
  const page = await world.tab(`/inspect#as=${alice}`);
  await page.getByRole("status").getByText("live").waitFor();
  let sessionId = "";
  for (let i = 1; i <= 12; i++) {
    ({ sessionId } = await server.call<{ sessionId: string }>("MessageService/SendMessage",
      { peerUserId: alice, messageId: crypto.randomUUID(), content: { text: { body: `no ${i}` } } }, token));
    await page.waitForTimeout(40);
  }
  const rows = page.getByRole("region", { name: "Events and calls, newest first" }).getByRole("row");
  await rows.filter({ hasText: "message" }).nth(11).waitFor();
  await rows.filter({ hasText: "↑ Ack" }).first().waitFor();
  await page.getByRole("row", { name: new RegExp(`^${bob} 12 12 12`) }).waitFor();
  // What other devices and people do.
  await server.call("StateService/MarkRead", { sessionId, upToSeq: "7" }, other);
  await rows.filter({ hasText: "read to 7, 5 unread" }).first().waitFor();
  await server.call("SessionService/UpdateMembership", { sessionId, isPinned: true }, other);
  await rows.filter({ hasText: "↓ session" }).first().waitFor();
  await server.call("MessageService/SendMessage", { sessionId, messageId: crypto.randomUUID(), content: { text: { body: "an answer" } } }, other);
  await server.call("StateService/MarkRead", { sessionId, upToSeq: "13" }, token);
  await rows.filter({ hasText: `${bob} read to 13` }).first().waitFor();
  await server.call("SyncService/SendSignal", { sessionId, signal: { typing: { isTyping: true } } }, token);
  await rows.filter({ hasText: `typing from ${bob}` }).first().waitFor();
  const b = await world.chat(bob);
  await rows.filter({ hasText: `${bob} is online` }).first().waitFor();
  await b.context().close();
  await rows.filter({ hasText: `${bob} is away` }).first().waitFor();
  await server.call("MessageService/RecallMessage", { sessionId, seq: "3" }, token);
  await rows.filter({ hasText: `from ${bob}, recall` }).first().waitFor();
  await server.call("RelationService/BlockUser", { userId: bob }, other);
  await rows.filter({ hasText: `${bob}: blocked` }).first().waitFor();
  await accessible(page, "the inspector");
  await page.getByRole("button", { name: "Reconnect" }).click();
  await rows.filter({ hasText: "1 cursors" }).first().waitFor();
  await page.getByRole("status").getByText("live").waitFor();
  // The connection's past is in the picture.
  await page.locator("line.was-live").nth(1).waitFor({ state: "attached" });
  const carol = await server.token(user("carol"), "c1");
  for (let i = 1; i <= 6; i++) {
    await server.call("MessageService/SendMessage", { peerUserId: alice, messageId: crypto.randomUUID(), content: { text: { body: `no ${i}` } } }, carol);
    await page.waitForTimeout(100);
  }
  await page.getByRole("row", { name: /^carol\d+ 6 6 6/ }).waitFor();
  await page.getByRole("heading", { name: "Inspector" }).click();
  await page.setViewportSize({ width: 1080, height: 820 });
  await picture(page, "inspect");
  await page.emulateMedia({ colorScheme: "dark" });
  await accessible(page, "the inspector, dark");
  await picture(page, "inspect-dark");
  await page.setViewportSize(phone);
  // The picture is drawn for the room that there is.
  await page.waitForFunction(() => (document.querySelector<SVGSVGElement>(".panel svg")?.viewBox.baseVal.width ?? 1000) < innerWidth);
  await fits(page, "the inspector");
  await picture(page, "inspect-phone-dark");
  await page.setViewportSize(desktop);
  await page.getByLabel("Only").selectOption("opened");
  await rows.filter({ hasText: "heartbeat 0.5 s" }).nth(1).waitFor();
});

test("the reference lists all operations, and calls them", async () => {
  const page = await world.tab("/docs");
  await page.getByRole("heading", { name: "Message", exact: true }).first().waitFor();
  const doc = (await (await fetch(`${world.server.url}/openapi.json`)).json()) as { paths: Record<string, object> };
  const operations = Object.values(doc.paths).reduce((n, item) => n + Object.keys(item).filter((k) => /^(get|put|post|patch|delete)$/.test(k)).length, 0);
  expect(await page.locator("details.op").count()).toBe(operations);
  await page.getByRole("button", { name: "alice", exact: true }).click();
  await page.getByRole("searchbox").fill("createsession");
  await page.locator("summary", { hasText: "/v1/sessions" }).click();
  const call = page.getByRole("form", { name: "Try SessionService_CreateSession" });
  await world.server.token("bob", "b1");
  await call.getByRole("button", { name: "Send" }).click();
  await call.getByText("200 OK").waitFor();
  await accessible(page, "the reference");
  await page.locator("summary", { hasText: "/v1/sessions" }).scrollIntoViewIfNeeded();
  await picture(page, "docs");
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize(phone);
  await accessible(page, "the reference on a phone, dark");
  await page.locator("summary", { hasText: "/v1/sessions" }).evaluate((el) => el.scrollIntoView({ block: "start" }));
  await picture(page, "docs-phone-dark");
  await call.getByLabel("Body").fill("{");
  await call.getByRole("button", { name: "Send" }).click();
  await call.getByText("400 Bad Request").waitFor();
});

test("the page cannot be made to run what is not its own", async () => {
  const page = await world.tab("/", { viewport: desktop });
  await page.getByRole("heading", { name: "Sign in as" }).waitFor();
  const refused = await page.evaluate(async () => {
    const seen: string[] = [];
    document.addEventListener("securitypolicyviolation", (e) => seen.push(e.effectiveDirective));
    const script = document.createElement("script");
    try {
      script.textContent = "globalThis.pwned = 1";
    } catch { /* trusted types */ }
    document.head.append(script);
    const image = document.createElement("img");
    image.src = "https://elsewhere.invalid/x.png";
    document.body.append(image);
    await fetch("https://elsewhere.invalid/").catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 200));
    return { seen: [...new Set(seen)].sort(), pwned: "pwned" in globalThis };
  });
  expect(refused.pwned).toBe(false);
  expect(refused.seen).toEqual(expect.arrayContaining(["connect-src", "img-src"]));
  world.complaints = []; // the browser says in the console what it refused
});
