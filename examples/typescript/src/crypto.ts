// What the wire needs of cryptography, over Node's own.
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
  randomBytes,
  sign,
  timingSafeEqual,
  verify,
  type KeyObject,
} from "node:crypto";

import { equal, Writer } from "./bytes.js";

export const KEY_BYTES = 32;
const TAG_BYTES = 16;
const ZERO_NONCE = Buffer.alloc(12);
// PKCS #8 of a raw private key: RFC 8410, section 7.
const PKCS8 = {
  Ed25519: Buffer.from("302e020100300506032b657004220420", "hex"),
  X25519: Buffer.from("302e020100300506032b656e04220420", "hex"),
};

export type Curve = keyof typeof PKCS8;

export function privateKey(curve: Curve, seed: Uint8Array): KeyObject {
  const key = Buffer.concat([PKCS8[curve], seed]);
  return createPrivateKey({ key, format: "der", type: "pkcs8" });
}

function publicKeyObject(curve: Curve, raw: Uint8Array): KeyObject {
  const x = Buffer.from(raw).toString("base64url");
  return createPublicKey({ key: { kty: "OKP", crv: curve, x }, format: "jwk" });
}

export function publicKey(secret: KeyObject): Buffer {
  return Buffer.from(createPublicKey(secret).export({ format: "jwk" }).x as string, "base64url");
}

export function random(bytes: number): Buffer {
  return randomBytes(bytes);
}

export function sha256(...parts: Uint8Array[]): Buffer {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

// H_L(label; fields).
export function labeledHash(label: string, ...fields: Uint8Array[]): Buffer {
  const writer = new Writer().u16(label.length).raw(label).u32(fields.length);
  for (const field of fields) writer.u32(field.length).raw(field);
  return sha256(writer.take());
}

export function u32(value: number): Buffer {
  return new Writer().u32(value).take();
}

export function signDigest(secret: KeyObject, digest: Uint8Array): Buffer {
  return sign(null, digest, secret);
}

// The y coordinates of the points of low order, in every encoding of 255 bits. Node's OpenSSL takes
// them for keys and for R, and others do not.
const LOW_ORDER = new Set([
  "00".repeat(32),
  "01" + "00".repeat(31),
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  ...["ec", "ed", "ee"].map((first) => first + "ff".repeat(30) + "7f"),
]);

function isOfLowOrder(point: Uint8Array): boolean {
  const y = Buffer.from(point);
  y[31]! &= 0x7f;
  return LOW_ORDER.has(y.toString("hex"));
}

export function verifyDigest(key: Uint8Array, digest: Uint8Array, signature: Uint8Array): boolean {
  if (isOfLowOrder(key) || isOfLowOrder(signature.subarray(0, KEY_BYTES))) return false;
  try {
    return verify(null, digest, publicKeyObject("Ed25519", key), signature);
  } catch {
    return false; // not a point of the curve
  }
}

// Throws on a point of low order.
export function agree(secret: KeyObject, peer: Uint8Array): Buffer {
  const shared = diffieHellman({ privateKey: secret, publicKey: publicKeyObject("X25519", peer) });
  if (equal(shared, Buffer.alloc(KEY_BYTES))) throw new Error("a peer's key is of low order");
  return shared;
}

// A key as RFC 7748 has it written: below 2^255 - 19.
export function isCanonicalPoint(key: Uint8Array): boolean {
  const value = BigInt("0x" + Buffer.from(key).reverse().toString("hex"));
  return value < (1n << 255n) - 19n;
}

export function hkdf(secret: Uint8Array, salt: Uint8Array, info: Uint8Array): Buffer {
  return Buffer.from(hkdfSync("sha256", secret, salt, info, KEY_BYTES));
}

export function tag16(key: Uint8Array, word: string, sid: Uint8Array): Buffer {
  return createHmac("sha256", key).update(word).update(sid).digest().subarray(0, TAG_BYTES);
}

export function equalConstantTime(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

// AES-256-GCM; each key seals one message, so the nonce is zero.
export function seal(key: Uint8Array, aad: Uint8Array, plain: Uint8Array): Buffer {
  const cipher = createCipheriv("aes-256-gcm", key, ZERO_NONCE);
  cipher.setAAD(aad);
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

// Undefined when it does not open.
export function open(key: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Buffer | undefined {
  const decipher = createDecipheriv("aes-256-gcm", key, ZERO_NONCE, { authTagLength: TAG_BYTES });
  decipher.setAAD(aad);
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  const plain = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES));
  try {
    return Buffer.concat([plain, decipher.final()]);
  } catch {
    return undefined;
  }
}

// The AES-256-CTR key stream whose counter block is the block's index, big-endian.
export class KeyStream {
  private readonly cipher;
  constructor(key: Uint8Array) {
    this.cipher = createCipheriv("aes-256-ctr", key, Buffer.alloc(16));
  }
  next(bytes: number): Buffer {
    return this.cipher.update(Buffer.alloc(bytes));
  }
}

// RFC 6962, section 2.1: whether `leaf` (a hash already) is the leaf `index` of `size` under `root`.
export function merkleVerify(
  leaf: Uint8Array,
  index: number,
  size: number,
  path: Uint8Array[],
  root: Uint8Array,
): boolean {
  if (index >= size) return false;
  const node = (a: Uint8Array, b: Uint8Array) => sha256(Uint8Array.of(1), a, b);
  let hash: Uint8Array = leaf;
  let at = index;
  let last = size - 1;
  for (const sibling of path) {
    if (last === 0) return false;
    if (at % 2 === 1 || at === last) {
      hash = node(sibling, hash);
      while (at % 2 === 0 && at !== 0) {
        at >>>= 1;
        last >>>= 1;
      }
    } else {
      hash = node(hash, sibling);
    }
    at >>>= 1;
    last >>>= 1;
  }
  return last === 0 && equal(hash, root);
}

// How many hashes the audit path of a leaf has.
export function merklePathLength(index: number, size: number): number {
  let length = 0;
  let at = index;
  let last = size - 1;
  while (last > 0) {
    if (at % 2 === 1 || at !== last) length += 1;
    at >>>= 1;
    last >>>= 1;
  }
  return length;
}
