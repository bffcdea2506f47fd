// One answer changed on purpose, with the liar's true signature over the change or without.
#pragma once

#include <algorithm>
#include <vector>

#include "aggregation/secagg.h"
#include "fuzz.h"

namespace chorus::aggregation {

class Liar {
 public:
  struct Me {
    Digest sid{};
    Index index = 0;
    uint32_t n = 0;
  };
  struct As {
    BytesView seed;
    bool sign = false;
  };
  Liar(fuzz::Choices& choices, Me me, As as) : choices_(choices), me_(me), as_(as) {}

  // Whether the last change shows to whoever hears it.
  bool visible() const { return visible_; }

  // The advertisement with a change; `other` is that of another client.
  Bytes Keys(Advertise said, const Bytes& other) {
    const Result<Advertise> its = DecodeAdvertise(other);
    PublicKey& key = choices_.Flag() ? said.s : said.c;
    const uint32_t what = choices_.Below(9);
    visible_ = !as_.sign || what < 4 || what == 5 || what == 7;
    switch (what) {
      case 0:
        key = {};
        break;
      case 1:
        key = {1};
        break;
      case 2:
        key.fill(0xff);
        break;
      case 3:
        said.s = said.c;
        break;
      case 4:
        if (its.ok()) key = choices_.Flag() ? its->c : its->s;
        break;
      case 5:
        if (its.ok()) said.id = its->id;
        break;
      case 6:
        said.evidence = Bytes(choices_.Below(5'000), 7);
        break;
      case 7:
        said.sid0[choices_.Below(32)] ^= 1U;
        break;
      default:
        // Keys that nobody has the secret of.
        key = crypto::X25519Public(fuzz::Key("unknown", choices_.Byte()).Reveal());
    }
    if (as_.sign) said.signature = crypto::Ed25519Sign(as_.seed, AdvertiseMessage(said));
    return Encode(said);
  }

  Bytes Choice(Choose choice) {
    Index& holder = choice.holders[choices_.Below(choice.holders.size())];
    const uint32_t what = choices_.Below(5);
    visible_ = !as_.sign || what != 0;
    switch (what) {
      case 0:  // another in its place
        do {
          holder = (holder + 1) % me_.n;
        } while (holder == me_.index ||
                 std::count(choice.holders.begin(), choice.holders.end(), holder) > 1);
        std::sort(choice.holders.begin(), choice.holders.end());
        break;
      case 1:
        choice.holders.pop_back();
        break;
      case 2:
        holder = me_.index;
        std::sort(choice.holders.begin(), choice.holders.end());
        break;
      case 3:
        holder = choices_.Flag() ? me_.n : choice.holders.front();
        break;
      default:
        choice.sid[choices_.Below(32)] ^= 1U;
    }
    if (as_.sign) {
      choice.signature = crypto::Ed25519Sign(as_.seed, ChooseMessage(me_.index, choice));
    }
    return Encode(choice);
  }

  Bytes Deal(Shares shares) {
    auto& entry = shares.sealed[choices_.Below(shares.sealed.size())];
    const uint32_t what = choices_.Below(shares.hellos.empty() ? 6 : 9);
    visible_ = !as_.sign || what == 2 || what == 3 || what == 5 || what > 6;
    switch (what) {
      case 0:
        shares.commitment[0] ^= 1U;
        break;
      case 1:
        entry.second[choices_.Below(kSealedSharesBytes)] ^= 1U;
        break;
      case 2:
        entry.first = choices_.Below(me_.n + 1);
        break;
      case 3:
        shares.sealed.pop_back();
        break;
      case 4:
        for (auto& [index, sealed] : shares.sealed) sealed[choices_.Flag() ? 0 : 1] ^= 1U;
        break;
      case 5:
        shares.sealed.push_back(entry);
        break;
      case 6:
        shares.hellos.back().second[choices_.Below(sizeof(Hello))] ^= 1U;
        break;
      case 7:
        shares.hellos.pop_back();
        break;
      default:
        shares.hellos.back().first = entry.first;
    }
    if (as_.sign) {
      shares.signature = crypto::Ed25519Sign(as_.seed, SharesMessage(me_.sid, me_.index, shares));
    }
    return Encode(shares);
  }

  Bytes Input(Masked masked) {
    Bytes packed(masked.packed.begin(), masked.packed.end());
    auto& edge = masked.edges[choices_.Below(masked.edges.size())];
    const uint32_t what = choices_.Below(8);
    visible_ = !as_.sign || (what != 0 && what != 2 && what != 5);
    switch (what) {
      case 0:
        packed[choices_.Below(packed.size())] ^= static_cast<uint8_t>(1U + choices_.Byte());
        break;
      case 1:
        packed.pop_back();
        break;
      case 2:
        edge.second[0] ^= 1U;
        break;
      case 3:
        edge.first = choices_.Below(me_.n + 1);
        break;
      case 4:
        masked.edges.pop_back();
        break;
      case 5: {
        const size_t stride = 1 + choices_.Below(4);
        masked.failed.clear();
        for (size_t i = 0; i < masked.edges.size(); i += stride) {
          masked.failed.push_back(masked.edges[i].first);
        }
        break;
      }
      case 6:
        masked.failed = {me_.index};
        break;
      default:
        masked.sid[choices_.Below(32)] ^= 1U;
    }
    masked.packed = packed;
    if (as_.sign) {
      masked.signature = crypto::Ed25519Sign(as_.seed, MaskedMessage(me_.index, masked));
    }
    return Encode(masked);
  }

  Bytes Acknowledge(Acks acks) {
    if (acks.acks.empty()) return {};
    const size_t at = choices_.Below(acks.acks.size());
    const uint32_t what = choices_.Below(5);
    visible_ = what >= 2;
    switch (what) {
      case 0:
        acks.acks[at].second[0] ^= 1U;
        break;
      case 1:
        acks.refused.push_back(acks.acks[at].first);
        acks.acks.erase(acks.acks.begin() + static_cast<std::ptrdiff_t>(at));
        break;
      case 2:
        acks.acks[at].first = me_.index;
        break;
      case 3:
        acks.acks.pop_back();
        break;
      default:
        acks = {};
    }
    return Encode(acks);
  }

 private:
  fuzz::Choices& choices_;
  Me me_;
  As as_;
  bool visible_ = false;
};

}  // namespace chorus::aggregation
