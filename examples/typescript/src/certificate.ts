// Certificates of identities (docs/wire_format.md, "What is signed or hashed outside a session").
import { equal, Reader } from "./bytes.js";
import { labeledHash, verifyDigest } from "./crypto.js";

const SIGNED_BYTES = 4 + 8 + 4 + 8 + 8 + 32 + 32;

// Whether the evidence vouches for the key now.
export type Verifier = (key: Uint8Array, evidence: Uint8Array) => boolean;

export function certificateVerifier(issuer: Uint8Array, unixSeconds: () => number): Verifier {
  return (key, evidence) => {
    if (evidence.length !== SIGNED_BYTES + 64) return false;
    const reader = new Reader(evidence);
    if (reader.raw(4).toString("latin1") !== "CHC1") return false;
    reader.u64(); // serial
    reader.u32(); // weight
    const [notBefore, notAfter] = [reader.u64(), reader.u64()];
    const [subject, signer] = [reader.raw(32), reader.raw(32)];
    const now = BigInt(Math.floor(unixSeconds()));
    if (now < notBefore || now > notAfter) return false;
    if (!equal(subject, key) || !equal(signer, issuer)) return false;
    const message = labeledHash("CHORUS1/certificate", evidence.subarray(0, SIGNED_BYTES));
    return verifyDigest(issuer, message, reader.raw(64));
  };
}
