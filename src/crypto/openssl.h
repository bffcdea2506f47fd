// OpenSSL's objects with owners, and how crypto treats OpenSSL's failures. Included only in this
// folder.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstddef>
#include <cstdlib>
#include <memory>

namespace chorus::crypto {

// A deleter that calls OpenSSL's own function; many of these also wipe what they free.
template <auto kFunction>
struct FreeWith {
  template <typename Object>
  void operator()(Object* object) const {
    kFunction(object);
  }
};

template <typename Object, auto kFunction>
using Owned = std::unique_ptr<Object, FreeWith<kFunction>>;

using OwnedBio = Owned<BIO, BIO_free>;
using OwnedCertificate = Owned<X509, X509_free>;
using OwnedCipherContext = Owned<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free>;
using OwnedDigestContext = Owned<EVP_MD_CTX, EVP_MD_CTX_free>;
using OwnedExtension = Owned<X509_EXTENSION, X509_EXTENSION_free>;
using OwnedGeneralName = Owned<GENERAL_NAME, GENERAL_NAME_free>;
using OwnedGeneralNames = Owned<GENERAL_NAMES, GENERAL_NAMES_free>;
using OwnedKey = Owned<EVP_PKEY, EVP_PKEY_free>;
using OwnedKeyContext = Owned<EVP_PKEY_CTX, EVP_PKEY_CTX_free>;
using OwnedMac = Owned<EVP_MAC, EVP_MAC_free>;
using OwnedMacContext = Owned<EVP_MAC_CTX, EVP_MAC_CTX_free>;
using OwnedOctets = Owned<ASN1_OCTET_STRING, ASN1_OCTET_STRING_free>;

// EVP counts bytes in int, so longer inputs are passed in pieces of so many. A multiple of every
// block size.
inline constexpr size_t kPieceBytesMax = size_t{1} << 30U;

// For what no valid input can make fail: memory ran out, the installation is broken, or the caller
// passed a key of the wrong size. Going on would mean using bytes that were never computed.
inline void Require(bool holds) {
  if (!holds) std::abort();
}

// Takes away the errors that OpenSSL queues for this thread during its life. Refusing a peer's
// bytes is ordinary, and an error left behind is taken for its own by the next TLS connection on
// the thread, which would then be closed.
class ErrorScope {
 public:
  ErrorScope() { ERR_set_mark(); }
  ~ErrorScope() { ERR_pop_to_mark(); }
  ErrorScope(const ErrorScope&) = delete;
  ErrorScope& operator=(const ErrorScope&) = delete;
};

}  // namespace chorus::crypto
