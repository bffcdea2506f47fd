// Answers on their way in: chunks, bounds and turns.
#include <algorithm>
#include <cstdlib>
#include <optional>
#include <vector>

#include "base/limits.h"
#include "coordinator/party.h"
#include "coordinator_world.h"
#include "test_rng.h"

namespace chorus::coordinator {
namespace {

using testing::SizeIs;

UploadCall CallOf(const wire::UploadRequest& request) {
  Result<UploadCall> call = UploadCall::Read(wire::Encode(request));
  if (!call.ok()) std::abort();
  return *std::move(call);
}

TEST(Upload, ResumesWhereTheCoordinatorStands) {
  Uploading t;
  Player& player = *t.players[0];
  EXPECT_EQ(t.Received(player.Send(t.Chunk(0, 10))), 10U);
  EXPECT_EQ(t.Received(player.Send(t.Chunk(0, 10))), 10U);  // repeated
  EXPECT_EQ(t.Received(player.Send(t.Chunk(20, 5))), 10U);  // out of order
  EXPECT_EQ(t.Received(player.Send(t.Chunk(0, 0))), 10U);   // a question where to go on
  EXPECT_EQ(t.Received(player.Send(t.Chunk(10, t.answer.size() - 10))), t.answer.size());
  // Completed: the same again is acknowledged, another is refused.
  EXPECT_EQ(t.Received(player.Send(t.request)), t.answer.size());
  EXPECT_EQ(t.Received(player.Send(t.Chunk(0, 10))), t.answer.size());
  wire::UploadRequest other = t.request;
  other.sha256[0] ^= 1;
  EXPECT_THAT(player.Send(other), HasCode(Code::kAlreadyExists));
}

TEST(Upload, AcknowledgesARepeatAfterTheStepHasClosed) {
  Uploading t;
  EXPECT_EQ(t.Received(t.players[0]->Send(t.request)), t.answer.size());
  for (size_t i = 1; i < t.players.size(); ++i) t.players[i]->Contribute();
  t.world.Settle();
  EXPECT_THAT(t.world.Of(EventKind::kRoundEnded), SizeIs(1));
  EXPECT_EQ(t.Received(t.players[0]->Send(t.request)), t.answer.size());
}

TEST(Upload, BeginsAgainAfterAWrongDigest) {
  Uploading t;
  wire::UploadRequest damaged = t.request;
  damaged.data[5] ^= 1;
  EXPECT_THAT(t.players[0]->Send(damaged), HasCode(Code::kDataLoss));
  EXPECT_EQ(t.Received(t.players[0]->Send(t.Chunk(0, 0))), 0U);
  EXPECT_EQ(t.Received(t.players[0]->Send(t.request)), t.answer.size());
}

TEST(Upload, RefusesWhatIsTooLongOrOutOfBounds) {
  Uploading t;
  Player& player = *t.players[0];
  wire::UploadRequest wrong = t.request;
  wrong.total_bytes = t.answer.size() + 1;
  EXPECT_THAT(player.Send(wrong), HasCode(Code::kResourceExhausted));
  wrong = t.request;
  wrong.total_bytes = limits::kTransferBytesMax;
  EXPECT_THAT(player.Send(wrong), HasCode(Code::kResourceExhausted));
  wrong = t.request;
  wrong.offset = 1;
  EXPECT_THAT(player.Send(wrong), HasCode(Code::kInvalidArgument));
  wrong = t.request;
  wrong.offset = limits::kTransferBytesMax;
  EXPECT_THAT(player.Send(wrong), HasCode(Code::kInvalidArgument));
  EXPECT_EQ(t.Received(player.Send(t.request)), t.answer.size());
}

TEST(Upload, RefusesForeignAndLateSequences) {
  Uploading t;
  wire::UploadRequest wrong = t.request;
  wrong.sequence = t.request.sequence + 1;
  EXPECT_THAT(t.players[0]->Send(wrong), HasCode(Code::kFailedPrecondition));
  wrong.sequence = 0;
  EXPECT_THAT(t.players[0]->Send(wrong), HasCode(Code::kFailedPrecondition));
  for (size_t i = 1; i < t.players.size(); ++i) t.players[i]->Contribute();
  t.world.Advance(t.world.task.deadlines.upload);
  EXPECT_THAT(t.players[0]->Send(t.request), HasCode(Code::kFailedPrecondition));
  t.players[0]->HearsOfEnd(false, Code::kDeadlineExceeded);
}

TEST(Upload, OfGarbageEndsItsSendersPartAndNoOthers) {
  Uploading t;
  Bytes garbage = t.answer;
  garbage[0] ^= 1;  // the session that it belongs to
  const wire::UploadRequest request = t.players[0]->UploadOf(garbage);
  EXPECT_THAT(t.players[0]->Send(request), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(t.players[0]->Send(request), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(t.players[0]->Send(t.request), HasCode(Code::kAlreadyExists));
  for (size_t i = 1; i < t.players.size(); ++i) t.players[i]->Contribute();
  t.world.Settle();
  ASSERT_THAT(t.world.Of(EventKind::kRoundEnded), SizeIs(1));
  EXPECT_EQ(t.world.Of(EventKind::kRoundEnded)[0].round.contributors, 4U);
  EXPECT_EQ(t.world.core->weights(), MeanAdded({1, 2, 3, 4}, {1, 2, 3, 4}));
}

TEST(Upload, AllTogetherStayWithinTheirLimit) {
  World world;
  constexpr uint64_t kAllowed = 10'000;
  Parties parties({.coordinator = world.public_key,
                   .verifier = world.verifier.get(),
                   .rng = world.rng.get(),
                   .sessions_max = 100,
                   .uploads_in_flight_bytes_max = kAllowed});
  std::vector<Party*> all;
  for (uint64_t serial = 1; serial <= 20; ++serial) {
    const Player player(world, serial);
    const auto admission = parties.CheckIn(
        player.SignedCheckIn(parties.NewChallenge(world.clock.now)), world.clock.now);
    ASSERT_THAT(admission, IsOk());
    all.push_back(parties.Authenticate(admission->session, world.clock.now));
    parties.Ask(*all.back(), Question{.to = serial, .answer_bytes_max = 1U << 20U});
  }
  uint64_t held = 0;
  int refused = 0;
  for (Party* party : all) {
    wire::UploadRequest request;
    request.sequence = party->sequence;
    request.total_bytes = 1U << 20U;
    for (int chunk = 0; chunk < 10; ++chunk) {
      request.offset = party->upload->answer.size();
      request.data = Bytes(100);
      uint64_t received = 0;
      UploadCall call = CallOf(request);
      const Result<bool> taken = parties.Receive(*party, call, &received);
      if (!taken.ok()) {
        EXPECT_THAT(taken, HasCode(Code::kUnavailable));
        ++refused;
      }
    }
  }
  for (const Party* party : all) held += party->upload->answer.held();
  EXPECT_LE(held, kAllowed);
  EXPECT_GT(held, kAllowed / 2);
  EXPECT_GT(refused, 0);
  // What one lets go of serves the next.
  for (Party* party : all) parties.Withdraw(*party);
  parties.Ask(*all[0], Question{.to = 1, .answer_bytes_max = kAllowed});
  wire::UploadRequest request;
  request.sequence = all[0]->sequence;
  request.total_bytes = kAllowed;
  request.data = Bytes(kAllowed);
  request.sha256 = crypto::Sha256(request.data);
  uint64_t received = 0;
  UploadCall call = CallOf(request);
  EXPECT_THAT(parties.Receive(*all[0], call, &received), HoldsValue(true));
}

TEST(Incoming, KeepsLongChunksWhereTheyLieAndShortOnesBehindEachOther) {
  TestRng rng(1);
  Bytes answer(300'000);
  rng.Fill(answer);
  constexpr size_t kLong = 70'000;
  Incoming incoming;
  std::vector<const uint8_t*> long_ones;
  for (const size_t size : {size_t{1}, size_t{40}, size_t{60'000}, kLong, size_t{7}, kLong, kLong,
                            size_t{3}, size_t{0}}) {
    wire::UploadRequest request;
    request.offset = incoming.size();
    request.total_bytes = answer.size();
    const auto from = answer.begin() + static_cast<ptrdiff_t>(incoming.size());
    request.data = Bytes(from, from + static_cast<ptrdiff_t>(size));
    UploadCall call = CallOf(request);
    if (size == kLong) long_ones.push_back(call.chunk.data.front().data());
    const uint64_t needed = incoming.Needs(call, answer.size());
    const uint64_t before = incoming.held();
    incoming.Add(call, answer.size());
    EXPECT_EQ(incoming.held() - before, needed);
    EXPECT_EQ(Join(incoming.pieces()),
              Bytes(answer.begin(), answer.begin() + static_cast<ptrdiff_t>(incoming.size())));
    EXPECT_LE(incoming.held(), 4 * incoming.size());
  }
  for (const uint8_t* const data : long_ones) {
    EXPECT_TRUE(std::any_of(incoming.pieces().begin(), incoming.pieces().end(),
                            [data](BytesView piece) { return piece.data() == data; }));
  }
}

// In protobuf the last of several values of a field counts; the others would be kept with it.
TEST(Incoming, KeepsNothingOfARequestThatHoldsMuchBesidesItsChunk) {
  wire::UploadRequest request;
  request.total_bytes = 200'000;
  request.data = Bytes(100'000, 7);
  const Bytes twice = wire::Encode(request);
  request.data.pop_back();
  Bytes body = twice;
  const Bytes last = wire::Encode(request);
  body.insert(body.end(), last.begin(), last.end());
  Result<UploadCall> call = UploadCall::Read(body);
  ASSERT_THAT(call, IsOk());
  EXPECT_EQ(call->chunk.data_bytes, 99'999U);
  Incoming incoming;
  incoming.Add(*call, 200'000);
  EXPECT_EQ(Join(incoming.pieces()), request.data);
  EXPECT_LE(incoming.held(), 200'000U);
  EXPECT_EQ(call->body.size(), body.size());  // it goes with the call
}

TEST(Upload, GivesBackAllThatItHeldHoweverItEnds) {
  World world;
  Sessions sessions(
      {.rng = world.rng.get(),
       .admission = {.coordinator = world.public_key, .verifier = world.verifier.get()},
       .sessions_max = 10,
       .uploads_in_flight_bytes_max = 1U << 24U});
  Parties parties({.sessions = &sessions, .rng = world.rng.get()});
  const Player player(world, 1);
  const auto check_in = [&] {
    const auto admission = parties.CheckIn(
        player.SignedCheckIn(parties.NewChallenge(world.clock.now)), world.clock.now);
    EXPECT_THAT(admission, IsOk());
    return parties.Authenticate(admission->session, world.clock.now);
  };
  const Bytes answer(300'000, 9);
  const auto send = [&](Party& party, size_t from, size_t size) {
    wire::UploadRequest request;
    request.sequence = party.sequence;
    request.offset = from;
    request.total_bytes = answer.size();
    request.data = Bytes(size, 9);  // whose digest is not the one announced
    UploadCall call = CallOf(request);
    uint64_t received = 0;
    return parties.Receive(party, call, &received);
  };
  Party* party = check_in();
  const auto ask_and_send = [&] {
    parties.Ask(*party, Question{.to = 1, .answer_bytes_max = answer.size()});
    EXPECT_THAT(send(*party, 0, 100), HoldsValue(false));
    EXPECT_THAT(send(*party, 100, 200'000), HoldsValue(false));
    EXPECT_GE(sessions.held(), 200'100U);
  };
  ask_and_send();
  EXPECT_THAT(send(*party, 200'100, 99'900), HasCode(Code::kDataLoss));
  EXPECT_EQ(sessions.held(), 0U);
  ask_and_send();
  parties.Withdraw(*party);
  EXPECT_EQ(sessions.held(), 0U);
  ask_and_send();
  parties.Tell(*party, wire::RoundOver{});
  EXPECT_EQ(sessions.held(), 0U);
  ask_and_send();
  parties.FinishUpload(*party, OkStatus());
  EXPECT_EQ(sessions.held(), 0U);
  ask_and_send();
  party = check_in();  // in place of the session before
  EXPECT_EQ(sessions.held(), 0U);
}

TEST(Incoming, LaysAShortAnswerInOnePieceWhateverItsChunks) {
  Incoming incoming;
  for (uint8_t i = 0; i < 100; ++i) {
    wire::UploadRequest request;
    request.offset = i;
    request.total_bytes = 100;
    request.data = Bytes(1, i);
    UploadCall call = CallOf(request);
    incoming.Add(call, 100);
  }
  EXPECT_LE(incoming.pieces().size(), 5U);
  EXPECT_EQ(incoming.size(), 100U);
  EXPECT_EQ(incoming.held(), 100U);
}

// What was hashed beforehand counts only for the chunk and the state of the answer that it is of.
class AheadOf : public testing::Test {
 protected:
  AheadOf() {
    const Player player(world_, 1);
    const auto admission = parties_.CheckIn(
        player.SignedCheckIn(parties_.NewChallenge(world_.clock.now)), world_.clock.now);
    if (!admission.ok()) std::abort();
    session_ = admission->session;
    party_ = parties_.Authenticate(session_, world_.clock.now);
    parties_.Ask(*party_, Question{.to = 1, .answer_bytes_max = answer_.size()});
    UploadCall announced = Chunk(0, 0);
    uint64_t received = 0;
    EXPECT_THAT(parties_.Receive(*party_, announced, &received), HoldsValue(false));
  }
  UploadCall Chunk(size_t from, size_t size) const {
    wire::UploadRequest request;
    request.session = session_;
    request.sequence = party_->sequence;
    request.offset = from;
    request.total_bytes = answer_.size();
    request.sha256 = crypto::Sha256(answer_);
    request.data = Bytes(answer_.begin() + static_cast<ptrdiff_t>(from),
                         answer_.begin() + static_cast<ptrdiff_t>(from + size));
    return CallOf(request);
  }
  bool Hash(UploadCall& call) {
    const auto share = parties_.AheadOf(call);
    if (!share) return false;
    crypto::Sha256Stream::UpdateSideBySide({&*share, 1});
    return true;
  }
  Result<bool> Receive(UploadCall& call) {
    uint64_t received = 0;
    return parties_.Receive(*party_, call, &received);
  }

  World world_;
  const Bytes answer_ = Bytes(1'000, 7);
  Parties parties_{{.coordinator = world_.public_key,
                    .verifier = world_.verifier.get(),
                    .rng = world_.rng.get(),
                    .sessions_max = 10,
                    .uploads_in_flight_bytes_max = 1U << 20U}};
  wire::SessionToken session_{};
  Party* party_ = nullptr;
};

TEST_F(AheadOf, ChunksThatComeInOrder) {
  UploadCall first = Chunk(0, 600);
  ASSERT_TRUE(Hash(first));
  EXPECT_THAT(Receive(first), HoldsValue(false));
  UploadCall second = Chunk(600, 400);
  ASSERT_TRUE(Hash(second));
  EXPECT_THAT(Receive(second), HoldsValue(true));
}

TEST_F(AheadOf, NothingThatIsNotNext) {
  UploadCall later = Chunk(600, 400);
  EXPECT_FALSE(Hash(later));
  UploadCall of_nobody = Chunk(0, 600);
  of_nobody.chunk.session = {};
  EXPECT_FALSE(Hash(of_nobody));
  UploadCall of_another = Chunk(0, 600);
  of_another.chunk.sha256 = {};
  EXPECT_FALSE(Hash(of_another));
}

TEST_F(AheadOf, AChunkThatCameTwice) {
  UploadCall first = Chunk(0, 600);
  UploadCall again = Chunk(0, 600);
  ASSERT_TRUE(Hash(first));
  ASSERT_TRUE(Hash(again));
  EXPECT_THAT(Receive(first), HoldsValue(false));
  EXPECT_THAT(Receive(again), HoldsValue(false));
  UploadCall second = Chunk(600, 400);
  EXPECT_THAT(Receive(second), HoldsValue(true));
}

TEST_F(AheadOf, AnAnswerThatBeganAnew) {
  UploadCall first = Chunk(0, 600);
  EXPECT_THAT(Receive(first), HoldsValue(false));
  UploadCall second = Chunk(600, 400);
  ASSERT_TRUE(Hash(second));
  // Another answer is announced in between, and then the first again.
  UploadCall other = Chunk(0, 0);
  other.chunk.sha256 = {};
  EXPECT_THAT(Receive(other), HoldsValue(false));
  UploadCall announced = Chunk(0, 600);
  EXPECT_THAT(Receive(announced), HoldsValue(false));
  EXPECT_THAT(Receive(second), HoldsValue(true));
}

// Many parties who are asked for an answer of eight megabytes each: three at a time.
class Turns : public testing::Test {
 protected:
  static constexpr uint64_t kBytes = 8U << 20U;
  static constexpr size_t kAtATime = kUploadsAtATimeBytes / kBytes;

  Turns() {
    for (uint64_t serial = 1; serial <= kAtATime + 3; ++serial) {
      const Player player(world_, serial);
      const auto admission =
          parties_.CheckIn(player.SignedCheckIn(parties_.NewChallenge(now())), now());
      if (!admission.ok()) std::abort();
      all_.push_back(parties_.Authenticate(admission->session, now()));
      parties_.Ask(*all_.back(), Question{.to = serial, .answer_bytes_max = kBytes});
    }
    told_.resize(all_.size());
  }
  Time now() const { return world_.clock.now; }
  // Whether the party must wait for its turn; what it is told comes to lie in told_.
  bool Announce(size_t i) {
    wire::UploadRequest request;
    request.sequence = all_[i]->sequence;
    request.total_bytes = kBytes;
    all_[i]->contact = now();
    Reply reply = [this, i](Result<Bytes> result) { told_[i] = std::move(result); };
    UploadCall call = CallOf(request);
    if (parties_.WaitForTurn(*all_[i], call.chunk, reply)) return true;
    uint64_t received = 1;
    EXPECT_THAT(parties_.Receive(*all_[i], call, &received), HoldsValue(false));
    EXPECT_EQ(received, 0U);
    return false;
  }
  void Fill() {
    for (size_t i = 0; i < kAtATime; ++i) EXPECT_FALSE(Announce(i));
  }
  bool MayBegin(size_t i) const {
    return told_[i].has_value() && told_[i]->ok() &&
           wire::Decode<wire::UploadReply>(**told_[i])->received == 0;
  }
  // A megabyte of an answer that is never done: then the next of the same party begins.
  void SendMore(size_t i) {
    Party& party = *all_[i];
    wire::UploadRequest more;
    more.total_bytes = kBytes;
    more.data = Bytes(limits::kChunkBytesMax);
    if (party.upload->answer.size() + more.data.size() >= kBytes) {
      parties_.Ask(party, Question{.to = party.id, .answer_bytes_max = kBytes});
    }
    more.sequence = party.sequence;
    more.offset = party.upload->answer.size();
    party.contact = now();
    uint64_t received = 0;
    UploadCall call = CallOf(more);
    EXPECT_THAT(parties_.Receive(party, call, &received), IsOk());
  }

  std::vector<std::optional<Result<Bytes>>> told_;
  World world_;
  Parties parties_{{.coordinator = world_.public_key,
                    .verifier = world_.verifier.get(),
                    .rng = world_.rng.get(),
                    .sessions_max = 100,
                    .uploads_in_flight_bytes_max = limits::kUploadsInFlightBytesMax}};
  std::vector<Party*> all_;
};

TEST_F(Turns, AreGivenInTheOrderOfTheAnnouncements) {
  Fill();
  EXPECT_TRUE(Announce(kAtATime));
  EXPECT_TRUE(Announce(kAtATime + 1));
  parties_.GiveTurns(now());
  EXPECT_FALSE(told_[kAtATime].has_value());
  parties_.Withdraw(*all_[0]);
  // Whoever comes now does not overtake those who wait.
  EXPECT_TRUE(Announce(kAtATime + 2));
  parties_.GiveTurns(now());
  EXPECT_TRUE(MayBegin(kAtATime));
  EXPECT_FALSE(told_[kAtATime + 1].has_value());
  parties_.Withdraw(*all_[1]);
  parties_.Withdraw(*all_[2]);
  parties_.GiveTurns(now());
  EXPECT_TRUE(MayBegin(kAtATime + 1));
  EXPECT_TRUE(MayBegin(kAtATime + 2));
}

TEST_F(Turns, PassThoseWhoseStepHasClosed) {
  Fill();
  EXPECT_TRUE(Announce(kAtATime));
  EXPECT_TRUE(Announce(kAtATime + 1));
  parties_.Withdraw(*all_[kAtATime]);
  ASSERT_TRUE(told_[kAtATime].has_value());
  EXPECT_THAT(*told_[kAtATime], HasCode(Code::kFailedPrecondition));
  parties_.Withdraw(*all_[0]);
  parties_.GiveTurns(now());
  EXPECT_TRUE(MayBegin(kAtATime + 1));
}

// Answers that come fast are waited for, but no caller waits longer than its call may take.
TEST_F(Turns, AreAskedForAgainByWhoHasWaitedForLong) {
  Fill();
  EXPECT_TRUE(Announce(kAtATime));
  const Time began = now();
  while (!told_[kAtATime].has_value() && now() - began < limits::kCallDeadline) {
    world_.clock.now += Time{5};
    SendMore(0);
    parties_.Tick(now());
  }
  EXPECT_LT(now() - began, limits::kCallDeadline);
  ASSERT_TRUE(told_[kAtATime].has_value());
  EXPECT_THAT(*told_[kAtATime], HasCode(Code::kResourceExhausted));
  EXPECT_GT(told_[kAtATime]->status().retry_after(), Time{0});
  EXPECT_TRUE(Announce(kAtATime));
}

// Clients far away, of whom a few do not fill the coordinator's network.
TEST_F(Turns, AreGivenWhereThoseBeforeTakeTheirTime) {
  Fill();
  EXPECT_TRUE(Announce(kAtATime));
  const Time began = now();
  while (!told_[kAtATime].has_value() && now() - began < Time{1'500}) {
    world_.clock.now += Time{12};
    SendMore(0);
    parties_.Tick(now());
  }
  EXPECT_TRUE(MayBegin(kAtATime));
  EXPECT_LT(now() - began, Time{1'500});
}

// Whoever announces and then sends nothing holds nobody up for long.
TEST_F(Turns, AreGivenWhenNothingComesFromThoseBefore) {
  Fill();
  EXPECT_TRUE(Announce(kAtATime));
  world_.clock.now += Time{2'000};
  parties_.Tick(now());
  EXPECT_TRUE(MayBegin(kAtATime));
}

// A refusal would only have it sent again.
TEST_F(Turns, AreNotNeededByWhatComesInOneChunk) {
  Fill();
  Party& party = *all_[kAtATime];
  wire::UploadRequest first;
  first.sequence = party.sequence;
  first.total_bytes = kBytes;
  first.data = Bytes(10, 7);
  party.contact = now();
  uint64_t received = 0;
  UploadCall begun = CallOf(first);
  EXPECT_THAT(parties_.Receive(party, begun, &received), HasCode(Code::kResourceExhausted));
  wire::UploadRequest whole = first;
  whole.total_bytes = whole.data.size();
  whole.sha256 = crypto::Sha256(whole.data);
  UploadCall call = CallOf(whole);
  EXPECT_THAT(parties_.Receive(party, call, &received), HoldsValue(true));
  EXPECT_EQ(received, 10U);
}

TEST_F(Turns, EndTheCallThatASecondAnnouncementReplaces) {
  Fill();
  EXPECT_TRUE(Announce(kAtATime));
  std::optional<Result<Bytes>> first;
  all_[kAtATime]->upload->turn = [&first](Result<Bytes> result) { first = std::move(result); };
  EXPECT_TRUE(Announce(kAtATime));
  ASSERT_TRUE(first.has_value());
  EXPECT_THAT(*first, HasCode(Code::kAborted));
  parties_.Withdraw(*all_[0]);
  parties_.GiveTurns(now());
  EXPECT_TRUE(MayBegin(kAtATime));
}

}  // namespace
}  // namespace chorus::coordinator
