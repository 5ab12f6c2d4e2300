/** A version 7 UUID (RFC 9562): time first, so that ids made one after the other lie together in an index. */
export function uuidv7(now: number = Date.now()): string {
  const b = crypto.getRandomValues(new Uint8Array(16));
  for (let i = 5, t = now; i >= 0; i--, t = Math.floor(t / 256)) b[i] = t % 256;
  return format(b, 7);
}

/** The namespace of direct sessions' ids. */
const namespace = "8f1d3c5a2f5e5c0b9f536f2d5b1a7e90";

/**
 * The id of the direct session of two users, as the server derives it: a version 5 UUID over both ids in byte order, each
 * after its length.
 */
export function directSessionId(a: string, b: string): string {
  const encoder = new TextEncoder();
  const pair = [encoder.encode(a), encoder.encode(b)].sort(compare);
  const name = pair.flatMap((id) => [id.length & 255, ...id]);
  const space = namespace.match(/../g) as string[];
  return format(sha1([...space.map((h) => parseInt(h, 16)), ...name]).slice(0, 16), 5);
}

function compare(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) if (a[i] !== b[i]) return (a[i] as number) - (b[i] as number);
  return a.length - b.length;
}

function format(b: Uint8Array, version: number): string {
  b[6] = ((b[6] as number) & 0x0f) | (version << 4);
  b[8] = ((b[8] as number) & 0x3f) | 0x80;
  const hex = Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** SHA-1 (FIPS 180-4), for names only: crypto.subtle is asynchronous, and absent from pages without TLS. */
function sha1(message: number[]): Uint8Array {
  const bits = message.length * 8;
  const bytes = [...message, 0x80];
  while (bytes.length % 64 !== 56) bytes.push(0);
  bytes.push(0, 0, 0, 0, (bits >>> 24) & 255, (bits >>> 16) & 255, (bits >>> 8) & 255, bits & 255);
  const h = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
  const rotate = (x: number, n: number): number => (x << n) | (x >>> (32 - n));
  for (let at = 0; at < bytes.length; at += 64) {
    const w: number[] = [];
    for (let t = 0; t < 80; t++) {
      const byte = (i: number): number => bytes[at + t * 4 + i] as number;
      const word = (i: number): number => w[t - i] as number;
      w[t] = t < 16 ? (byte(0) << 24) | (byte(1) << 16) | (byte(2) << 8) | byte(3) : rotate(word(3) ^ word(8) ^ word(14) ^ word(16), 1);
    }
    let [a, b, c, d, e] = h as [number, number, number, number, number];
    for (let t = 0; t < 80; t++) {
      const [f, k] =
        t < 20 ? [(b & c) | (~b & d), 0x5a827999]
        : t < 40 ? [b ^ c ^ d, 0x6ed9eba1]
        : t < 60 ? [(b & c) | (b & d) | (c & d), 0x8f1bbcdc]
        : [b ^ c ^ d, 0xca62c1d6];
      const next = (rotate(a, 5) + f + e + k + (w[t] as number)) | 0;
      [e, d, c, b, a] = [d, c, rotate(b, 30), a, next];
    }
    [a, b, c, d, e].forEach((x, i) => (h[i] = ((h[i] as number) + x) | 0));
  }
  return Uint8Array.from(h.flatMap((x) => [(x >>> 24) & 255, (x >>> 16) & 255, (x >>> 8) & 255, x & 255]));
}
