// A client's side of SecAgg over a complete graph (docs/wire_format.md, "SecAgg"). One object is one
// session; a failure ends it, and nothing of it is used again.
import type { KeyObject } from "node:crypto";

import { Ascending, MalformedError, Reader, Writer } from "./bytes.js";
import type { Verifier } from "./certificate.js";
import {
  agree,
  equalConstantTime,
  hkdf,
  isCanonicalPoint,
  KEY_BYTES,
  labeledHash,
  merklePathLength,
  merkleVerify,
  open,
  privateKey,
  publicKey,
  random,
  seal,
  sha256,
  signDigest,
  tag16,
  u32,
  verifyDigest,
} from "./crypto.js";
import { addMask, pack, type Words } from "./ring.js";
import { acceptOffer, completeGraph, OFFER_BYTES, RefusedError, type Offer, type SessionParams } from "./params.js";
import { isShare, SHARE_BYTES, Sharing } from "./shamir.js";

const PRE_KEY_HOURS = 24;
const CLOCK_SKEW_SECONDS = 3600;
const SEALED_BYTES = 2 * SHARE_BYTES + 16;

// --- what is hashed and derived, as the documents have it ------------------------------------

export const orderKey = (sid0: Uint8Array, id: Uint8Array) => labeledHash("CHORUS1/order", sid0, id);
export const rosterLeaf = (sid0: Uint8Array, id: Uint8Array, c: Uint8Array, s: Uint8Array) =>
  sha256(Uint8Array.of(0), labeledHash("CHORUS1/leaf", sid0, id, c, s));
export const rosterMessage = (sid0: Uint8Array, n: number, root: Uint8Array) =>
  labeledHash("CHORUS1/roster", sid0, u32(n), root);
export const sessionId = (sid0: Uint8Array, n: number, root: Uint8Array) =>
  labeledHash("CHORUS1/sid", sid0, u32(n), root);
export const selfMaskKey = (sid: Uint8Array, b: Uint8Array, me: number) =>
  hkdf(b, sid, new Writer().raw("CHORUS1/self-mask").u32(me).take());
export const shareCommitment = (sid: Uint8Array, me: number, b: Uint8Array) =>
  labeledHash("CHORUS1/com-b", sid, u32(me), b);

interface End {
  index: number;
  key: Uint8Array;
}

// Info of a key that goes from one to the other: label and ctx(from, to, P).
const context = (label: string, from: End, to: End) =>
  new Writer().raw(label).u32(from.index).u32(to.index).raw(from.key).raw(to.key).take();

export const channelKey = (label: string, secret: Uint8Array, sid: Uint8Array, from: End, to: End) =>
  hkdf(secret, sid, context(label, from, to));
export const pairMaskKey = (secret: Uint8Array, sid: Uint8Array, a: End, b: End) =>
  a.index < b.index
    ? channelKey("CHORUS1/pair-mask", secret, sid, a, b)
    : channelKey("CHORUS1/pair-mask", secret, sid, b, a);

export function shareAad(
  sid: Uint8Array,
  from: number,
  to: number,
  graph: { k: number; t: number },
  commitment: Uint8Array,
): Buffer {
  const writer = new Writer().raw("CHORUS1/share-aad").raw(sid).u32(from).u32(to);
  return writer.u32(graph.k).u32(graph.t).raw(commitment).take();
}

// --- the session -----------------------------------------------------------------------------

export interface Identity {
  key: KeyObject; // Ed25519
  id: Buffer; // its public key
  evidence: Buffer; // its certificate
}

export interface SecAggOptions {
  identity: Identity;
  expected: SessionParams;
  verifier: Verifier;
  input: Words; // the contribution, in words of expected.wordBytes
  unixSeconds: () => number;
  // Called before the masked input leaves; throws when it must not.
  beforeUpload: () => void;
}

interface Keys {
  c: KeyObject;
  s: KeyObject;
  cPublic: Buffer;
  sPublic: Buffer;
  sSecret: Buffer;
}

interface Peer {
  index: number;
  id: Buffer;
  c: Buffer;
  s: Buffer;
  message: Buffer; // that it signed
  signature: Buffer;
  evidence: Buffer;
  notAfter?: bigint; // of pre-keys
  path: Buffer[];
}

interface Neighbour {
  index: number;
  sealOut: Buffer;
  openIn: Buffer;
  ackOut: Buffer;
  ackIn: Buffer;
  pairMask: Buffer;
  shareS?: Buffer; // of this neighbour's secrets, once it was opened
  shareB?: Buffer;
  alive?: boolean; // as the coordinator said, and for ever
}

type Phase = "offer" | "roster" | "deliver" | "survivors" | "acks" | "ended";

export class SecAggClient {
  private phase: Phase = "offer";
  private keys: Keys;
  private readonly preKeyUntil: bigint;
  private offer!: Offer;
  private sid!: Buffer;
  private me = 0;
  private n = 0;
  private graph!: { k: number; t: number; honest: number };
  private b = random(KEY_BYTES);
  private neighbours = new Map<number, Neighbour>();

  constructor(private readonly options: SecAggOptions) {
    this.keys = freshKeys();
    this.preKeyUntil = BigInt(Math.floor(options.unixSeconds()) + PRE_KEY_HOURS * 3600 - 60);
  }

  // Sent with the word that this client is ready.
  preKeyRecord(): Buffer {
    const { id, evidence, key } = this.options.identity;
    const message = preKeyMessage(id, this.keys, this.preKeyUntil, evidence);
    return new Writer()
      .raw(id).raw(this.keys.cPublic).raw(this.keys.sPublic).u64(this.preKeyUntil)
      .sized16(evidence).raw(signDigest(key, message)).take();
  }

  get done(): boolean {
    return this.phase === "ended";
  }

  // The answer to the coordinator's next question. Whatever is thrown ends the session.
  answer(question: Uint8Array): Buffer {
    const phase = this.phase;
    this.phase = "ended";
    switch (phase) {
      case "offer":
        return this.onOffer(question);
      case "roster":
        return this.onRoster(question);
      case "deliver":
        return this.onDeliver(question);
      case "survivors":
        return this.onSurvivors(question);
      case "acks":
        return this.onAcknowledgements(question);
      default:
        throw new MalformedError("the session has ended");
    }
  }

  private onOffer(question: Uint8Array): Buffer {
    this.offer = acceptOffer(question.subarray(0, OFFER_BYTES), this.options.expected);
    if (question.length > OFFER_BYTES) {
      if (BigInt(Math.floor(this.options.unixSeconds())) > this.preKeyUntil) {
        throw new RefusedError("the pre-keys of this client have expired");
      }
      return this.onRoster(question.subarray(OFFER_BYTES));
    }
    this.keys = freshKeys(); // the pre-keys serve no session
    const { id, evidence, key } = this.options.identity;
    const message = labeledHash(
      "CHORUS1/adv", this.offer.sid0, id, this.keys.cPublic, this.keys.sPublic, sha256(evidence),
    );
    this.phase = "roster";
    return new Writer()
      .raw(this.offer.sid0).raw(id).raw(this.keys.cPublic).raw(this.keys.sPublic)
      .sized16(evidence).raw(signDigest(key, message)).take();
  }

  // The roster is signed and holds this client; every peer is in it, signed its keys and is
  // certified. Then shares of s and b for each.
  private onRoster(question: Uint8Array): Buffer {
    const { params, sid0 } = this.offer;
    const reader = new Reader(question);
    this.n = reader.u32();
    this.me = reader.u32();
    const root = reader.raw(32);
    if (this.n > params.nMax || this.me >= this.n) throw new MalformedError("the roster is too large");
    if (this.n < params.nMin) throw new RefusedError("the cohort is smaller than agreed");
    this.graph = completeGraph(this.n, params.gammaPpm, params.deltaPpm);
    if (this.graph.honest < params.honestMin) {
      throw new RefusedError("too few honest clients would hide in the sum");
    }
    const path = readPath(reader, this.me, this.n);
    const signed = rosterMessage(sid0, this.n, root);
    if (!verifyDigest(params.coordinator, signed, reader.raw(64))) {
      throw new RefusedError("the roster is not signed by the pinned coordinator");
    }
    const leaf = rosterLeaf(sid0, this.options.identity.id, this.keys.cPublic, this.keys.sPublic);
    if (!merkleVerify(leaf, this.me, this.n, path, root)) {
      throw new RefusedError("this client is not in the roster as it advertised itself");
    }
    const peers = this.readPeers(reader);
    this.checkPeers(peers, root);
    this.sid = sessionId(sid0, this.n, root);
    this.phase = "deliver";
    return this.dealShares(peers);
  }

  private readPeers(reader: Reader): Peer[] {
    const order = new Ascending(this.n);
    const peers = Array.from({ length: reader.count(200) }, () => {
      const preKeys = reader.u8();
      if (preKeys > 1) throw new MalformedError("a peer's record is of an unknown kind");
      const index = order.next(reader.u32());
      const [id, c, s] = [reader.raw(32), reader.raw(32), reader.raw(32)];
      const evidence = reader.sized16();
      const notAfter = preKeys === 1 ? reader.u64() : undefined;
      const signature = reader.raw(64);
      const path = readPath(reader, index, this.n);
      const message =
        notAfter === undefined
          ? labeledHash("CHORUS1/adv", this.offer.sid0, id, c, s, sha256(evidence))
          : preKeyMessage(id, { cPublic: c, sPublic: s }, notAfter, evidence);
      return { index, id, c, s, message, signature, evidence, notAfter, path };
    });
    const owners = new Ascending(this.n);
    const choosers = Array.from({ length: reader.count(4) }, () => owners.next(reader.u32()));
    reader.end();
    const same = choosers.length === peers.length && peers.every((p, i) => p.index === choosers[i]);
    if (!same || peers.length !== this.graph.k) {
      throw new RefusedError("in a complete graph everybody is everybody's neighbour");
    }
    return peers;
  }

  private checkPeers(peers: Peer[], root: Buffer): void {
    const { sid0 } = this.offer;
    const own = this.options.identity;
    const seen = new Set([own.id, this.keys.cPublic, this.keys.sPublic].map((k) => k.toString("hex")));
    const ownOrder = orderKey(sid0, own.id);
    let last: Buffer = Buffer.alloc(32);
    for (const peer of peers) {
      if (!merkleVerify(rosterLeaf(sid0, peer.id, peer.c, peer.s), peer.index, this.n, peer.path, root)) {
        throw new RefusedError("a peer's record is not in the roster");
      }
      this.checkPreKeyLife(peer.notAfter);
      if (!verifyDigest(peer.id, peer.message, peer.signature)) {
        throw new RefusedError("a peer did not sign the keys shown as its own");
      }
      if (!this.options.verifier(peer.id, peer.evidence)) {
        throw new RefusedError("a peer's identity is not certified");
      }
      for (const key of [peer.id, peer.c, peer.s].map((k) => k.toString("hex"))) {
        if (seen.has(key)) throw new RefusedError("a key is in the roster twice");
        seen.add(key);
      }
      if (!isCanonicalPoint(peer.c) || !isCanonicalPoint(peer.s)) {
        throw new RefusedError("a peer's key is not in its canonical form");
      }
      const order = orderKey(sid0, peer.id);
      const before = Buffer.compare(order, ownOrder) < 0;
      if (Buffer.compare(order, last) <= 0 || before !== peer.index < this.me) {
        throw new RefusedError("the roster is not in its order");
      }
      last = order;
    }
  }

  private checkPreKeyLife(notAfter: bigint | undefined): void {
    if (notAfter === undefined) return;
    const now = Math.floor(this.options.unixSeconds());
    const longest = now + PRE_KEY_HOURS * 3600 + CLOCK_SKEW_SECONDS;
    if (notAfter < BigInt(now - CLOCK_SKEW_SECONDS) || notAfter > BigInt(longest)) {
      throw new RefusedError("a peer's pre-key has expired or lives too long");
    }
  }

  private dealShares(peers: Peer[]): Buffer {
    const me = { c: { index: this.me, key: this.keys.cPublic }, s: { index: this.me, key: this.keys.sPublic } };
    const sharingS = new Sharing(this.keys.sSecret, this.graph.t);
    const sharingB = new Sharing(this.b, this.graph.t);
    const commitment = shareCommitment(this.sid, this.me, this.b);
    const body = new Writer().raw(commitment).u32(peers.length);
    for (const peer of peers) {
      const c = agree(this.keys.c, peer.c);
      const s = agree(this.keys.s, peer.s);
      const to = { index: peer.index, key: peer.c };
      const neighbour: Neighbour = {
        index: peer.index,
        sealOut: channelKey("CHORUS1/share-enc", c, this.sid, me.c, to),
        openIn: channelKey("CHORUS1/share-enc", c, this.sid, to, me.c),
        ackOut: channelKey("CHORUS1/ack", c, this.sid, me.c, to),
        ackIn: channelKey("CHORUS1/ack", c, this.sid, to, me.c),
        pairMask: pairMaskKey(s, this.sid, me.s, { index: peer.index, key: peer.s }),
      };
      this.neighbours.set(peer.index, neighbour);
      const shares = Buffer.concat([sharingS.at(peer.index + 1), sharingB.at(peer.index + 1)]);
      const aad = shareAad(this.sid, this.me, peer.index, this.graph, commitment);
      body.u32(peer.index).raw(seal(neighbour.sealOut, aad, shares));
    }
    const dealt = body.u32(0).take(); // no hellos in a complete graph
    const message = labeledHash("CHORUS1/shares", this.sid, u32(this.me), sha256(dealt));
    return Buffer.concat([dealt, signDigest(this.options.identity.key, message)]);
  }

  // Masks for everybody delivered, opened or not.
  private onDeliver(question: Uint8Array): Buffer {
    const { params } = this.offer;
    const reader = new Reader(question);
    const order = new Ascending(this.n);
    const input = this.options.input;
    const failed = new Writer();
    const edges = new Writer();
    const count = reader.count(4 + 32 + SEALED_BYTES);
    let failures = 0;
    addMask(input, selfMaskKey(this.sid, this.b, this.me), 1);
    for (let i = 0; i < count; ++i) {
      const from = order.next(reader.u32());
      const neighbour = this.neighbours.get(from);
      if (neighbour === undefined) throw new RefusedError("a delivery names who is no neighbour");
      const commitment = reader.raw(32);
      const aad = shareAad(this.sid, from, this.me, this.graph, commitment);
      const shares = open(neighbour.openIn, aad, reader.raw(SEALED_BYTES));
      addMask(input, neighbour.pairMask, this.me < from ? 1 : -1);
      edges.u32(from).raw(tag16(neighbour.ackOut, "edge", this.sid));
      const [s, b] = [shares?.subarray(0, SHARE_BYTES), shares?.subarray(SHARE_BYTES)];
      if (s !== undefined && b !== undefined && isShare(s) && isShare(b)) {
        neighbour.shareS = s;
        neighbour.shareB = b;
      } else {
        failed.u32(from);
        failures += 1;
      }
    }
    reader.end();
    if (count - failures < this.graph.t) throw new Error("too few members hold shares to go on");
    this.options.beforeUpload();
    const packed = pack(input, params.bits);
    const [failedBytes, edgeBytes] = [failed.take(), edges.take()];
    const message = labeledHash(
      "CHORUS1/masked", this.sid, u32(this.me), failedBytes, edgeBytes, sha256(packed),
    );
    this.phase = "survivors";
    return new Writer()
      .raw(this.sid).u32(failures).raw(failedBytes).u32(count).raw(edgeBytes).raw(packed)
      .raw(signDigest(this.options.identity.key, message)).take();
  }

  // The fates of exactly the owners whose shares are held; alive only with a true edge tag.
  private onSurvivors(question: Uint8Array): Buffer {
    const reader = new Reader(question);
    const held = this.held();
    if (reader.count(5) !== held.length) throw new RefusedError("the survivors are not those held");
    const acks = new Writer();
    const refused = new Writer();
    let [alive, lies] = [0, 0];
    for (const owner of held) {
      if (reader.u32() !== owner.index) throw new RefusedError("the survivors are not those held");
      const fate = reader.u8();
      if (fate !== 1 && fate !== 2) throw new MalformedError("a fate is alive or dropped");
      if (fate === 2) {
        owner.alive = false;
      } else if (equalConstantTime(reader.raw(16), tag16(owner.ackIn, "edge", this.sid))) {
        owner.alive = true;
        acks.u32(owner.index).raw(tag16(owner.ackOut, "alive", this.sid));
        alive += 1;
      } else {
        refused.u32(owner.index);
        lies += 1;
      }
    }
    reader.end();
    this.phase = "acks";
    return new Writer().u32(alive).raw(acks.take()).u32(lies).raw(refused.take()).take();
  }

  // One share of each owner, once t holders have said that this client's upload is in.
  private onAcknowledgements(question: Uint8Array): Buffer {
    const reader = new Reader(question);
    const order = new Ascending(this.n);
    let valid = 0;
    for (let left = reader.count(20); left > 0; --left) {
      const holder = this.neighbours.get(order.next(reader.u32()));
      const tag = reader.raw(16);
      if (holder?.shareS === undefined) continue;
      if (equalConstantTime(tag, tag16(holder.ackIn, "alive", this.sid))) valid += 1;
    }
    reader.end();
    if (valid < this.graph.t) throw new Error("too few members acknowledged this client's upload");
    const fates = this.held().filter((owner) => owner.alive !== undefined);
    const writer = new Writer().u32(fates.length);
    for (const owner of fates) {
      const share = owner.alive ? owner.shareB : owner.shareS;
      writer.u32(owner.index).u8(owner.alive ? 1 : 2).raw(share as Buffer);
    }
    return writer.take();
  }

  private held(): Neighbour[] {
    return [...this.neighbours.values()].filter((neighbour) => neighbour.shareS !== undefined);
  }
}

function freshKeys(): Keys {
  const [cSecret, sSecret] = [random(KEY_BYTES), random(KEY_BYTES)];
  const [c, s] = [privateKey("X25519", cSecret), privateKey("X25519", sSecret)];
  return { c, s, cPublic: publicKey(c), sPublic: publicKey(s), sSecret };
}

function preKeyMessage(
  id: Uint8Array,
  keys: { cPublic: Buffer; sPublic: Buffer },
  notAfter: bigint,
  evidence: Uint8Array,
): Buffer {
  const until = new Writer().u64(notAfter).take();
  return labeledHash("CHORUS1/prekey", id, keys.cPublic, keys.sPublic, until, sha256(evidence));
}

function readPath(reader: Reader, index: number, n: number): Buffer[] {
  return Array.from({ length: merklePathLength(index, n) }, () => reader.raw(32));
}
