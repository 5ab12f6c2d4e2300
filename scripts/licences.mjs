// Fails unless every Go module on standard input (path|folder a line) and every npm package of the lock files has an
// allowed licence, and every npm package a hash and a registry that it came from.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const allowed = new Set(["MIT", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "ISC", "MPL-2.0", "0BSD", "Unlicense", "CC0-1.0", "BlueOak-1.0.0", "Python-2.0"]);

// Words that a licence's text has and no other allowed one; the first that fits.
const texts = [
  ["Apache-2.0", /Apache License,? Version 2\.0/],
  ["MPL-2.0", /Mozilla Public License,? [Vv]ersion 2\.0/],
  ["ISC", /Permission to use, copy, modify, and(\/or)? distribute this software for any purpose/],
  ["MIT", /Permission is hereby granted, free of charge, to any person obtaining a copy/],
  ["BSD-3-Clause", /Redistribution and use in source and binary forms[\s\S]*(Neither the name|nor the names)/],
  ["BSD-2-Clause", /Redistribution and use in source and binary forms/],
  ["Unlicense", /This is free and unencumbered software released into the public domain/],
];

const bad = [];
const counts = new Map();
const count = (licence) => counts.set(licence, (counts.get(licence) ?? 0) + 1);

function goModules() {
  const lines = readFileSync(0, "utf8").split("\n").filter(Boolean);
  if (lines.length < 20) bad.push(`only ${lines.length} Go modules came`);
  for (const line of lines) {
    const [path, dir] = line.split("|");
    const files = existsSync(dir) ? readdirSync(dir).filter((f) => /^(licen[cs]e|copying)(\.|-|$)/i.test(f)) : [];
    const text = files.map((f) => readFileSync(join(dir, f), "utf8")).join(" ").replace(/\s+/g, " ");
    const licence = texts.find(([, words]) => words.test(text))?.[0];
    if (licence) count(licence);
    else bad.push(`${path}: no licence that is known here (${files.join(", ") || "no file"})`);
  }
}

// ok judges an SPDX expression: OR needs one allowed part, AND all.
const ok = (expression) =>
  expression.replace(/[()]/g, "").split(" OR ").some((part) => part.split(" AND ").every((one) => allowed.has(one.trim())));

function npmPackages(lock) {
  const { packages } = JSON.parse(readFileSync(lock, "utf8"));
  for (const [where, p] of Object.entries(packages)) {
    if (!where.startsWith("node_modules/") || p.link) continue;
    const name = `${lock}: ${where.slice("node_modules/".length)}`;
    // Packages for other platforms are locked without a hash where the registry did not have them.
    if (!p.integrity && !(p.optional && (p.os || p.cpu))) bad.push(`${name} has no hash`);
    if (p.integrity && !/^sha(512|384|256)-/.test(p.integrity)) bad.push(`${name} has a weak hash`);
    if (p.resolved && !p.resolved.startsWith("https://")) bad.push(`${name} comes from ${p.resolved.split(":")[0]}`);
    if (!p.license) {
      if (p.integrity) bad.push(`${name} states no licence`);
    } else if (ok(p.license)) count(p.license);
    else bad.push(`${name}: ${p.license} is not allowed`);
  }
}

goModules();
for (const dir of ["clients", "tools"]) {
  for (const name of readdirSync(dir)) {
    const lock = join(dir, name, "package-lock.json");
    if (existsSync(lock)) npmPackages(lock);
  }
}
if (bad.length > 0) {
  for (const line of bad) console.error(`audit: ${line}`);
  process.exit(1);
}
console.error("audit: licences: " + [...counts].sort((a, b) => b[1] - a[1]).map(([l, n]) => `${l} ${n}`).join(", "));
