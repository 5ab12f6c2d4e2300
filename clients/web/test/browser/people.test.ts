// Groups, other people, and one's own devices.
import { test } from "vitest";
import { accessible, entry, newWorld, say, user, write } from "./tabs.js";

const world = newWorld();

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
  await a.emulateMedia({ colorScheme: "dark" });
  await accessible(a, "the settings, dark");
  await a.getByRole("button", { name: /^Sign out web-/ }).click();
  await second.getByText("This device was signed out.").waitFor();
});

test("a muted conversation has its badge, and does not count in the title", async () => {
  const [alice, bob, carol] = [user("alice"), user("bob"), user("carol")];
  const own = await world.server.token(alice, "0");
  const post = async (from: string): Promise<string> => (await world.server.call<{ sessionId: string }>("MessageService/SendMessage",
    { peerUserId: alice, messageId: crypto.randomUUID(), content: { text: { body: `hi from ${from}` } } }, await world.server.token(from, "1"))).sessionId;
  await post(carol);
  await world.server.call("SessionService/UpdateMembership", { sessionId: await post(bob), notificationsMuted: true }, own);
  const a = await world.chat(alice);
  for (const name of [bob, carol]) await a.getByRole("button", { name: new RegExp(name) }).getByText("1 unread").waitFor();
  await a.waitForFunction(() => document.title === "(1) Parley");
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
