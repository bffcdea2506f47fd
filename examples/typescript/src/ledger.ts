// What left this device, on disk before it leaves: an update for a round is given once, and against
// one and the same model a few times only, whatever a coordinator says. One line of JSON each; a
// last line cut short by a crash is the trace of an upload that did not happen.
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, truncateSync, writeSync } from "node:fs";
import { join } from "node:path";

import { RefusedError } from "./params.js";

interface Entry {
  task: string; // id, hexadecimal
  round: string;
  model: string;
}

export class Ledger {
  private readonly path: string;
  private readonly entries: Entry[] = [];

  constructor(
    folder: string,
    private readonly uploadsPerModel: number, // 0: no limit
  ) {
    mkdirSync(folder, { recursive: true });
    this.path = join(folder, "ledger.jsonl");
    if (!existsSync(this.path)) return;
    const text = readFileSync(this.path, "utf8");
    const whole = text.lastIndexOf("\n") + 1;
    if (whole < text.length) truncateSync(this.path, Buffer.byteLength(text.slice(0, whole)));
    for (const line of text.slice(0, whole).split("\n")) {
      if (line !== "") this.entries.push(JSON.parse(line) as Entry);
    }
  }

  // Throws when no update may be made for this round from this model.
  check(task: string, round: bigint, model: string): void {
    const same = this.entries.filter((entry) => entry.task === task);
    if (same.some((entry) => entry.round === round.toString())) {
      throw new RefusedError(`this device has given an update to round ${round} already`);
    }
    const uses = same.filter((entry) => entry.model === model).length;
    if (this.uploadsPerModel > 0 && uses >= this.uploadsPerModel) {
      throw new RefusedError("this device has given enough updates against this model");
    }
  }

  // On disk when it returns.
  note(task: string, round: bigint, model: string): void {
    this.check(task, round, model);
    const entry: Entry = { task, round: round.toString(), model };
    const file = openSync(this.path, "a", 0o600);
    try {
      writeSync(file, JSON.stringify(entry) + "\n");
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    this.entries.push(entry);
  }
}
