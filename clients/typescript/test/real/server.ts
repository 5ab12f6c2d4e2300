// Runs the real server for tests: `parley run` with a PostgreSQL of its own, behind a link that can be cut.
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { createServer, connect, type AddressInfo, type Server as NetServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const repository = fileURLToPath(new URL("../../../..", import.meta.url));
const adminKey = "a-key-for-tests-of-no-use-anywhere-else";

/** A TCP link to the server. */
export class Link {
  readonly #pairs = new Set<[Socket, Socket]>();
  #listener: NetServer | undefined;
  #mode: "open" | "closed" | "mute" = "open";
  port = 0;

  constructor(private readonly target: number) {}

  async listen(): Promise<void> {
    this.#listener = createServer((near) => {
      if (this.#mode === "closed") return void near.destroy();
      const far = connect(this.target, "127.0.0.1");
      const pair: [Socket, Socket] = [near, far];
      this.#pairs.add(pair);
      for (const socket of pair) {
        socket.on("error", () => {});
        socket.on("close", () => {
          this.#pairs.delete(pair);
          near.destroy();
          far.destroy();
        });
      }
      near.on("data", (b) => this.#mode !== "mute" && far.write(b));
      far.on("data", (b) => this.#mode !== "mute" && near.write(b));
    });
    await new Promise<void>((resolve) => this.#listener?.listen(0, "127.0.0.1", resolve));
    this.port = (this.#listener.address() as AddressInfo).port;
  }

  /** Breaks all connections; new ones work. */
  cut(): void {
    for (const [near, far] of [...this.#pairs]) {
      near.destroy();
      far.destroy();
    }
  }

  /** Breaks all connections and refuses new ones. */
  close(): void {
    this.#mode = "closed";
    this.cut();
  }

  /** Keeps connections and lets nothing through, as a network that is gone does. */
  mute(): void {
    this.#mode = "mute";
  }

  /** Everything works again. What was muted stays dead. */
  open(): void {
    if (this.#mode === "mute") this.cut();
    this.#mode = "open";
  }

  async end(): Promise<void> {
    this.close();
    await new Promise((resolve) => this.#listener?.close(resolve));
  }
}

/** The server program as a process. */
export class Server {
  #process: ChildProcess | undefined;
  #log = "";
  #opsPort = 0;
  #port = 0;
  #dir = "";
  #bin = "";
  link!: Link;

  /** Where clients reach it: through the link. */
  get url(): string {
    return `http://127.0.0.1:${this.link.port}`;
  }

  static async start(origin = ""): Promise<Server> {
    const server = new Server();
    server.#dir = await mkdtemp(join(tmpdir(), "parley-ts-"));
    await chmod(server.#dir, 0o755); // PostgreSQL's own user goes through it
    [server.#port, server.#opsPort] = await Promise.all([freePort(), freePort()]);
    server.#bin = process.env["PARLEY_BIN"] ?? (await build(server.#dir));
    server.link = new Link(server.#port);
    await server.link.listen();
    await server.restart(origin);
    return server;
  }

  #origin = "";

  /** Starts it (again) on the same ports and data, and waits until it is ready. */
  async restart(origin = this.#origin): Promise<void> {
    this.#origin = origin;
    const child = spawn(this.#bin, ["run"], {
      env: {
        PATH: process.env["PATH"] ?? "",
        HOME: process.env["HOME"] ?? "/",
        PARLEY_LISTEN: `127.0.0.1:${this.#port}`,
        PARLEY_ADMIN_LISTEN: `127.0.0.1:${this.#opsPort}`,
        PARLEY_DATA_DIR: join(this.#dir, "data"),
        PARLEY_ADMIN_KEY: adminKey,
        PARLEY_HEARTBEAT: "500ms",
        PARLEY_CORS_ORIGINS: origin,
        ...(process.env["PARLEY_PG_BIN"] && { PARLEY_PG_BIN: process.env["PARLEY_PG_BIN"] }),
      },
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#process = child;
    child.stderr?.on("data", (b: Buffer) => (this.#log = (this.#log + b.toString()).slice(-8000)));
    for (const end = Date.now() + 60_000; ; ) {
      if (child.exitCode !== null || Date.now() > end) throw new Error(`the server did not start:\n${this.#log}`);
      const ready = await fetch(`http://127.0.0.1:${this.#opsPort}/readyz`).then((r) => r.ok, () => false);
      if (ready) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Ends it as a crash would. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await ended;
  }

  async end(): Promise<void> {
    await this.link.end();
    await this.kill("SIGTERM");
    await rm(this.#dir, { recursive: true, force: true });
  }

  /** A call of the API as any program makes it, past the link. */
  async call<R>(method: string, body: object, token = adminKey): Promise<R> {
    const response = await fetch(`http://127.0.0.1:${this.#port}/parley.v1.${method}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${method}: ${response.status} ${await response.text()}`);
    return (await response.json()) as R;
  }

  /** A token for a device, which is made if it is new. */
  async token(userId: string, deviceId: string): Promise<string> {
    return (await this.call<{ token: string }>("AdminService/CreateToken", { userId, deviceId })).token;
  }
}

async function build(dir: string): Promise<string> {
  const out = join(dir, "parley");
  await promisify(execFile)("go", ["build", "-o", out, "./server/cmd/parley"], { cwd: repository });
  return out;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
