// Cryptography on OpenSSL 3.0, and libsodium for Ed25519; both end in this folder. One recommended
// choice for each task [specification 3.1]. All functions are thread-safe unless said otherwise.
// Failures of the libraries themselves that a valid input cannot cause (out of memory, a broken
// installation) abort the process, as does a caller's key of the wrong size or a second Finish:
// going on would mean bytes that were never computed.
#pragma once

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "chorus/bytes.h"
#include "chorus/status.h"

namespace chorus::crypto {

inline constexpr size_t kKeyBytes = 32;  // AES-256, X25519 and Ed25519 secrets
inline constexpr size_t kAeadTagBytes = 16;
inline constexpr size_t kMacBytes = 32;

// --- hashes ---

Digest Sha256(BytesView message);

// SHA-256 of a message in pieces. A copy goes on by itself. Thread-compatible.
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  Sha256Stream(const Sha256Stream& other);
  Sha256Stream& operator=(const Sha256Stream& other);
  Sha256Stream(Sha256Stream&&) noexcept;
  Sha256Stream& operator=(Sha256Stream&&) noexcept;
  void Update(BytesView piece);
  Digest Finish();  // once

  // What one stream is given next, in pieces. Neither is owned.
  struct Share {
    Sha256Stream* stream = nullptr;
    std::span<const BytesView> pieces;
  };
  // Updates each stream, all different, with its pieces. Where the processor has instructions for
  // SHA-256, three streams take little longer than one: a round waits for the one before it, and
  // meanwhile those of the others are computed.
  static void UpdateSideBySide(std::span<const Share> shares);
  static bool SideBySidePays();  // whether it has

 private:
  struct Context;
  class Lane;
  std::unique_ptr<Context> context_;
};

// H_L of specification 3.1: SHA-256(u16be(|label|) || label || u32be(m) || (u32be(|f|) || f)*).
// Injective in its fields. The label is written out with its prefix, for example "CHORUS1/sid0".
// Fields are streamed, not copied.
Digest LabeledHash(std::string_view label, std::initializer_list<BytesView> fields);

// HMAC-SHA-256 [RFC 2104].
Digest HmacSha256(BytesView key, BytesView message);

// HKDF-SHA-256 [RFC 5869]. Expand: size <= 255 * 32.
SecretBytes HkdfExtract(BytesView salt, BytesView key_material);
SecretBytes HkdfExpand(BytesView pseudo_random_key, BytesView info, size_t size);

// Takes the same time whatever the contents; false when sizes differ.
bool EqualConstantTime(BytesView a, BytesView b);

// --- Merkle tree [RFC 6962, 2.1] ---

Digest MerkleLeaf(BytesView entry);                 // SHA-256(0x00 || entry)
Digest MerkleRoot(std::span<const Digest> leaves);  // of no leaves: SHA-256("")
// Audit path of leaf `index` (< leaves.size()), from the leaf upwards.
std::vector<Digest> MerklePath(std::span<const Digest> leaves, size_t index);
// The paths of every leaf, sharing the work: O(n log n).
std::vector<std::vector<Digest>> MerklePaths(std::span<const Digest> leaves);
size_t MerklePathLength(uint64_t index,
                        uint64_t size);  // of that leaf's path in a tree of `size` leaves
// Whether `leaf` stands at `index` of the tree of `size` leaves with `root` [RFC 9162, 2.1.3.2].
bool MerkleVerify(const Digest& leaf, uint64_t index, uint64_t size, std::span<const Digest> path,
                  const Digest& root);

// --- authenticated encryption: AES-256-GCM [NIST SP 800-38D] ---

// A (key, nonce) pair must never seal two messages.
using Nonce = std::array<uint8_t, 12>;
// The ciphertext with its 16-byte tag appended. `key` is 32 bytes.
Bytes AeadSeal(BytesView key, const Nonce& nonce, BytesView associated_data, BytesView plaintext);
// kDataLoss when anything was changed, or the ciphertext is shorter than a tag.
Result<SecretBytes> AeadOpen(BytesView key, const Nonce& nonce, BytesView associated_data,
                             BytesView ciphertext);

// --- X25519 [RFC 7748] ---

// `secret` is 32 raw bytes, clamped on use. Constant time.
PublicKey X25519Public(BytesView secret);
// Whether the bytes are the one encoding of their point: below 2^255 - 19. Others agree on the same
// secrets, so a protocol that tells keys apart by their bytes must refuse them.
bool X25519Canonical(const PublicKey& key);
// A secret made ready to agree with many peers, because making it ready costs as much as an
// agreement. Wiped on destruction. Thread-compatible.
class X25519Key {
 public:
  explicit X25519Key(BytesView secret);  // 32 raw bytes, clamped on use
  ~X25519Key();
  X25519Key(X25519Key&&) noexcept;
  X25519Key& operator=(X25519Key&&) noexcept;
  const PublicKey& Public() const { return public_; }
  // The shared secret; not uniform: feed it to HKDF. kInvalidArgument when the peer's point is of
  // low order. Constant time.
  Result<SecretBytes> Agree(const PublicKey& peer) const;

 private:
  struct Context;
  std::unique_ptr<Context> context_;
  PublicKey public_{};
};
// The same with a secret that agrees once.
Result<SecretBytes> X25519Agree(BytesView secret, const PublicKey& peer);

// --- Ed25519 [RFC 8032] ---

// `seed` is 32 bytes.
PublicKey Ed25519Public(BytesView seed);
Signature Ed25519Sign(BytesView seed, BytesView message);
// [RFC 8032, 5.1.7], without the cofactor. False, too, where the key or the signature's R is a
// point of low order, or the key is not in its one encoding: with such a key one signature is good
// for many messages, and about such an R others may judge otherwise. Not in constant time.
bool Ed25519Verify(const PublicKey& key, BytesView message, BytesView signature);

// --- ECDSA over P-256 with SHA-256 [FIPS 186-4]: tokens of others, never a key of ours ---

// A public key made ready to verify many signatures. Thread-safe.
class P256Key {
 public:
  // The point's coordinates, 32 bytes each, big-endian. kInvalidArgument when it is not on the
  // curve.
  static Result<P256Key> FromCoordinates(BytesView x, BytesView y);
  ~P256Key();
  P256Key(P256Key&&) noexcept;
  P256Key& operator=(P256Key&&) noexcept;
  // `signature`: r and s, 32 bytes each, big-endian [RFC 7518, 3.4]; false of any other size.
  bool Verify(BytesView message, BytesView signature) const;

 private:
  struct Context;
  explicit P256Key(std::unique_ptr<Context> context);
  std::unique_ptr<Context> context_;
};

// --- randomness ---

// The operating system's, through OpenSSL's private generator. The returned object is thread-safe.
std::unique_ptr<Rng> NewSystemRng();
SecretBytes RandomSecret(Rng& rng, size_t size);

// --- expansion: AES-256-CTR, IV = u128be(block index) [specification 3.1] ---

// Overwrites `out` with the key stream from block `first_block` (16 bytes a block) on. `key` is 32
// bytes, here and below.
void ExpandAesCtr(BytesView key, uint64_t first_block, std::span<uint8_t> out);

// The same stream read in order, as a random source: equal keys give equal draws.
// Thread-compatible.
std::unique_ptr<Rng> NewSeededRng(BytesView key);

// --- TLS certificates ---

struct TlsIdentity {
  std::string certificate_pem;
  std::string key_pem;  // ECDSA P-256, unencrypted
};
// A self-signed certificate authority. Times are Unix seconds, from 1970 to the end of the year
// 9999. kInvalidArgument: the name is not 1 to 64 printable ASCII characters, or the times are not
// in order.
Result<TlsIdentity> MakeTlsAuthority(std::string_view common_name, int64_t not_before,
                                     int64_t not_after);
// A server certificate signed by `authority` for the DNS names and IP addresses in `hosts`: 1 to
// 100, without port, brackets or wildcard. kInvalidArgument: a host is none, said by its number;
// the times are not in order; `authority` is not an ECDSA certificate authority with its own key.
Result<TlsIdentity> MakeTlsServer(const TlsIdentity& authority,
                                  const std::vector<std::string>& hosts, int64_t not_before,
                                  int64_t not_after);
// A client's certificate signed by `authority`, for mutual TLS. Errors as above.
Result<TlsIdentity> MakeTlsClient(const TlsIdentity& authority, std::string_view common_name,
                                  int64_t not_before, int64_t not_after);

}  // namespace chorus::crypto
