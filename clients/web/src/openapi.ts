// The parts of an OpenAPI document that the reference shows.

export interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly format?: string;
  readonly description?: string;
  readonly enum?: readonly string[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
}

export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required?: boolean;
  readonly description?: string;
  readonly schema?: Schema;
}

export interface Operation {
  readonly operationId: string;
  readonly summary?: string;
  readonly description?: string;
  readonly tags?: readonly string[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema?: Schema }>> };
  readonly responses: Readonly<Record<string, { readonly description?: string; readonly content?: Readonly<Record<string, { readonly schema?: Schema }>> }>>;
  readonly security?: ReadonlyArray<Readonly<Record<string, unknown>>>;
}

export interface Document {
  readonly info: { readonly title: string; readonly description?: string };
  readonly tags: ReadonlyArray<{ readonly name: string; readonly description?: string }>;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

export interface Entry {
  readonly method: string;
  readonly path: string;
  readonly op: Operation;
}

const methods = ["get", "post", "put", "patch", "delete"];

/** All operations of a tag, in the document's order. */
export function entriesOf(doc: Document, tag: string): Entry[] {
  return Object.entries(doc.paths).flatMap(([path, item]) =>
    Object.entries(item).filter(([method, op]) => methods.includes(method) && op.tags?.includes(tag))
      .map(([method, op]) => ({ method: method.toUpperCase(), path, op })));
}

export function resolve(doc: Document, schema: Schema | undefined): Schema {
  const name = schema?.$ref?.replace("#/components/schemas/", "");
  return (name ? doc.components.schemas[name] : schema) ?? {};
}

/** The type of a field in a word or two. */
export function typeOf(schema: Schema): string {
  if (schema.$ref) return schema.$ref.split(".").at(-1) ?? "";
  if (schema.type === "array") return `${typeOf(schema.items ?? {})}[]`;
  if (schema.enum) return schema.enum.join(" | ");
  return [schema.type, schema.format && `(${schema.format})`].filter(Boolean).join(" ");
}

const uuid = "00000000-0000-4000-8000-000000000000";

// Bodies that work as they are, where a schema alone cannot say what is wanted.
const bodies: Readonly<Record<string, () => object>> = {
  MessageService_SendMessage: () => ({ messageId: crypto.randomUUID(), content: { text: { body: "hi" } } }),
  MessageService_SendMessages: () => ({ messages: [{ peerUserId: "bob", messageId: crypto.randomUUID(), content: { text: { body: "hi" } } }] }),
  SessionService_CreateSession: () => ({ group: { title: "A group" }, memberIds: ["bob"], requestId: crypto.randomUUID() }),
  StateService_MarkRead: () => ({ upToSeq: "1" }),
  SyncService_SendSignal: () => ({ signal: { typing: { isTyping: true } } }),
  SyncService_Ack: () => ({ acks: [{ sessionId: uuid, seq: "1" }] }),
  PresenceService_WatchPresence: () => ({ userIds: ["bob"] }),
  RelationService_RespondFriendRequest: () => ({ accept: true }),
  AdminService_CreateToken: () => ({ userId: "carol", deviceId: "phone" }),
};

/** A body to begin with. */
export function exampleOf(doc: Document, op: Operation): string | undefined {
  const schema = op.requestBody?.content["application/json"]?.schema;
  if (!schema) return undefined;
  const own = bodies[op.operationId.replace(/_\d+$/, "")]?.(); // one that has several paths is numbered
  return JSON.stringify(own ?? sample(doc, schema, 0), null, 2);
}

function sample(doc: Document, schema: Schema, depth: number): unknown {
  const s = resolve(doc, schema);
  if (s.enum) return s.enum[0];
  if (s.type === "array") return depth > 1 ? [] : [sample(doc, s.items ?? {}, depth + 1)];
  if (s.type === "boolean") return false;
  if (s.type === "integer" || s.type === "number") return 0;
  if (s.type === "string") return s.format === "int64" ? "0" : "";
  if (depth > 1) return {};
  return Object.fromEntries(Object.entries(s.properties ?? {}).map(([name, p]) => [name, sample(doc, p, depth + 1)]));
}

/** The address of a call; fails with the name of a path parameter that is missing. */
export function addressOf(entry: Entry, values: Readonly<Record<string, string>>): string {
  const query = new URLSearchParams();
  let path = entry.path;
  for (const p of entry.op.parameters ?? []) {
    const value = values[p.name] ?? "";
    if (p.in === "path") {
      if (!value) throw new Error(`${p.name} is missing`);
      path = path.replace(`{${p.name}}`, encodeURIComponent(value));
    } else if (value) for (const one of p.schema?.type === "array" ? value.split(",") : [value]) query.append(p.name, one.trim());
  }
  return query.size > 0 ? `${path}?${query}` : path;
}

/** The call as a command for a shell. */
export function curlOf(entry: Entry, url: string, body: string | undefined): string {
  const quote = (s: string): string => `'${s.replaceAll("'", `'\\''`)}'`;
  const parts = ["curl -s"];
  if (entry.method !== (body === undefined ? "GET" : "POST")) parts.push(`-X ${entry.method}`);
  parts.push(quote(url), `-H "Authorization: Bearer $TOKEN"`);
  if (body !== undefined) parts.push(`-H 'Content-Type: application/json'`, `-d ${quote(body.replace(/\s*\n\s*/g, " "))}`);
  return parts.join(" ");
}
