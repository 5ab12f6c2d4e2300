import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { accessible, entry, phone, picture, say, World, write } from "./tabs.js";

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
  await accessible(a, "a direct conversation");
});
