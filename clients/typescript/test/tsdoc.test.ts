// Every export says what it is: types, classes, their public members and the fields of what they give.
import ts from "typescript";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const entry = fileURLToPath(new URL("../src/index.ts", import.meta.url));
const own = fileURLToPath(new URL("../src/", import.meta.url));

/** What has no comment, as "Class.member", of all that a module exports. */
function undocumented(program: ts.Program, path: string): { seen: number; without: string[] } {
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(path);
  const module = source && checker.getSymbolAtLocation(source);
  if (!module) throw new Error(`${path} is no module`);
  const without: string[] = [];
  let seen = 0;
  const look = (symbol: ts.Symbol, name: string): void => {
    seen++;
    if (ts.displayPartsToString(symbol.getDocumentationComment(checker)).trim() === "") without.push(name);
  };
  const isHidden = (d: ts.Declaration): boolean =>
    ("name" in d && d.name !== undefined && ts.isPrivateIdentifier(d.name as ts.Node)) ||
    (ts.getCombinedModifierFlags(d) & (ts.ModifierFlags.Private | ts.ModifierFlags.Protected)) !== 0 ||
    ts.getJSDocTags(d).some((t) => t.tagName.text === "internal");
  for (const exported of checker.getExportsOfModule(module)) {
    const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
    look(symbol, exported.name);
    for (const declaration of symbol.declarations ?? []) {
      if (!ts.isClassDeclaration(declaration) && !ts.isInterfaceDeclaration(declaration)) continue;
      for (const member of declaration.members) {
        if (isHidden(member) || ts.isConstructorDeclaration(member) || ts.isSemicolonClassElement(member)) continue;
        const of = member.name && checker.getSymbolAtLocation(member.name);
        if (of && member.getSourceFile().fileName.startsWith(own)) look(of, `${exported.name}.${of.name}`);
      }
    }
  }
  return { seen, without: [...new Set(without)] };
}

const program = ts.createProgram([entry], {
  target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, noEmit: true,
});

test("every export has TSDoc", () => {
  const { seen, without } = undocumented(program, entry);
  expect(without).toEqual([]);
  expect(seen).toBeGreaterThan(150);
});

test("the TSDoc of ClientEvent names each event", () => {
  const declaration = program.getSourceFile(`${own}model.ts`)?.statements.find((d) => ts.isTypeAliasDeclaration(d) && d.name.text === "ClientEvent");
  const text = declaration?.getFullText() ?? "";
  const types = [...text.matchAll(/readonly type: "(\w+)"/g)].map((m) => m[1] ?? "");
  expect(types.length).toBeGreaterThanOrEqual(11);
  expect(types.filter((t) => !text.includes(`- \`${t}\`:`))).toEqual([]);
});
