// Session parameters and the offer that carries them (docs/wire_format.md, "Session parameters").
import { equal, MalformedError, Reader, Writer } from "./bytes.js";
import { labeledHash, sha256, verifyDigest } from "./crypto.js";
import type { Task } from "./task.js";

const PARAMS_BYTES = 284;
export const OFFER_BYTES = PARAMS_BYTES + 64;
const ATTEMPTS_MAX = 4;
const SUITE = 1;
const SIGMA = 40;
const ETA = 20;

export class RefusedError extends Error {}

export interface SessionParams {
  magic: string;
  suite: number;
  mode: number;
  taskId: Buffer;
  taskHash: Buffer;
  round: bigint;
  attempt: number;
  modelHash: Buffer;
  vecLen: bigint;
  bits: number;
  wordBytes: number;
  bound: bigint;
  nMin: number;
  nMax: number;
  gammaPpm: number;
  deltaPpm: number;
  sigma: number;
  eta: number;
  honestMin: number;
  dpHash: Buffer;
  layoutHash: Buffer;
  coordinator: Buffer;
}

export interface Offer {
  params: SessionParams;
  sid0: Buffer;
}

export function decodeParams(bytes: Uint8Array): SessionParams {
  const reader = new Reader(bytes);
  const params = {
    magic: reader.raw(4).toString("latin1"),
    suite: reader.u16(),
    mode: reader.u8(),
    taskId: reader.raw(16),
    taskHash: reader.raw(32),
    round: reader.u64(),
    attempt: reader.u8(),
    modelHash: reader.raw(32),
    vecLen: reader.u64(),
    bits: reader.u8(),
    wordBytes: reader.u8(),
    bound: reader.u64(),
    nMin: reader.u32(),
    nMax: reader.u32(),
    gammaPpm: reader.u32(),
    deltaPpm: reader.u32(),
    sigma: reader.u8(),
    eta: reader.u8(),
    honestMin: reader.u32(),
    dpHash: reader.raw(32),
    layoutHash: reader.raw(32),
  };
  for (let i = 0; i < 5; ++i) reader.u32(); // the coordinator's deadlines bind only itself
  const coordinator = reader.raw(32);
  reader.raw(32); // the nonce
  reader.end();
  return { ...params, coordinator };
}

// The fewest bits that sums of so many contributions in [-bound, bound] cannot wrap in.
export function bitsFor(nMax: number, bound: number): number {
  return 1 + (BigInt(nMax) * BigInt(bound)).toString(2).length;
}

export function wordBytesFor(bits: number): number {
  return bits <= 16 ? 2 : bits <= 32 ? 4 : 8;
}

// What the parameters of a session of this task and round must be.
export function expectedParams(
  task: Task,
  round: bigint,
  modelHash: Buffer,
  coordinator: Buffer,
): SessionParams {
  const bits = bitsFor(task.cohort.maximum, task.encoding.bound);
  const secagg = task.protocol === "secagg";
  return {
    magic: secagg ? "CHS1" : "CHP1",
    suite: SUITE,
    mode: 0,
    taskId: sha256(Buffer.from(task.name)).subarray(0, 16),
    taskHash: sha256(task.bytes),
    round,
    attempt: 1,
    modelHash,
    vecLen: BigInt(task.parameters + 4),
    bits,
    wordBytes: wordBytesFor(bits),
    bound: BigInt(task.encoding.bound),
    nMin: task.cohort.minimum,
    nMax: task.cohort.maximum,
    gammaPpm: task.secagg.gammaPpm,
    deltaPpm: task.secagg.deltaPpm,
    sigma: SIGMA,
    eta: ETA,
    honestMin: task.secagg.honestMin,
    dpHash: sha256(new Writer().raw("CHP-CLIP1").f32(task.clip).take()),
    layoutHash: sha256(task.layout),
    coordinator,
  };
}

// The offer, once it is the pinned coordinator's and says what was agreed to.
export function acceptOffer(bytes: Uint8Array, expected: SessionParams): Offer {
  const reader = new Reader(bytes);
  const encoded = reader.raw(PARAMS_BYTES);
  const signature = reader.raw(64);
  reader.end();
  if (!verifyDigest(expected.coordinator, labeledHash("CHORUS1/params", encoded), signature)) {
    throw new RefusedError("the session parameters are not signed by the pinned coordinator");
  }
  const params = decodeParams(encoded);
  const exact = [
    "magic", "suite", "mode", "round", "vecLen", "bits", "wordBytes", "bound", "sigma", "eta",
  ] as const;
  for (const name of exact) {
    if (params[name] !== expected[name]) throw new RefusedError(`the session's ${name} is another`);
  }
  for (const name of ["taskId", "taskHash", "modelHash", "dpHash", "layoutHash", "coordinator"] as const) {
    if (!equal(params[name], expected[name])) throw new RefusedError(`the session's ${name} is another`);
  }
  if (params.attempt < 1 || params.attempt > ATTEMPTS_MAX) throw new RefusedError("too many attempts");
  if (params.nMin < expected.nMin || params.honestMin < expected.honestMin) {
    throw new RefusedError("the session's cohort may be too small");
  }
  if (params.nMax > expected.nMax) throw new RefusedError("the session's cohort may be too large");
  if (params.gammaPpm < expected.gammaPpm || params.deltaPpm < expected.deltaPpm) {
    throw new RefusedError("the session's assumptions are weaker than the task's");
  }
  return { params, sid0: labeledHash("CHORUS1/sid0", encoded) };
}

// k, t and the honest clients among whom a sum hides, in a complete graph of n.
export function completeGraph(n: number, gammaPpm: number, deltaPpm: number) {
  const ceilOfPpm = (ppm: number) => Math.ceil((ppm * n) / 1_000_000);
  const corrupt = Math.max(1, ceilOfPpm(gammaPpm));
  const k = n - 1;
  const t = Math.floor((k + corrupt) / 2) + 1;
  if (t + ceilOfPpm(deltaPpm) > k) throw new MalformedError("the cohort is too small for its assumptions");
  return { k, t, honest: t - corrupt + 1 };
}
