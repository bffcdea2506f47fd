// Shamir's sharing of 32 bytes over GF(2^61 - 1), in five limbs of 7, 7, 7, 7 and 4 bytes, little-
// endian (docs/wire_format.md, "Keys").
import { random } from "./crypto.js";

export const SHARE_BYTES = 40;
export const PRIME = (1n << 61n) - 1n;
const LIMB_BYTES = [7, 7, 7, 7, 4];

function fromLittleEndian(bytes: Uint8Array): bigint {
  return BigInt("0x" + Buffer.from(bytes).reverse().toString("hex"));
}

function randomElement(): bigint {
  for (;;) {
    const value = fromLittleEndian(random(8)) & PRIME;
    if (value < PRIME) return value;
  }
}

// A polynomial for each limb, of which `threshold` values give the secret and fewer say nothing.
export class Sharing {
  private readonly coefficients: bigint[][];

  // `coefficient` of limb c and degree j from 1 is drawn, save in tests.
  constructor(
    secret: Uint8Array,
    threshold: number,
    coefficient: (c: number, j: number) => bigint = randomElement,
  ) {
    let at = 0;
    this.coefficients = LIMB_BYTES.map((bytes, c) => {
      const limb = fromLittleEndian(secret.subarray(at, at + bytes));
      at += bytes;
      const rest = Array.from({ length: threshold - 1 }, (_, j) => coefficient(c, j + 1));
      return [limb, ...rest];
    });
  }

  // The share at x = `x`, from 1.
  at(x: number): Buffer {
    const share = Buffer.alloc(SHARE_BYTES);
    this.coefficients.forEach((coefficients, c) => {
      const value = coefficients.reduceRight((sum, next) => (sum * BigInt(x) + next) % PRIME, 0n);
      share.writeBigUInt64LE(value, 8 * c);
    });
    return share;
  }
}

export function isShare(bytes: Uint8Array): boolean {
  const share = Buffer.from(bytes);
  return LIMB_BYTES.every((_, c) => share.readBigUInt64LE(8 * c) < PRIME);
}
