// This client's part in one round: what it agrees to, what it trains, what it lets out.
import { encodeContribution, clipToNorm } from "./contribution.js";
import { Writer } from "./bytes.js";
import type { Verifier } from "./certificate.js";
import { labeledHash, random, sha256 } from "./crypto.js";
import type { Ledger } from "./ledger.js";
import { Network, shuffle, type Examples, type Uniform } from "./model.js";
import { acceptOffer, expectedParams, RefusedError, type SessionParams } from "./params.js";
import { pack, type Words } from "./ring.js";
import { SecAggClient, type Identity } from "./secagg.js";
import type { Task } from "./task.js";

export interface Policy {
  allowPlain: boolean;
  cohortMin: number;
  honestMin: number;
  normMax: number;
}

export interface Device {
  identity: Identity;
  identitySeed: Buffer;
  coordinator: Buffer; // pinned key
  verifier: Verifier;
  policy: Policy;
  ledger: Ledger;
  examples: Examples;
  unixSeconds: () => number;
}

// Throws with the reason in words for the player.
export function permit(policy: Policy, task: Task): void {
  if (task.protocol === "plain" && !policy.allowPlain) {
    throw new RefusedError("the coordinator would read this player's update");
  }
  if (task.cohort.minimum < policy.cohortMin) throw new RefusedError("the cohort may be too small");
  if (task.protocol === "secagg" && task.secagg.honestMin < policy.honestMin) {
    throw new RefusedError("too few honest players need hide in the sum");
  }
  if (task.clip > policy.normMax) throw new RefusedError("one update may weigh too much");
}

const uniform: Uniform = () => random(6).readUIntBE(0, 6) / 2 ** 48;

// The same examples are held back for the life of an identity, and never trained on.
export function split(device: Device, task: Task): { train: number[]; heldBack: number[] } {
  const rows = [...device.examples.labels.keys()];
  let seed = sha256(Buffer.from("held-back"), device.identitySeed);
  shuffle(rows, () => {
    seed = sha256(seed);
    return seed.readUIntBE(0, 6) / 2 ** 48;
  });
  const count = Math.floor((rows.length * task.training.heldBackPercent) / 100);
  return { train: rows.slice(count), heldBack: rows.slice(0, count) };
}

export class Round {
  private readonly expected: SessionParams;
  private readonly taskId: string;
  private readonly modelHash: string;
  private session?: SecAggClient;
  private input?: Words;
  uploaded = false;

  constructor(
    private readonly device: Device,
    private readonly task: Task,
    readonly number: bigint,
    private readonly model: Buffer, // weights as binary32 little-endian
  ) {
    if (model.length !== 4 * task.parameters) throw new RefusedError("the model has another size");
    if (device.examples.inputs !== task.inputs) throw new RefusedError("these examples do not fit");
    const hash = labeledHash("CHORUS1/model", task.model, model);
    this.expected = expectedParams(task, number, hash, device.coordinator);
    this.taskId = this.expected.taskId.toString("hex");
    this.modelHash = hash.toString("hex");
    device.ledger.check(this.taskId, number, this.modelHash);
  }

  // Trains, and gives back what to send with the word that it is ready.
  train(): Buffer {
    const { device, task } = this;
    const before = new Float32Array(new Uint8Array(this.model).buffer);
    if (!before.every(Number.isFinite)) throw new RefusedError("the model is not made of numbers");
    const network = new Network(task, before.slice());
    const rows = split(device, task);
    if (rows.train.length === 0) throw new RefusedError("this device has no examples to train on");
    const evaluation = network.evaluate(device.examples, rows.heldBack);
    network.train(device.examples, rows.train, uniform);
    const update = network.weights.map((weight, i) => weight - before[i]);
    clipToNorm(update, task.clip);
    this.input = encodeContribution(
      task, this.expected.wordBytes, update, rows.train.length, evaluation, uniform,
    );
    if (task.protocol === "plain") return Buffer.alloc(0);
    this.session = new SecAggClient({
      identity: device.identity,
      expected: this.expected,
      verifier: device.verifier,
      input: this.input,
      unixSeconds: device.unixSeconds,
      beforeUpload: () => this.noteUpload(),
    });
    return this.session.preKeyRecord();
  }

  answer(question: Buffer): Buffer {
    if (this.session !== undefined) return this.session.answer(question);
    if (this.input === undefined) throw new Error("asked before training");
    const { sid0, params } = acceptOffer(question, this.expected);
    this.noteUpload();
    return new Writer().raw(sid0).raw(pack(this.input, params.bits)).take();
  }

  private noteUpload(): void {
    this.device.ledger.note(this.taskId, this.number, this.modelHash);
    this.uploaded = true;
  }
}
