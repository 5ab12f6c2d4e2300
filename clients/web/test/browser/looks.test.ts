// How the chat page looks, in each colour and width; its pictures.
import { test } from "vitest";
import { accessible, desktop, entry, fits, newWorld, phone, picture, pictures, say, user } from "./tabs.js";

const world = newWorld();

test("the picture of a busy page: in light and dark, wide and narrow, and accessible in each", async () => {
  const { server } = world;
  const token = new Map<string, string>();
  for (const name of ["alice", "bob", "carol", "dave", "mallory"]) token.set(name, await server.token(name, "phone"));
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
  await pictures(a, "chat");
  await a.getByRole("button", { name: "Details" }).click();
  await a.getByText("owner").waitFor();
  await pictures(a, "details", { width: 1120, height: 600 });
  await a.emulateMedia({ colorScheme: "dark" });
  await a.setViewportSize({ width: 1120, height: 600 });
  await accessible(a, "details, dark");
  await a.setViewportSize(phone);
  await accessible(a, "details on a phone");
  await a.getByRole("button", { name: "Close details" }).click();
  await accessible(a, "a conversation on a phone");
  await a.getByRole("button", { name: "Back to conversations" }).click();
  await picture(a, "list-phone-dark");
  await a.emulateMedia({ colorScheme: "light" });
  await accessible(a, "the list on a phone");
  await picture(a, "list-phone");
  await a.getByRole("button", { name: /Weekend trip/ }).click();
  await a.setViewportSize(desktop);
  await entry(a, "I book it").hover();
  await entry(a, "I book it").getByRole("button", { name: "Message actions" }).click();
  await a.getByRole("menuitem", { name: "Who has read it" }).click();
  await a.getByRole("dialog").getByText("bob", { exact: true }).waitFor();
  await accessible(a, "who has read it");
  await pictures(a, "readers");
  await a.keyboard.press("Escape");
  await server.call("RelationService/BlockUser", { userId: "mallory" }, token.get("alice"));
  await a.getByRole("button", { name: "Menu", exact: true }).click();
  await a.getByRole("menuitem", { name: "Settings" }).click();
  await a.getByText("(this one)").waitFor();
  await a.getByRole("dialog").getByRole("region", { name: "Blocked people" }).getByText("mallory", { exact: true }).waitFor();
  await pictures(a, "settings");
});

test("long names and long words stay inside, on a phone too", async () => {
  const alice = user("alice");
  const long = user("a-name-without-end-".repeat(3));
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
