// node build/src/main.js --server HOST:PORT --keys FOLDER --data FOLDER --state FOLDER
//   --keys       what `chorus keys client` made: identity.key, certificate, coordinator.pub,
//                issuer.pub, tls-authority.pem
//   --data       images-idx3-ubyte and labels-idx1-ubyte, as `chorus split` makes them
//   --state      where the ledger is kept
//   --allow-plain, --uploads-per-model N (3; 0: no limit), --plaintext (no TLS)
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { certificateVerifier } from "./certificate.js";
import { Conversation, type Event } from "./conversation.js";
import { KEY_BYTES, privateKey, publicKey } from "./crypto.js";
import { readImages } from "./idx.js";
import { Ledger } from "./ledger.js";

const { values } = parseArgs({
  options: {
    server: { type: "string" },
    keys: { type: "string" },
    data: { type: "string" },
    state: { type: "string" },
    "allow-plain": { type: "boolean", default: false },
    "uploads-per-model": { type: "string", default: "3" },
    plaintext: { type: "boolean", default: false },
  },
});

function needed(name: "server" | "keys" | "data" | "state"): string {
  const value = values[name];
  if (value === undefined) throw new Error(`--${name} is needed`);
  return value;
}

function readHex(path: string): Buffer {
  const key = Buffer.from(readFileSync(path, "ascii").trim(), "hex");
  if (key.length !== KEY_BYTES) throw new Error(`${path} does not hold 64 hexadecimal digits`);
  return key;
}

function report(event: Event): void {
  const round = event.round === undefined ? "" : ` round ${event.round}`;
  const counted = event.counted === undefined ? "" : event.counted ? ": counted" : ": not counted";
  const reason = event.reason ? ` (${event.reason})` : "";
  console.log(`${event.kind}${round}${counted}${reason}`);
}

async function main(): Promise<void> {
  const keys = needed("keys");
  const seed = readHex(join(keys, "identity.key"));
  const key = privateKey("Ed25519", seed);
  const unixSeconds = () => Date.now() / 1000;
  const device = {
    identity: { key, id: publicKey(key), evidence: readFileSync(join(keys, "certificate")) },
    identitySeed: seed,
    coordinator: readHex(join(keys, "coordinator.pub")),
    verifier: certificateVerifier(readHex(join(keys, "issuer.pub")), unixSeconds),
    policy: {
      allowPlain: values["allow-plain"] ?? false,
      cohortMin: 3,
      honestMin: 2,
      normMax: 1e6,
    },
    ledger: new Ledger(needed("state"), Number(values["uploads-per-model"])),
    examples: readImages(needed("data")),
    unixSeconds,
  };
  const roots = values.plaintext ? undefined : readFileSync(join(keys, "tls-authority.pem"));
  await new Conversation(needed("server"), roots, device, report).run();
}

main().catch((error: Error) => {
  console.error(`chorus-typescript-client: ${error.message}`);
  process.exitCode = 1;
});
