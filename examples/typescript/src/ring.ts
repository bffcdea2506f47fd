// Vectors of residues modulo 2^16, 2^32 or 2^64, whose words wrap by themselves.
import { KeyStream } from "./crypto.js";

export type Words = Uint16Array | Uint32Array | BigUint64Array;

const TILE_WORDS = 16_384;

export function zeros(length: number, wordBytes: number): Words {
  if (wordBytes === 2) return new Uint16Array(length);
  return wordBytes === 4 ? new Uint32Array(length) : new BigUint64Array(length);
}

export function setSigned(words: Words, at: number, value: number): void {
  if (words instanceof BigUint64Array) words[at] = BigInt.asUintN(64, BigInt(value));
  else words[at] = value;
}

// words += sign * PRG(key), whose words are little-endian as this machine's are.
export function addMask(words: Words, key: Uint8Array, sign: 1 | -1): void {
  const stream = new KeyStream(key);
  for (let begin = 0; begin < words.length; begin += TILE_WORDS) {
    const count = Math.min(TILE_WORDS, words.length - begin);
    const bytes = stream.next(count * words.BYTES_PER_ELEMENT);
    const aligned = new Uint8Array(bytes).buffer;
    if (words instanceof BigUint64Array) {
      const mask = new BigUint64Array(aligned);
      for (let i = 0; i < count; ++i) words[begin + i] += BigInt(sign) * mask[i];
    } else {
      const mask = words instanceof Uint16Array ? new Uint16Array(aligned) : new Uint32Array(aligned);
      for (let i = 0; i < count; ++i) words[begin + i] += sign * mask[i];
    }
  }
}

// The low `bits` of each word, one after the other in a little-endian bit stream.
export function pack(words: Words, bits: number): Buffer {
  const packed = Buffer.alloc(Math.ceil((words.length * bits) / 8));
  let at = 0;
  let held = 0n;
  let heldBits = 0;
  const mask = (1n << BigInt(bits)) - 1n;
  for (const word of words) {
    held |= (BigInt(word) & mask) << BigInt(heldBits);
    heldBits += bits;
    while (heldBits >= 8) {
      packed[at++] = Number(held & 0xffn);
      held >>= 8n;
      heldBits -= 8;
    }
  }
  if (heldBits > 0) packed[at] = Number(held);
  return packed;
}
