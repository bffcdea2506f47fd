// The golden vectors that every implementation reads: tests/vectors/secagg_v1.txt, and every message
// of the recorded clients.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Writer } from "../src/bytes.js";
import {
  agree, hkdf, labeledHash, privateKey, publicKey, seal, sha256, tag16, u32, verifyDigest,
} from "../src/crypto.js";
import { completeGraph, decodeParams } from "../src/params.js";
import { messageType } from "../src/proto.js";
import { addMask, pack, setSigned, zeros } from "../src/ring.js";
import {
  channelKey, orderKey, pairMaskKey, rosterLeaf, selfMaskKey, sessionId, shareAad, shareCommitment,
} from "../src/secagg.js";
import { PRIME, Sharing } from "../src/shamir.js";

const folder = new URL("../../../../tests/vectors/", import.meta.url);
const read = (name: string) => readFileSync(new URL(name, folder), "utf8").split("\n");
const known = new Map(
  read("secagg_v1.txt")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split(" ") as [string, string]),
);

function expectKnown(name: string, value: Uint8Array): void {
  assert.equal(Buffer.from(value).toString("hex"), known.get(name), name);
}

const secret = (tag: string, i: number) => sha256(Buffer.from(`CHORUS1-KAT/${tag}`), u32(i));

// RFC 6962 root over hashes of leaves.
function rootOf(leaves: Buffer[]): Buffer {
  if (leaves.length === 1) return leaves[0];
  let split = 1;
  while (2 * split < leaves.length) split *= 2;
  return sha256(Uint8Array.of(1), rootOf(leaves.slice(0, split)), rootOf(leaves.slice(split)));
}

function roster(sid0: Buffer, n: number) {
  const order = [...Array(n).keys()].sort((a, b) =>
    Buffer.compare(orderKey(sid0, secret("id", a)), orderKey(sid0, secret("id", b))),
  );
  const members = order.map((i) => {
    const [c, s] = [privateKey("X25519", secret("c", i)), privateKey("X25519", secret("s", i))];
    return { id: secret("id", i), sSecret: secret("s", i), b: secret("b", i), c, s, C: publicKey(c), S: publicKey(s) };
  });
  const root = rootOf(members.map(({ id, C, S }) => rosterLeaf(sid0, id, C, S)));
  return { members, root, sid: sessionId(sid0, n, root) };
}

const sid0OfThree = labeledHash("CHORUS1/sid0", Uint8Array.from({ length: 64 }, (_, i) => i));
const three = roster(sid0OfThree, 3);
const channelOf = (label: string, from: number, to: number) => {
  const [a, b] = [three.members[from], three.members[to]];
  return channelKey(label, agree(a.c, b.C), three.sid, { index: from, key: a.C }, { index: to, key: b.C });
};
const pairOf = (u: number, v: number) => {
  const [a, b] = [three.members[u], three.members[v]];
  return pairMaskKey(agree(a.s, b.S), three.sid, { index: u, key: a.S }, { index: v, key: b.S });
};

test("three clients agree on the session and its keys", () => {
  expectKnown("three.sid0", sid0OfThree);
  expectKnown("three.root", three.root);
  expectKnown("three.sid", three.sid);
  expectKnown("three.agreed_s.0.1", agree(three.members[0].s, three.members[1].S));
  expectKnown("three.k_pair.0.1", pairOf(0, 1));
  assert.deepEqual(pairOf(1, 0), pairOf(0, 1));
  expectKnown("three.k_enc.0.1", channelOf("CHORUS1/share-enc", 0, 1));
  expectKnown("three.k_enc.1.0", channelOf("CHORUS1/share-enc", 1, 0));
  expectKnown("three.k_ack.0.1", channelOf("CHORUS1/ack", 0, 1));
  expectKnown("three.k_self.0", selfMaskKey(three.sid, three.members[0].b, 0));
  expectKnown("three.com_b.0", shareCommitment(three.sid, 0, three.members[0].b));
  const ack = channelOf("CHORUS1/ack", 0, 1);
  expectKnown("three.ack_tag.0.1", tag16(ack, "alive", three.sid));
  expectKnown("three.edge_tag.0.1", tag16(ack, "edge", three.sid));
});

for (const [bits, factor] of [[21, 1], [12, 1], [40, 1e9]]) {
  test(`three clients upload the known vectors of ${bits} bits`, () => {
    [1, 10, -1].forEach((step, u) => {
      const words = zeros(8, bits <= 16 ? 2 : bits <= 32 ? 4 : 8);
      for (let j = 0; j < 8; ++j) setSigned(words, j, factor * step * (j + 1));
      addMask(words, selfMaskKey(three.sid, three.members[u].b, u), 1);
      for (let v = 0; v < 3; ++v) if (v !== u) addMask(words, pairOf(u, v), u < v ? 1 : -1);
      expectKnown(`three.packed.${bits}.${u}`, pack(words, bits));
    });
  });
}

test("five clients encode the known parameters and seal the known shares", () => {
  const bytes = Buffer.from(known.get("five.params") as string, "hex");
  const params = decodeParams(bytes);
  assert.equal(params.magic, "CHS1");
  assert.equal(params.round, 7n);
  assert.deepEqual([params.bits, params.wordBytes, params.bound], [21, 4, 8191n]);
  assert.deepEqual(params.coordinator, secret("coord", 0));
  expectKnown("five.params_message", labeledHash("CHORUS1/params", bytes));
  const sid0 = labeledHash("CHORUS1/sid0", bytes);
  const five = roster(sid0, 5);
  expectKnown("five.sid0", sid0);
  expectKnown("five.root", five.root);
  expectKnown("five.sid", five.sid);
  const graph = completeGraph(5, params.gammaPpm, params.deltaPpm);
  const [from, to] = [five.members[0], five.members[3]];
  const key = channelKey(
    "CHORUS1/share-enc", agree(from.c, to.C), five.sid, { index: 0, key: from.C }, { index: 3, key: to.C },
  );
  expectKnown("five.k_enc.0.3", key);
  const commitment = shareCommitment(five.sid, 0, from.b);
  expectKnown("five.com_b.0", commitment);
  const aad = shareAad(five.sid, 0, 3, graph, commitment);
  expectKnown("five.share_aad.0.3", aad);
  const share = (of: Buffer, tag: string) =>
    new Sharing(of, graph.t, (c, j) => secret(tag, 16 * c + j).readBigUInt64LE(0) % PRIME).at(4);
  const [s, b] = [share(from.sSecret, "coef-s"), share(from.b, "coef-b")];
  expectKnown("five.share_s.0.3", s);
  expectKnown("five.share_b.0.3", b);
  expectKnown("five.sealed.0.3", seal(key, aad, Buffer.concat([s, b])));
});

test("HKDF is that of RFC 5869", () => {
  const okm = hkdf(Buffer.alloc(22, 0x0b), Buffer.from("000102030405060708090a0b0c", "hex"),
    Buffer.from("f0f1f2f3f4f5f6f7f8f9", "hex"));
  assert.equal(okm.toString("hex"), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
  assert.equal(new Writer().u16(1).u64(2n).take().toString("hex"), "00010000000000000002");
});

for (const file of ["recorded_v1_plain.txt", "recorded_v1_secagg.txt"]) {
  test(`every message of ${file} reads and writes the same`, () => {
    const methods = new Map<string, string>();
    let messages = 0;
    for (const line of read(file)) {
      const [kind, call, what, hex] = line.split(" ");
      if (kind === "call") methods.set(call, what);
      if ((kind !== "call" && kind !== "reply") || (kind === "reply" && what !== "0")) continue;
      const bytes = Buffer.from(hex ?? "", "hex");
      const type = messageType(methods.get(call) + (kind === "call" ? "Request" : "Reply"));
      assert.deepEqual(Buffer.from(type.encode(type.decode(bytes)).finish()), bytes, line.slice(0, 60));
      messages += 1;
    }
    assert.ok(messages > 100);
  });
}

// OpenSSL takes both. The neutral element signs everything, as 0 B = R + h A; and a good key may sign
// with it for R.
test("keys and R of low order are refused", () => {
  const neutral = Uint8Array.of(1, ...Buffer.alloc(31));
  assert.equal(verifyDigest(neutral, Buffer.alloc(32), Buffer.concat([neutral, Buffer.alloc(32)])), false);
  const key = Buffer.from("3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29", "hex");
  const s = Buffer.from("8a6d235d2357f62ff8bff8b8c66d475931501306d74e538f954628eba6f1450e", "hex");
  assert.equal(verifyDigest(key, Buffer.from("chorus"), Buffer.concat([neutral, s])), false);
});

test("signatures are judged without the cofactor", () => {
  const key = Buffer.from("06903bfea2a1ddc586e78a189513f47ac6ae27e4e7803a1c2fb94c94b18f3958", "hex");
  const signature = Buffer.from(
    "cf3419599c220d2fabbcbf52d650530ed31560f1212e9042ccf2e6ac3dd181e9" +
      "16406bebae81cbff8b2e448a5ab9bb3fccbd81ab75e59a3834a49d9fe9264a09", "hex");
  assert.equal(verifyDigest(key, Buffer.from("chorus"), signature), false);
});
