// The two libraries behind Ed25519Verify, for it and for its tests. libsodium takes half of OpenSSL
// 3.0's time, but its versions differ in what they take
// (docs/decisions/0025-ed25519-is-libsodiums.md).
#pragma once

#include "chorus/bytes.h"

namespace chorus::crypto {

// Whether the libsodium that is loaded asks for the equation without the cofactor, as 1.0.18 does
// and later ones do not. Found out once, by a signature that is good only with it.
bool SodiumWantsNoCofactor();

// Ed25519Verify by one and by the other; the first if it wants no cofactor.
bool VerifyBySodium(const PublicKey& key, BytesView message, BytesView signature);
bool VerifyByOpenSsl(const PublicKey& key, BytesView message, BytesView signature);

}  // namespace chorus::crypto
