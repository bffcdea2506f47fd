// Hashes, authenticated encryption, keys, expansion: published answers, laws over many seeds, and
// what is refused. Ed25519, the Merkle tree and TLS have their own files.
#include "crypto/crypto.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#include <algorithm>

#include "base/hex.h"
#include "crypto_cases.h"

namespace chorus::crypto {
namespace {

// --- hashes
// -----------------------------------------------------------------------------------------

TEST(Sha256, GivesThePublishedDigests) {  // [RFC 6234, 8.5]
  EXPECT_EQ(ToHex(Sha256({})), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(ToHex(Sha256(Text("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(ToHex(Sha256(Text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"))),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(ToHex(Sha256(Bytes(1'000'000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_EQ(ToHex(Sha256(H("19"))),
            "68aa2e2ee5dff96e3355e6c7ee373e3d6a4e17f75f9518d843709c0c9bc3e3d4");
}

TEST(Sha256Stream, GivesTheDigestOfTheWholeForEverySplit) {
  for (uint8_t seed = 0; seed < 50; ++seed) {
    const std::unique_ptr<Rng> rng = Seeded(seed);
    const Bytes message = Draw(*rng, UniformBelow(*rng, 1'000));
    Sha256Stream stream;
    for (size_t done = 0; done < message.size();) {
      const size_t piece = UniformBelow(*rng, message.size() - done + 1);
      stream.Update(BytesView(message).subspan(done, piece));
      done += piece;
    }
    Sha256Stream moved(std::move(stream));
    ASSERT_EQ(moved.Finish(), Sha256(message)) << "seed " << int{seed};
  }
}

TEST(Sha256Stream, GivesEachOfSeveralItsOwnDigestSideBySide) {
  for (uint8_t seed = 0; seed < 60; ++seed) {
    const std::unique_ptr<Rng> rng = Seeded(seed);
    const size_t count = 1 + UniformBelow(*rng, 7);
    std::vector<Bytes> messages;
    std::vector<std::vector<BytesView>> pieces(count);
    std::vector<Sha256Stream> streams(count);
    std::vector<Sha256Stream::Share> shares;
    for (size_t i = 0; i < count; ++i) messages.push_back(Draw(*rng, UniformBelow(*rng, 3'000)));
    for (size_t i = 0; i < count; ++i) {
      // What was given before need not end with a block, nor need any piece.
      BytesView rest = messages[i];
      const size_t before = UniformBelow(*rng, rest.size() + 1);
      streams[i].Update(rest.first(before));
      rest = rest.subspan(before);
      while (!rest.empty()) {
        const size_t piece = UniformBelow(*rng, std::min<size_t>(rest.size(), 700) + 1);
        pieces[i].push_back(rest.first(piece));
        rest = rest.subspan(piece);
      }
      shares.push_back({&streams[i], pieces[i]});
    }
    Sha256Stream::UpdateSideBySide(shares);
    for (size_t i = 0; i < count; ++i) {
      ASSERT_EQ(streams[i].Finish(), Sha256(messages[i])) << "seed " << int{seed} << ", " << i;
    }
  }
}

TEST(Sha256Stream, CountsSideBySideBeyondFourGigabits) {
  const Bytes block(1U << 20U, 0xAB);
  const std::vector<BytesView> pieces(520, block);  // 2^32 bits are 512 of them
  Sha256Stream alone;
  for (const BytesView piece : pieces) alone.Update(piece);
  std::array<Sha256Stream, 2> streams;
  const std::array<Sha256Stream::Share, 2> shares = {
      {{streams.data(), pieces}, {&streams[1], pieces}}};
  Sha256Stream::UpdateSideBySide(shares);
  const Digest digest = alone.Finish();
  EXPECT_EQ(streams[0].Finish(), digest);
  EXPECT_EQ(streams[1].Finish(), digest);
}

TEST(Sha256Stream, GoesOnByItselfFromACopy) {
  Sha256Stream stream;
  stream.Update(Text("ab"));
  Sha256Stream copy = stream;
  stream.Update(Text("x"));
  copy.Update(Text("c"));
  EXPECT_EQ(copy.Finish(), Sha256(Text("abc")));
  EXPECT_EQ(stream.Finish(), Sha256(Text("abx")));
}

TEST(LabeledHash, HashesExactlyTheSpecifiedBytes) {
  const Bytes written =
      H("0003"
        "4c2f31"
        "00000002"
        "00000002"
        "aabb"
        "00000000");
  EXPECT_EQ(LabeledHash("L/1", {H("aabb"), {}}), Sha256(written));
}

TEST(LabeledHash, GivesTheKnownAnswerOfTheSpecification) {  // [specification 3.14, sid0]
  Bytes params(64);
  for (size_t i = 0; i < params.size(); ++i) params[i] = static_cast<uint8_t>(i);
  EXPECT_EQ(ToHex(LabeledHash("CHORUS1/sid0", {params})),
            "dfff8d9370a2b4a52c2b2ff69ef42d876e2df6cb569a0bd5926332dc80a4011f");
}

TEST(LabeledHash, TellsApartFieldsThatConcatenateAlike) {
  const Digest one = LabeledHash("a", {H("0102")});
  EXPECT_NE(one, LabeledHash("a", {H("01"), H("02")}));
  EXPECT_NE(one, LabeledHash("a", {H("0102"), {}}));
  EXPECT_NE(one, LabeledHash("b", {H("0102")}));
  EXPECT_NE(LabeledHash("ab", {}), LabeledHash("a", {H("62")}));
}

TEST(HmacSha256, GivesThePublishedAnswers) {  // [RFC 4231]
  struct Case {
    Bytes key, data;
    std::string mac;
  };
  const Bytes long_key(131, 0xaa);
  const std::vector<Case> cases = {
      {Bytes(20, 0x0b), Text("Hi There"),
       "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
      {Text("Jefe"), Text("what do ya want for nothing?"),
       "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
      {Bytes(20, 0xaa), Bytes(50, 0xdd),
       "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
      {H("0102030405060708090a0b0c0d0e0f10111213141516171819"), Bytes(50, 0xcd),
       "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
      {Bytes(20, 0x0c), Text("Test With Truncation"), "a3b6167473100ee06e0c796c2955552b"},
      {long_key, Text("Test Using Larger Than Block-Size Key - Hash Key First"),
       "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
      {long_key,
       Text("This is a test using a larger than block-size key and a larger than block-size data. "
            "The key needs to be hashed before being used by the HMAC algorithm."),
       "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(ToHex(HmacSha256(c.key, c.data)).substr(0, c.mac.size()), c.mac);
  }
}

// A key of zeros is padded to the same block as the empty key, which so must work and be equal.
TEST(HmacSha256, TakesAnEmptyKeyAndAnEmptyMessage) {
  EXPECT_EQ(ToHex(HmacSha256({}, {})),
            "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
  EXPECT_EQ(HmacSha256({}, Text("m")), HmacSha256(Bytes(64, 0), Text("m")));
}

TEST(HmacSha256, AgreesWithWycheproof) {
  const json file = Vectors("wycheproof/hmac_sha256_test.json");
  SKIP_WITHOUT(file);
  const size_t count = ForEachCase(file, [](const json& group, const json& test) {
    const Bytes tag = HexOf(test, "tag");
    ASSERT_EQ(tag.size() * 8, group["tagSize"].get<size_t>());
    const Digest mac = HmacSha256(HexOf(test, "key"), HexOf(test, "msg"));
    EXPECT_EQ(EqualConstantTime(BytesView(mac).first(tag.size()), tag), IsValid(test));
  });
  EXPECT_EQ(count, 174U);
}

TEST(Hkdf, GivesThePublishedAnswers) {  // [RFC 5869, A.1 to A.3]
  Bytes run(256);
  for (size_t i = 0; i < run.size(); ++i) run[i] = static_cast<uint8_t>(i);
  const BytesView all(run);
  const Bytes b22(22, 0x0b);
  SecretBytes prk = HkdfExtract(all.first(13), b22);
  EXPECT_EQ(ToHex(prk.Reveal()),
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
  EXPECT_EQ(ToHex(HkdfExpand(prk.Reveal(), H("f0f1f2f3f4f5f6f7f8f9"), 42).Reveal()),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
  prk = HkdfExtract(all.subspan(0x60, 80), all.first(80));
  EXPECT_EQ(ToHex(prk.Reveal()),
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244");
  EXPECT_EQ(ToHex(HkdfExpand(prk.Reveal(), all.subspan(0xb0, 80), 82).Reveal()),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41"
            "c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87");
  prk = HkdfExtract({}, b22);
  EXPECT_EQ(ToHex(prk.Reveal()),
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04");
  EXPECT_EQ(ToHex(HkdfExpand(prk.Reveal(), {}, 42).Reveal()),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

TEST(Hkdf, AgreesWithWycheproof) {
  const json file = Vectors("wycheproof/hkdf_sha256_test.json");
  SKIP_WITHOUT(file);
  const size_t count = ForEachCase(file, [](const json&, const json& test) {
    const size_t size = test["size"].get<size_t>();
    // The three invalid cases ask for more than 255 blocks, which the contract forbids the caller.
    EXPECT_EQ(IsValid(test), size <= 255 * 32);
    if (!IsValid(test)) return;
    const SecretBytes prk = HkdfExtract(HexOf(test, "salt"), HexOf(test, "ikm"));
    EXPECT_EQ(Revealed(HkdfExpand(prk.Reveal(), HexOf(test, "info"), size)), HexOf(test, "okm"));
  });
  EXPECT_EQ(count, 86U);
}

TEST(Hkdf, ExpandsToPrefixesOfOneStreamUpToItsLimit) {
  const Bytes prk(32, 7);
  const Bytes longest = Revealed(HkdfExpand(prk, Text("info"), 255 * 32));
  for (const size_t size : {0, 1, 31, 32, 33, 64, 8'159}) {
    const Bytes out = Revealed(HkdfExpand(prk, Text("info"), size));
    ASSERT_EQ(out.size(), size);
    EXPECT_TRUE(std::equal(out.begin(), out.end(), longest.begin()));
  }
}

TEST(HkdfDeathTest, AbortsBeyondItsLimit) {
  EXPECT_DEATH((void)HkdfExpand(Bytes(32), {}, 255 * 32 + 1), "");
}

TEST(EqualConstantTime, SeesEveryDifference) {
  Bytes a = H("00112233445566778899");
  const Bytes b = a;
  EXPECT_TRUE(EqualConstantTime(a, b));
  for (size_t bit = 0; bit < a.size() * 8; ++bit) {
    a[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
    EXPECT_FALSE(EqualConstantTime(a, b));
    a[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
  }
  EXPECT_FALSE(EqualConstantTime(a, BytesView(b).first(9)));
  EXPECT_TRUE(EqualConstantTime({}, {}));
}

// --- authenticated encryption
// -------------------------------------------------------------------------

struct GcmCase {
  std::string key, nonce, aad, plaintext, ciphertext, tag;
};

// The AES-256 cases with 96-bit nonces of McGrew and Viega, "The Galois/Counter Mode of Operation",
// appendix B: 13 to 16.
std::vector<GcmCase> GcmCases() {
  const std::string zeros(64, '0');
  const std::string key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
  const std::string plaintext =
      "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
      "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
  const std::string ciphertext =
      "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
      "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad";
  return {
      {zeros, zeros.substr(40), "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
      {zeros, zeros.substr(40), "", zeros.substr(32), "cea7403d4d606b6e074ec5d3baf39d18",
       "d0d1c8a799996bf0265b98b5d48ab919"},
      {key, "cafebabefacedbaddecaf888", "", plaintext, ciphertext,
       "b094dac5d93471bdec1a502270e3cc6c"},
      {key, "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
       plaintext.substr(0, 120), ciphertext.substr(0, 120), "76fc6ece0f4e1768cddf8853bb2d551b"},
  };
}

TEST(Aead, GivesThePublishedAnswers) {
  for (const GcmCase& c : GcmCases()) {
    const Nonce nonce = Fixed<12>(H(c.nonce));
    const Bytes sealed = AeadSeal(H(c.key), nonce, H(c.aad), H(c.plaintext));
    EXPECT_EQ(ToHex(sealed), c.ciphertext + c.tag);
    const Result<SecretBytes> opened = AeadOpen(H(c.key), nonce, H(c.aad), sealed);
    ASSERT_THAT(opened, IsOk());
    EXPECT_EQ(ToHex(opened->Reveal()), c.plaintext);
  }
}

TEST(Aead, AgreesWithWycheproof) {
  const json file = Vectors("wycheproof/aes_gcm_test.json");
  SKIP_WITHOUT(file);
  size_t ours = 0;
  ForEachCase(file, [&ours](const json& group, const json& test) {
    // Other key and nonce sizes cannot be expressed here; all tags of the file are of 16 bytes.
    if (group["keySize"] != 256 || group["ivSize"] != 96) return;
    ++ours;
    const Nonce nonce = Fixed<12>(HexOf(test, "iv"));
    const Bytes key = HexOf(test, "key");
    Bytes sealed = HexOf(test, "ct");
    const Bytes tag = HexOf(test, "tag");
    sealed.insert(sealed.end(), tag.begin(), tag.end());
    const Result<SecretBytes> opened = AeadOpen(key, nonce, HexOf(test, "aad"), sealed);
    EXPECT_EQ(opened.ok(), IsValid(test));
    if (!opened.ok()) return;
    EXPECT_EQ(Revealed(*opened), HexOf(test, "msg"));
    EXPECT_EQ(AeadSeal(key, nonce, HexOf(test, "aad"), HexOf(test, "msg")), sealed);
  });
  EXPECT_EQ(ours, 66U);
}

TEST(Aead, OpensWhatItSealedForEverySize) {
  const std::unique_ptr<Rng> rng = Seeded(1);
  for (size_t size = 0; size < 300; ++size) {
    const Bytes key = Draw(*rng, 32), aad = Draw(*rng, size % 40), text = Draw(*rng, size);
    const Nonce nonce = Fixed<12>(Draw(*rng, 12));
    const Result<SecretBytes> opened = AeadOpen(key, nonce, aad, AeadSeal(key, nonce, aad, text));
    ASSERT_THAT(opened, IsOk());
    ASSERT_EQ(Revealed(*opened), text);
  }
}

TEST(Aead, RefusesEveryFlippedBitAndEveryTruncation) {
  Bytes key(32, 1), aad = Text("header");
  Nonce nonce{};
  Bytes sealed = AeadSeal(key, nonce, aad, Text("a secret share"));
  const auto refuses_flips_of = [&](std::span<uint8_t> part) {
    for (size_t bit = 0; bit < part.size() * 8; ++bit) {
      part[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
      EXPECT_THAT(AeadOpen(key, nonce, aad, sealed), HasCode(Code::kDataLoss)) << bit;
      part[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
    }
  };
  refuses_flips_of(sealed);
  refuses_flips_of(aad);
  refuses_flips_of(nonce);
  refuses_flips_of(key);
  for (size_t size = 0; size < sealed.size(); ++size) {
    EXPECT_THAT(AeadOpen(key, nonce, aad, BytesView(sealed).first(size)), HasCode(Code::kDataLoss));
  }
  EXPECT_THAT(AeadOpen(key, nonce, aad, sealed), IsOk());
}

TEST(AeadDeathTest, AbortsOnAKeyOfAnotherSize) {
  EXPECT_DEATH((void)AeadSeal(Bytes(16), Nonce{}, {}, {}), "");
}

// --- keys
// -----------------------------------------------------------------------------------------------

Bytes Agree(BytesView secret, BytesView peer) {
  Result<SecretBytes> shared = X25519Agree(secret, Fixed<32>(peer));
  EXPECT_THAT(shared, IsOk());
  return shared.ok() ? Revealed(*shared) : Bytes(32);
}

TEST(X25519, GivesThePublishedAnswers) {  // [RFC 7748, 5.2 and 6.1]
  EXPECT_EQ(ToHex(Agree(H("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
                        H("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"))),
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
  EXPECT_EQ(ToHex(Agree(H("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d"),
                        H("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493"))),
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957");
  const Bytes alice = H("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
  const Bytes bob = H("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
  EXPECT_EQ(ToHex(X25519Public(alice)),
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
  EXPECT_EQ(ToHex(X25519Public(bob)),
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
  EXPECT_EQ(ToHex(Agree(alice, X25519Public(bob))),
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
}

TEST(X25519, GivesThePublishedAnswerAfterAThousandIterations) {  // [RFC 7748, 5.2]
  Bytes k(32), u(32);
  k[0] = u[0] = 9;
  for (int i = 0; i < 1'000; ++i) {
    Bytes next = Agree(k, u);
    u = std::exchange(k, std::move(next));
  }
  EXPECT_EQ(ToHex(k), "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
}

TEST(X25519, AgreesWithWycheproofAndRefusesZeroSecrets) {
  const json file = Vectors("wycheproof/x25519_test.json");
  SKIP_WITHOUT(file);
  size_t refused = 0;
  const size_t count = ForEachCase(file, [&refused](const json&, const json& test) {
    const Bytes shared = HexOf(test, "shared");
    const Result<SecretBytes> ours =
        X25519Agree(HexOf(test, "private"), Fixed<32>(HexOf(test, "public")));
    if (shared == Bytes(32)) {
      EXPECT_THAT(ours, HasCodeAndText(Code::kInvalidArgument, "low order"));
      ++refused;
    } else {
      ASSERT_THAT(ours, IsOk());
      EXPECT_EQ(Revealed(*ours), shared);
    }
  });
  EXPECT_EQ(count, 518U);
  EXPECT_EQ(refused, 31U);
}

TEST(X25519, RefusesPointsOfLowOrder) {
  for (const char* point : {"0000000000000000000000000000000000000000000000000000000000000000",
                            "0100000000000000000000000000000000000000000000000000000000000000",
                            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
                            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
                            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"}) {
    EXPECT_THAT(X25519Agree(Bytes(32, 0x42), Fixed<32>(H(point))), HasCode(Code::kInvalidArgument));
  }
}

TEST(X25519, GivesBothSidesTheSameSecretOverManySeeds) {
  const std::unique_ptr<Rng> rng = Seeded(2);
  for (int i = 0; i < 50; ++i) {
    const Bytes a = Draw(*rng, 32), b = Draw(*rng, 32);
    ASSERT_EQ(Agree(a, X25519Public(b)), Agree(b, X25519Public(a)));
  }
}

TEST(X25519, KeyAgreesWithManyPeersAndOutlivesARefusedOne) {
  const std::unique_ptr<Rng> rng = Seeded(3);
  const Bytes mine = Draw(*rng, 32);
  const X25519Key key(mine);
  EXPECT_EQ(key.Public(), X25519Public(mine));
  for (int i = 0; i < 20; ++i) {
    const Bytes peer = Draw(*rng, 32);
    if (i % 5 == 2) {
      EXPECT_THAT(key.Agree(PublicKey{}), HasCode(Code::kInvalidArgument));
    }
    const Result<SecretBytes> shared = key.Agree(X25519Public(peer));
    ASSERT_THAT(shared, IsOk());
    EXPECT_EQ(Revealed(*shared), Agree(peer, key.Public()));
  }
}

// An error left in OpenSSL's queue would be taken by the next TLS connection on the thread for its
// own.
TEST(Refusals, LeaveNoErrorInTheQueueOfOpenSsl) {
  ERR_clear_error();
  EXPECT_FALSE(AeadOpen(Bytes(32), Nonce{}, {}, Bytes(40)).ok());
  EXPECT_FALSE(X25519Agree(Bytes(32, 1), PublicKey{}).ok());
  EXPECT_FALSE(Ed25519Verify(PublicKey{}, {}, Bytes(64, 0xFF)));
  EXPECT_FALSE(Ed25519Verify(Fixed<32>(Bytes(32, 0xFF)), {}, Bytes(64, 0xFF)));
  EXPECT_EQ(ERR_peek_error(), 0U);
}

// --- expansion
// --------------------------------------------------------------------------------------------

Bytes Expand(BytesView key, uint64_t first_block, size_t size) {
  Bytes out(size, 0xEE);
  ExpandAesCtr(key, first_block, out);
  return out;
}

// One block of AES-256, by OpenSSL's other mode.
Bytes EncryptBlock(BytesView key, BytesView block) {
  Bytes out(16);
  int written = 0;
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  EXPECT_EQ(EVP_EncryptInit_ex(context, EVP_aes_256_ecb(), nullptr, key.data(), nullptr), 1);
  EXPECT_EQ(EVP_EncryptUpdate(context, out.data(), &written, block.data(), 16), 1);
  EVP_CIPHER_CTX_free(context);
  return out;
}

// Blocks 0, 1 and 2 of the key of zeros stand in McGrew and Viega's GCM cases 13 and 14: as H, the
// tag of nothing, and the encryption of zeros.
TEST(ExpandAesCtr, GivesThePublishedBlocks) {
  EXPECT_EQ(
      ToHex(Expand(Bytes(32), 0, 48)),
      "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738bcea7403d4d606b6e074ec5d3"
      "baf39d18");
}

TEST(ExpandAesCtr, GivesTheKnownAnswersOfTheSpecification) {  // [specification 3.14]
  const Bytes key = H("221babfc74ed9ade1b65833fc0a8a9de1571f060e80b4e7c09a70b0df149ccaf");
  EXPECT_EQ(ToHex(Expand(key, 0, 16)), "576d9e08d4d48b212c846b9dc79bede2");
  EXPECT_EQ(ToHex(Expand(key, 4'096, 16)), "8ec28508cb5ab81c0d6f6146b6fb402b");
}

TEST(ExpandAesCtr, NumbersItsBlocksIn128BitsBigEndian) {
  const Bytes key(32, 9);
  constexpr uint64_t kFirst = ~uint64_t{0} - 1;
  const Bytes out = Expand(key, kFirst, 48);
  EXPECT_EQ(ToHex(out), ToHex(EncryptBlock(key, H("0000000000000000fffffffffffffffe"))) +
                            ToHex(EncryptBlock(key, H("0000000000000000ffffffffffffffff"))) +
                            ToHex(EncryptBlock(key, H("00000000000000010000000000000000"))));
}

TEST(ExpandAesCtr, GivesTheWholeStreamHoweverItIsSplit) {
  for (uint8_t seed = 0; seed < 30; ++seed) {
    const Bytes key(32, seed);
    const Bytes whole = Expand(key, 5, 200'001);
    const std::unique_ptr<Rng> rng = Seeded(static_cast<uint8_t>(seed + 100));
    Bytes pieces(whole.size());
    for (size_t block = 0; block * 16 < whole.size();) {
      const size_t blocks = 1 + UniformBelow(*rng, 6'000);
      const size_t size = std::min(blocks * 16, whole.size() - block * 16);
      ExpandAesCtr(key, 5 + block, std::span(pieces).subspan(block * 16, size));
      block += blocks;
    }
    ASSERT_EQ(pieces, whole) << "seed " << int{seed};
  }
  ExpandAesCtr(Bytes(32), 0, {});
}

TEST(SeededRng, DrawsTheExpansionInOrderHoweverItIsSplit) {
  for (uint8_t seed = 0; seed < 30; ++seed) {
    const std::unique_ptr<Rng> rng = Seeded(seed);
    const std::unique_ptr<Rng> sizes = Seeded(static_cast<uint8_t>(seed + 100));
    Bytes drawn;
    while (drawn.size() < 100'000) {
      const uint64_t bound = UniformBelow(*sizes, 4) == 0 ? 20'000 : 40;
      const Bytes more = Draw(*rng, UniformBelow(*sizes, bound));
      drawn.insert(drawn.end(), more.begin(), more.end());
    }
    ASSERT_EQ(drawn, Expand(Bytes(32, seed), 0, drawn.size())) << "seed " << int{seed};
  }
}

// 256 bits agree with a chance of 2^-256.
TEST(SystemRng, NeverRepeats) {
  const std::unique_ptr<Rng> rng = NewSystemRng();
  const std::unique_ptr<Rng> other = NewSystemRng();
  EXPECT_NE(Draw(*rng, 32), Draw(*rng, 32));
  EXPECT_NE(Draw(*rng, 32), Draw(*other, 32));
  EXPECT_NE(Revealed(RandomSecret(*rng, 32)), Bytes(32));
  EXPECT_TRUE(RandomSecret(*rng, 0).empty());
}

}  // namespace
}  // namespace chorus::crypto
