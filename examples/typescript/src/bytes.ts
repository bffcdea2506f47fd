// Chorus's canonical bytes (docs/wire_format.md, "Payloads"): integers are big-endian, a list is a
// u32 count and its entries, what is left over after the last field is an error.

export class MalformedError extends Error {}

export class Writer {
  private readonly parts: Uint8Array[] = [];

  raw(bytes: Uint8Array | string): this {
    this.parts.push(typeof bytes === "string" ? Buffer.from(bytes, "ascii") : bytes);
    return this;
  }
  u8(value: number): this {
    return this.raw(Uint8Array.of(value));
  }
  u16(value: number): this {
    const bytes = Buffer.alloc(2);
    bytes.writeUInt16BE(value);
    return this.raw(bytes);
  }
  u32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return this.raw(bytes);
  }
  u64(value: bigint): this {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(value);
    return this.raw(bytes);
  }
  f32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatBE(value);
    return this.raw(bytes);
  }
  // With its length in front, as evidence stands.
  sized16(bytes: Uint8Array): this {
    return this.u16(bytes.length).raw(bytes);
  }
  take(): Buffer {
    return Buffer.concat(this.parts);
  }
}

// Every method throws MalformedError where the bytes end too soon.
export class Reader {
  private at = 0;
  private readonly bytes: Buffer;

  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }
  raw(length: number): Buffer {
    if (this.bytes.length - this.at < length) throw new MalformedError("the bytes end too soon");
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }
  u8(): number {
    return this.raw(1).readUInt8();
  }
  u16(): number {
    return this.raw(2).readUInt16BE();
  }
  u32(): number {
    return this.raw(4).readUInt32BE();
  }
  u64(): bigint {
    return this.raw(8).readBigUInt64BE();
  }
  sized16(): Buffer {
    return this.raw(this.u16());
  }
  // A count of entries that take at least `entryBytes` each, so that a lie allocates nothing.
  count(entryBytes: number): number {
    const count = this.u32();
    if (count * entryBytes > this.left()) throw new MalformedError("a list is longer than its bytes");
    return count;
  }
  left(): number {
    return this.bytes.length - this.at;
  }
  end(): void {
    if (this.left() !== 0) throw new MalformedError("bytes are left over at the end");
  }
}

export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

// Refuses indices that do not ascend strictly, or are no member's.
export class Ascending {
  private last = -1;
  constructor(private readonly members: number) {}
  next(index: number): number {
    if (index <= this.last || index >= this.members) {
      throw new MalformedError("indices of members must ascend and be below their number");
    }
    this.last = index;
    return index;
  }
}
