import type { Message, SessionInfo } from "@parley-im/client";
import { describe, expect, test } from "vitest";
import { initials, names, noticeOf, readBy, summary, titleOf } from "../src/format.js";
import { idsIn } from "../src/ids.js";
import { claimsOf } from "../src/login.js";
import { addressOf, curlOf, exampleOf, typeOf, type Document, type Entry } from "../src/openapi.js";
import { EventSchema } from "../../typescript/gen/parley/v1/event_pb.js";
import { readFileSync } from "node:fs";
import { bounds, histogram, kinds, quantile, Wire } from "../src/wire.js";

const message = (over: Partial<Message>): Message => ({
  sessionId: "s", seq: 1, messageId: "m", senderId: "bob", senderDeviceId: "", type: "text", isDeleted: false,
  createdAt: new Date(0), mentions: [], status: "sent", ...over,
});

test("names in sentences", () => {
  expect(names([])).toBe("");
  expect(names(["bob"], "bob")).toBe("you");
  expect(names(["bob", "carol"])).toBe("bob and carol");
  expect(names(["a", "b", "c"])).toBe("a, b and c");
  expect(names(["a", "b", "c", "d"])).toBe("a, b and 2 others");
});

test("initials of one word, of two, and of what is no letter", () => {
  expect([initials("alice"), initials("Weekend trip"), initials("tom.b"), initials("🐕"), initials("")]).toEqual(["AL", "WT", "TB", "🐕", ""]);
  expect([initials("🇩🇪 Berlin"), initials("👍🏽👩‍👧"), initials("👨‍👩‍👧 夏")]).toEqual(["🇩🇪B", "👍🏽👩‍👧", "👨‍👩‍👧夏"]);
});

test("what entries say in the list", () => {
  expect(summary(message({ content: { kind: "text", body: "a\n  b" } }), "me")).toBe("a b");
  expect(summary(message({ content: { kind: "text", body: `x${"🐕".repeat(500)}` } }), "me")).toBe(`x${"🐕".repeat(119)}`);
  expect(summary(message({ isDeleted: true }), "me")).toBe("Message recalled");
  expect(summary(message({ type: "memberChange", senderId: "me", content: { kind: "memberChange", change: "added", userIds: ["eve"] } }), "me")).toBe("You added eve");
  expect(noticeOf(message({}), "me")).toBeUndefined();
  expect(noticeOf(message({ type: "unknown" }), "me")).toBeTruthy();
  expect(noticeOf(message({ type: "sessionChange", content: { kind: "sessionChange", title: "X" } }), "me")).toBe("bob named the group “X”");
});

test("a session is called by its title, or by who else is in it", () => {
  const info = { kind: "direct", peerUserId: "bob", title: "" } as SessionInfo;
  expect([titleOf(info), titleOf(undefined, "eve"), titleOf({ ...info, kind: "group" })]).toEqual(["bob", "eve", "Untitled group"]);
});

test("who has read is counted without oneself", () => {
  const member = (userId: string, readSeq: number) => ({ userId, readSeq, displayName: "", role: "member" as const, isMuted: false });
  expect(readBy([member("me", 9), member("a", 5), member("b", 4)], "me", 5)).toEqual({ read: 1, of: 2 });
});

test("user ids as people type them", () => {
  expect(idsIn(" bob, carol;bob\n dave ")).toEqual(["bob", "carol", "dave"]);
});

test("whose token it is", () => {
  const token = (claims: object): string => `x.${btoa(JSON.stringify(claims)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "")}.y`;
  expect(claimsOf(token({ sub: "bob", did: "d?>" }))).toEqual({ userId: "bob", deviceId: "d?>" });
  for (const bad of ["", "a.b.c", token({ sub: 1, did: "x" }), token({})]) expect(claimsOf(bad)).toBeUndefined();
});

test("a histogram has a bar for every value", () => {
  const bars = histogram([0, 1, 1.5, 1000, 5000]);
  expect(bars.length).toBe(bounds.length);
  expect([bars[0], bars[1], bars.at(-2), bars.at(-1)]).toEqual([2, 1, 1, 1]);
  expect([quantile([], 0.5), quantile([3, 1, 2], 0.5), quantile([3, 1, 2], 0.99)]).toEqual([undefined, 2, 3]);
});

test("the inspector knows every event that there is, and has a colour for it", () => {
  const all = EventSchema.oneofs[0]?.fields.map((f) => f.localName) ?? [];
  expect([...kinds, "resync"].sort()).toEqual([...all].sort());
  const css = readFileSync(new URL("../src/style.css", import.meta.url), "utf8");
  expect(all.filter((k) => !css.includes(`.k-${k} `) && !css.includes(`.k-${k},`))).toEqual([]);
});

test("the states of the connection are noted when they change, and not without end", () => {
  const wire = new Wire();
  for (const state of ["connecting", "connecting", "live", "offline", "offline"]) wire.connection(state);
  expect(wire.states.map((s) => s.state)).toEqual(["connecting", "live", "offline"]);
  for (let i = 0; i < 1000; i++) wire.connection(i % 2 ? "live" : "connecting");
  expect(wire.states.length).toBe(200);
  expect(wire.states.at(-1)?.state).toBe("live");
});

describe("the reference", () => {
  const doc = {
    components: { schemas: { "x.Cursor": { type: "object", properties: { seq: { type: "string", format: "int64" }, on: { type: "boolean" } } } } },
  } as unknown as Document;
  const entry = (over: object, path = "/v1/x/{id}", method = "GET"): Entry => ({ method, path, op: { operationId: "X_Y", responses: {}, ...over } });

  test("puts parameters where they belong", () => {
    const e = entry({ parameters: [{ name: "id", in: "path", required: true }, { name: "limit", in: "query" }, { name: "ids", in: "query", schema: { type: "array" } }] });
    expect(addressOf(e, { id: "a/b", limit: "5", ids: "x, y" })).toBe("/v1/x/a%2Fb?limit=5&ids=x&ids=y");
    expect(addressOf(e, { id: "a" })).toBe("/v1/x/a");
    expect(() => addressOf(e, {})).toThrow("id is missing");
  });

  test("makes a body of a schema", () => {
    const body = { content: { "application/json": { schema: { properties: { at: { $ref: "#/components/schemas/x.Cursor" }, ids: { type: "array", items: { type: "string" } } } } } } };
    expect(JSON.parse(exampleOf(doc, entry({ requestBody: body }).op) ?? "")).toEqual({ at: { seq: "0", on: false }, ids: [""] });
    expect(exampleOf(doc, entry({}).op)).toBeUndefined();
    expect(typeOf({ type: "array", items: { $ref: "#/components/schemas/x.Cursor" } })).toBe("Cursor[]");
  });

  test("writes commands that a shell takes as they are", () => {
    expect(curlOf(entry({}), "http://h/v1", undefined)).toBe(`curl -s 'http://h/v1' -H "Authorization: Bearer $TOKEN"`);
    expect(curlOf(entry({}, "", "PUT"), "http://h", `{"a": "it's"}`)).toContain(`-X PUT 'http://h' -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"a": "it'\\''s"}'`);
  });
});
