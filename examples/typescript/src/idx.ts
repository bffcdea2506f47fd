// Images and labels in the IDX format of MNIST, bytes only.
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { Reader } from "./bytes.js";
import type { Examples } from "./model.js";

const UNSIGNED_BYTES = 8;

function readIdx(path: string, axes: number): { shape: number[]; bytes: Buffer } {
  const reader = new Reader(readFileSync(path));
  if (reader.u16() !== 0 || reader.u8() !== UNSIGNED_BYTES || reader.u8() !== axes) {
    throw new Error(`${path} is not an IDX file of bytes with ${axes} axes`);
  }
  const shape = Array.from({ length: axes }, () => reader.u32());
  const bytes = reader.raw(shape.reduce((product, length) => product * length, 1));
  reader.end();
  return { shape, bytes };
}

// Features in [0, 1].
export function readImages(folder: string): Examples {
  const images = readIdx(join(folder, "images-idx3-ubyte"), 3);
  const labels = readIdx(join(folder, "labels-idx1-ubyte"), 1);
  if (images.shape[0] !== labels.shape[0]) throw new Error(`${folder}: as many labels as images`);
  return {
    inputs: images.shape[1] * images.shape[2],
    features: Float32Array.from(images.bytes, (byte) => byte / 255),
    labels: new Uint8Array(labels.bytes),
  };
}
