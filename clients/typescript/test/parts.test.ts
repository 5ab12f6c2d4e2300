import fc from "fast-check";
import ts from "typescript";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { ErrorReason as PbReason } from "../gen/parley/v1/error_reason_pb.js";
import { fullJitter, ParleyError, type ErrorReason, type Message } from "../src/index.js";
import { Teller } from "../src/teller.js";
import { Thread } from "../src/thread.js";
import { directSessionId, uuidv7 } from "../src/uuid.js";

const entry = (seq: number): Message => ({
  sessionId: "s", seq, messageId: `${seq}`, senderId: "u", senderDeviceId: "d", type: "text",
  content: { kind: "text", body: "" }, isDeleted: false, createdAt: new Date(0), mentions: [], status: "sent",
});

test("a thread gives each seq once, in order, whichever way entries and left-out ranges come", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.integer({ min: 1, max: 40 }), fc.nat({ max: 6 }), fc.boolean())), fc.nat({ max: 5 }), (pieces, start) => {
      const thread = new Thread();
      const given: number[] = [];
      const drain = (): void => {
        for (let p = thread.next(); p; p = thread.next()) for (let s = Math.max(p.from, start + 1); s <= p.to; s++) given.push(s);
      };
      pieces.forEach(([from, more, skip], i) => {
        if (i === Math.floor(pieces.length / 2)) thread.open(start);
        if (skip) thread.leaveOut(from, from + more);
        else thread.add(entry(from));
        drain();
      });
      thread.open(start);
      drain();
      expect(given).toEqual(given.map((_, i) => start + 1 + i));
      const covered = new Set(pieces.flatMap(([from, more, skip]) => Array.from({ length: skip ? more + 1 : 1 }, (_, i) => from + i)));
      let reach = start;
      while (covered.has(reach + 1)) reach++;
      expect(given.length).toBe(reach - start);
    }),
    { numRuns: 500 },
  );
});

test("full jitter stays within a doubling bound", () => {
  const at = (random: number, n: number): number =>
    fullJitter({ baseMs: 100, maxMs: 1000, random: () => random }).delayMs(n, new ParleyError("UNREACHABLE", ""));
  expect([0, 1, 2, 3, 4, 400].map((n) => at(1, n))).toEqual([100, 200, 400, 800, 1000, 1000]);
  expect(at(0, 9)).toBe(0);
});

test("a direct session's id is the one that the server derives", () => {
  // As the server's session.DirectID gives them.
  expect(directSessionId("alice", "bob")).toBe(directSessionId("bob", "alice"));
  expect(directSessionId("é", "zoë")).toBe("bb197183-49f5-542c-b04d-e7d78b4d21dd");
  expect(directSessionId("alice", "bob")).toBe("5fb438e5-816f-535b-8dc3-d6c6159ceaba");
});

test("message ids are version 7 UUIDs that sort by time", () => {
  const id = uuidv7(0x0123456789ab);
  expect(id).toMatch(/^01234567-89ab-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(uuidv7(1) < uuidv7(2)).toBe(true);
});

test("reasons are those of the API", () => {
  const own = ["UNREACHABLE", "STREAM_SILENT", "NO_TOKEN", "STORE", "STOPPED"];
  const source = ts.createSourceFile("e.ts", ts.sys.readFile(fileURLToPath(new URL("../src/errors.ts", import.meta.url))) ?? "", ts.ScriptTarget.Latest);
  const type = source.statements.find((s) => ts.isTypeAliasDeclaration(s) && s.name.text === "ErrorReason") as ts.TypeAliasDeclaration;
  const written = (type.type as ts.UnionTypeNode).types.map((t) => ((t as ts.LiteralTypeNode).literal as ts.StringLiteral).text);
  const generated = Object.keys(PbReason).filter((k) => Number.isNaN(Number(k)));
  expect(new Set(written)).toEqual(new Set([...generated, ...own]));
  expect(new ParleyError("RATE_LIMITED" satisfies ErrorReason, "").retryable).toBe(true);
});

test("a teller drops what is refused for good and keeps what could not be told", async () => {
  const told: string[] = [];
  let away = true;
  const teller = new Teller(async (due) => {
    if (away) throw new ParleyError("UNAVAILABLE", "away");
    if (due.has("bad")) throw new ParleyError("CURSOR_BEYOND_HEAD", "refused");
    told.push(...[...due].map(([id, seq]) => `${id}:${seq}`));
  }, 1);
  teller.set("good", 1);
  teller.set("bad", 2);
  teller.set("good", 3);
  await teller.flush();
  expect(told).toEqual([]);
  away = false;
  await teller.flush();
  expect(told).toEqual(["good:3"]);
  teller.set("good", 2);
  await teller.flush();
  expect(told).toEqual(["good:3"]); // positions never move back
});

test("every export, and every public member of it, says what it is", () => {
  const dir = fileURLToPath(new URL("../src/", import.meta.url));
  const parse = (name: string): ts.SourceFile =>
    ts.createSourceFile(name, ts.sys.readFile(dir + name) ?? "", ts.ScriptTarget.Latest, true);
  const isBare = (node: ts.Node): boolean => !ts.getJSDocCommentsAndTags(node).some((doc) => doc.comment);
  const bare: string[] = [];
  let seen = 0;
  for (const statement of parse("index.ts").statements) {
    if (!ts.isExportDeclaration(statement) || !statement.exportClause || !ts.isNamedExports(statement.exportClause)) continue;
    const file = parse((statement.moduleSpecifier as ts.StringLiteral).text.replace("./", "").replace(".js", ".ts"));
    for (const { name } of statement.exportClause.elements) {
      const declaration = file.statements.find((s) => (s as unknown as ts.NamedDeclaration).name?.getText() === name.text);
      if (!declaration || isBare(declaration)) bare.push(name.text);
      seen++;
      if (!declaration || !(ts.isInterfaceDeclaration(declaration) || ts.isClassDeclaration(declaration))) continue;
      for (const member of declaration.members) {
        const text = member.name?.getText() ?? "constructor";
        const hidden = ts.getCombinedModifierFlags(member as ts.Declaration) & ts.ModifierFlags.Private;
        const internal = ts.getJSDocTags(member).some((t) => t.tagName.text === "internal");
        if (text === "kind" || text.startsWith("#") || hidden || internal) continue;
        const params = ts.isConstructorDeclaration(member) && ts.getJSDocTags(member).length > 0;
        if (isBare(member) && !params) bare.push(`${name.text}.${text}`);
      }
    }
  }
  expect(bare).toEqual([]);
  expect(seen).toBeGreaterThan(35);
});
