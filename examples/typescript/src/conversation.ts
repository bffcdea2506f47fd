// The conversation of docs/wire_format.md with a coordinator, from check-in to the end of the task.
import { Client, credentials, status, type ServiceError } from "@grpc/grpc-js";
import { setTimeout as sleep } from "node:timers/promises";

import { equal } from "./bytes.js";
import { labeledHash, random, sha256, signDigest, verifyDigest } from "./crypto.js";
import { RefusedError } from "./params.js";
import { decode, encode, type Fields } from "./proto.js";
import { permit, Round, type Device } from "./round.js";
import { decodeTask } from "./task.js";

const CHUNK_BYTES = 1 << 20;
const QUESTION_BYTES_MAX = 8 << 20;
const MODEL_BYTES_MAX = 1 << 30;
const CALL_MS = 60_000;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 30_000;
const VERSION = 1;

// Whether the same call may go better later.
const PASSING = new Set([
  status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.CANCELLED, status.RESOURCE_EXHAUSTED,
  status.ABORTED, status.INTERNAL, status.UNKNOWN,
]);

export interface Event {
  kind: "connected" | "invited" | "refused" | "trained" | "uploaded" | "over" | "lost" | "complete";
  round?: bigint;
  counted?: boolean;
  reason?: string;
}

export class Conversation {
  private readonly client: Client;
  private session = Buffer.alloc(0);
  private done = 0n;
  private round?: Round;
  private backoff = BACKOFF_FIRST_MS;

  constructor(
    server: string,
    roots: Buffer | undefined, // undefined: without TLS
    private readonly device: Device,
    private readonly tell: (event: Event) => void,
  ) {
    const how = roots === undefined ? credentials.createInsecure() : credentials.createSsl(roots);
    const limits = { "grpc.max_receive_message_length": 2 * CHUNK_BYTES };
    this.client = new Client(server, how, limits);
  }

  // Ends when the task is complete, or with an error that no repetition mends.
  async run(): Promise<void> {
    try {
      for (;;) {
        try {
          await this.checkIn();
          this.tell({ kind: "connected" });
          this.backoff = BACKOFF_FIRST_MS;
          while (await this.step());
          this.tell({ kind: "complete" });
          return;
        } catch (error) {
          const code = (error as ServiceError).code;
          this.lose(String((error as Error).message));
          if (code === status.UNAUTHENTICATED && this.session.length > 0) {
            this.session = Buffer.alloc(0);
            continue; // the session is gone: check in again
          }
          if (!PASSING.has(code)) throw error;
          await this.pause();
        }
      }
    } finally {
      this.client.close();
    }
  }

  private lose(reason: string): void {
    if (this.round !== undefined) this.tell({ kind: "lost", round: this.round.number, reason });
    this.round = undefined;
  }

  private async pause(): Promise<void> {
    await sleep(this.backoff * (0.5 + random(4).readUInt32BE() / 2 ** 33));
    this.backoff = Math.min(BACKOFF_MAX_MS, 2 * this.backoff);
  }

  private call(method: string, request: Fields): Promise<Fields> {
    return new Promise((resolve, reject) => {
      this.client.makeUnaryRequest(
        `/chorus.v1.Coordinator/${method}`,
        (fields: Fields) => encode(method === "GetStatus" ? "StatusRequest" : method + "Request", fields),
        (bytes: Buffer) => decode(method === "GetStatus" ? "StatusReply" : method + "Reply", bytes),
        request,
        { deadline: Date.now() + CALL_MS },
        (error, reply) => (error ? reject(error) : resolve(reply as Fields)),
      );
    });
  }

  // Calls until it works or fails for good; the session outlives a broken connection.
  private async callAgain(method: string, request: Fields): Promise<Fields> {
    for (;;) {
      try {
        const reply = await this.call(method, { session: this.session, ...request });
        this.backoff = BACKOFF_FIRST_MS;
        return reply;
      } catch (error) {
        const code = (error as ServiceError).code;
        if (code !== status.UNAVAILABLE && code !== status.DEADLINE_EXCEEDED) throw error;
        await this.pause();
      }
    }
  }

  private async checkIn(): Promise<void> {
    const { identity, coordinator } = this.device;
    this.session = Buffer.alloc(0);
    const { challenge } = await this.call("Challenge", {});
    const message = labeledHash(
      "CHORUS1/check-in", coordinator, challenge, identity.id, sha256(identity.evidence),
    );
    const reply = await this.call("CheckIn", {
      challenge,
      identity: identity.id,
      evidence: identity.evidence,
      signature: signDigest(identity.key, message),
      version: VERSION,
    });
    this.session = reply.session;
    this.done = 0n;
  }

  // Asks what to do and does it; false once the task is complete.
  private async step(): Promise<boolean> {
    const next = await this.callAgain("Next", { done: this.done });
    const sequence = BigInt(next.sequence);
    if (next.what === "wait") {
      if (next.wait.complete) return false;
      await sleep(Math.max(20, next.wait.retryMs));
    } else if (next.what === "invitation") {
      await this.beInvited(next.invitation, sequence);
      this.done = sequence;
    } else if (next.what === "question") {
      await this.beAsked(next.question, sequence);
      this.done = sequence;
    } else if (next.what === "roundOver") {
      const { round, counted, reason } = next.roundOver;
      this.tell({ kind: "over", round: BigInt(round), counted, reason });
      this.round = undefined;
      this.done = sequence;
    }
    return true;
  }

  private async beInvited(invitation: Fields, sequence: bigint): Promise<void> {
    const number = BigInt(invitation.round);
    this.tell({ kind: "invited", round: number });
    try {
      const message = labeledHash("CHORUS1/task", invitation.task);
      if (!verifyDigest(this.device.coordinator, message, invitation.taskSignature)) {
        throw new RefusedError("the task is not signed by the pinned coordinator");
      }
      const task = decodeTask(invitation.task);
      permit(this.device.policy, task);
      const bytes = Number(invitation.modelBytes);
      if (bytes !== 4 * task.parameters || bytes > MODEL_BYTES_MAX) {
        throw new RefusedError("the model has another size than the task's");
      }
      const model = await this.download(invitation.model, Buffer.alloc(0), bytes);
      const round = new Round(this.device, task, number, model);
      const ready = round.train();
      this.round = round;
      this.tell({ kind: "trained", round: number });
      await this.upload(ready, sequence);
    } catch (error) {
      await this.decline(error, number, sequence);
    }
  }

  private async beAsked(question: Fields, sequence: bigint): Promise<void> {
    const number = this.round?.number ?? 0n;
    try {
      const total = Number(question.totalBytes);
      if (total > QUESTION_BYTES_MAX) throw new RefusedError("the question is too long");
      const body = await this.download(question.sha256, question.data, total);
      if (this.round === undefined) throw new RefusedError("this client is in no round");
      const wasUploaded = this.round.uploaded;
      await this.upload(this.round.answer(body), sequence);
      if (!wasUploaded && this.round.uploaded) this.tell({ kind: "uploaded", round: number });
    } catch (error) {
      await this.decline(error, number, sequence);
    }
  }

  // Ends this client's part in the round; what is the connection's fault goes on to run().
  private async decline(error: unknown, round: bigint, sequence: bigint): Promise<void> {
    const code = (error as ServiceError).code;
    if (typeof code === "number" && code !== status.FAILED_PRECONDITION && code !== status.INVALID_ARGUMENT) {
      throw error;
    }
    this.round = undefined;
    this.tell({ kind: "refused", round, reason: (error as Error).message });
    if (typeof code === "number") return; // the coordinator has ended it already
    const abortCode = error instanceof RefusedError ? status.PERMISSION_DENIED : status.ABORTED;
    const nothing = Buffer.alloc(0);
    await this.callAgain("Upload", { sequence, abortCode, sha256: sha256(nothing) });
  }

  private async download(digest: Buffer, first: Buffer, total: number): Promise<Buffer> {
    const parts = [first];
    let received = first.length;
    while (received < total) {
      const { data, totalBytes } = await this.callAgain("Download", {
        sha256: digest,
        offset: BigInt(received),
      });
      if (Number(totalBytes) !== total || data.length === 0 || received + data.length > total) {
        throw new RefusedError("the coordinator sends other bytes than it promised");
      }
      parts.push(data);
      received += data.length;
    }
    const whole = Buffer.concat(parts);
    if (!equal(sha256(whole), digest)) throw new RefusedError("a download does not match its digest");
    return whole;
  }

  private async upload(answer: Buffer, sequence: bigint): Promise<void> {
    const digest = sha256(answer);
    let received = 0;
    do {
      const reply = await this.callAgain("Upload", {
        sequence,
        offset: BigInt(received),
        totalBytes: BigInt(answer.length),
        sha256: digest,
        data: answer.subarray(received, received + CHUNK_BYTES),
      });
      const now = Number(reply.received);
      if (now > answer.length || (now === received && answer.length > 0 && now < answer.length)) {
        throw new RefusedError("the coordinator does not take the answer");
      }
      received = now;
    } while (received < answer.length);
  }
}
