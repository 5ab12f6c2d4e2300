// Signing in, and the pages beside the chat.
import { expect, test } from "vitest";
import { accessible, desktop, fits, newWorld, phone, pictures, user } from "./tabs.js";

const world = newWorld();

test("signing in: a ready login, a wrong token, and none of it in the address", async () => {
  const page = await world.tab("/");
  await page.getByRole("heading", { name: "Sign in as" }).waitFor();
  await accessible(page, "signing in");
  await pictures(page, "sign-in");
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize(phone);
  await accessible(page, "signing in on a phone, dark");
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
  // The picture is drawn for the room that there is.
  const drawn = async (): Promise<void> => {
    await page.waitForFunction(() => (document.querySelector<SVGSVGElement>(".panel svg")?.viewBox.baseVal.width ?? 10_000) < innerWidth);
  };
  await pictures(page, "inspect", { width: 1080, height: 820 }, drawn);
  await page.emulateMedia({ colorScheme: "dark" });
  await accessible(page, "the inspector, dark");
  await page.setViewportSize(phone);
  await drawn();
  await fits(page, "the inspector");
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
  const inView = (): Promise<void> => page.locator("summary", { hasText: "/v1/sessions" }).evaluate((el) => el.scrollIntoView({ block: "start" }));
  await pictures(page, "docs", desktop, inView);
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize(phone);
  await accessible(page, "the reference on a phone, dark");
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
