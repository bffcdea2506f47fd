// Every bound on what the outside can make us hold, wait for or loop over, with how they relate.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace chorus::limits {

// Models and vectors.
inline constexpr uint64_t kDimMax = uint64_t{1} << 28U;  // parameters of a model
inline constexpr uint32_t kLayersMax = 64;
inline constexpr uint32_t kUnitsMax = 1U << 20U;             // of a layer, and inputs of a model
inline constexpr uint64_t kOutputsMax = uint64_t{1} << 26U;  // of a layer for one example
inline constexpr uint32_t kKernelMax = 1'024;                // side of a window
// Multiply-adds of a model for one example, forth only: a second or few. A session looks between
// two pieces of a minibatch whether it is cancelled, and a piece has at least one example.
inline constexpr uint64_t kExampleWorkMax = uint64_t{1} << 34U;
inline constexpr uint64_t kPieceWorkMax = uint64_t{1} << 32U;      // of more examples than one
inline constexpr uint64_t kExamplesBytesMax = uint64_t{8} << 30U;  // of one client's local examples
inline constexpr uint32_t kEpochsMax = 1'000'000;                  // of one client in one round
inline constexpr uint32_t kStepsMax = 1'000'000;                   // likewise
inline constexpr uint32_t kRankMax = 3;                            // axes of an example
inline constexpr uint32_t kQueriesMax = 256;                       // of one analytics task
inline constexpr uint32_t kQueryColumnsMax = 1'024;                // of one query
inline constexpr uint64_t kCellsMax = uint64_t{1} << 20U;          // of all queries of a task

// Cohorts.
inline constexpr uint32_t kCohortMax = 1'024;         // in one session [specification D8]
inline constexpr uint32_t kCompleteCohortMax = 128;   // with a complete graph [specification 3.5]
inline constexpr uint32_t kParallelCohortsMax = 128;  // in one round
inline constexpr uint32_t kOneShotCohortMax = 1U << 15U;  // n_max of OneShot [specification 2.2.2]
inline constexpr uint32_t kCommitteeMax = 256;            // members [specification 2.2.3]
inline constexpr uint32_t kSessionsMax = 100'000;  // checked-in clients that one coordinator holds
inline constexpr size_t kSeenKeysMax = size_t{1} << 20U;  // of past sessions, at a coordinator
inline constexpr uint32_t kEvidenceBytesMax = 4'096;      // of one identity
inline constexpr uint32_t kTokenBytesMax = 4'096;         // of one session token
inline constexpr size_t kTokenKeysBytesMax = size_t{256} << 10U;  // of a JWKS file
inline constexpr size_t kTokenKeysMax = 100;                      // in it
inline constexpr size_t kJsonMembersMax = 1'000;                  // of one object or array
inline constexpr size_t kJsonNestingMax = 16;                     // of objects and arrays
inline constexpr size_t kSubjectBytesMax = 255;                   // a token's "sub"
inline constexpr size_t kBucketsMax = size_t{1} << 17U;  // callers whose rate is remembered
inline constexpr size_t kDecodedSharesMax = 4'096;       // of one secret, wrong ones among them
inline constexpr uint32_t kTasksMax = 64;                // that one coordinator serves
inline constexpr uint32_t kPriorityMax = 1'000;          // of a task
inline constexpr uint32_t kOperatorsMax = 64;            // of one coordinator
inline constexpr size_t kAuditReasonBytesMax = 500;
inline constexpr uint32_t kAuditEntriesMax = 500;                 // in one reply
inline constexpr uint32_t kRoundsMax = 1'000'000;                 // of a task
inline constexpr uint32_t kStalenessMax = 1'000;                  // commits that may overtake a sum
inline constexpr size_t kBlamedIdentitiesMax = size_t{1} << 16U;  // that a coordinator remembers

// Messages.
inline constexpr size_t kChunkBytesMax = size_t{1}
                                         << 20U;  // of model, question or update in one message
inline constexpr size_t kMessageBytesMax =
    kChunkBytesMax + (size_t{64} << 10U);                      // a chunk and its envelope
inline constexpr size_t kTaskBytesMax = size_t{64} << 10U;     // a task on the wire
inline constexpr size_t kQuestionBytesMax = size_t{8} << 20U;  // one step's question to one party
inline constexpr uint64_t kOneShotFoldsBytesMax = uint64_t{256} << 20U;  // of partial sums
// What a committee member is asked to check: a share, a header and evidence of each client.
inline constexpr size_t kPullBytesMax = size_t{1} << 30U;
inline constexpr uint64_t kTransferBytesMax =
    kDimMax * 8 + (uint64_t{1} << 20U);  // a whole model or update
inline constexpr uint64_t kUploadsInFlightBytesMax = uint64_t{4}
                                                     << 30U;  // of all uploads being received
inline constexpr size_t kCheckInsQueuedMax = 4'096;           // waiting for somebody to vet them
inline constexpr size_t kRequestsQueuedMax =
    8'192;  // requests waiting for the coordinator's thread
inline constexpr size_t kRequestsQueuedBytesMax = size_t{256} << 20U;  // of all of those
inline constexpr size_t kEventsMax = 4'096;           // events that the host has not polled
inline constexpr uint32_t kStatusRoundsMax = 1'000;   // rounds that one may be asked for at once
inline constexpr uint32_t kStatusPageRounds = 100;    // of these, in one status reply
inline constexpr uint32_t kStatusEvidenceMax = 100;   // equivocations in one status reply
inline constexpr uint32_t kStatusProcessesMax = 256;  // processes in one status reply

// Replies that gRPC was given and that their callers have not read. Who has no session can make up
// as many callers as they like.
inline constexpr size_t kUnreadBytesMax = size_t{1} << 30U;       // of calls with a session
inline constexpr size_t kUnreadOpenBytesMax = size_t{64} << 20U;  // of those without
inline constexpr size_t kUncountedReplyBytesMax = 1'024;          // no more than its call costs
// Calls of an address, as many as one that asks for the coordinator's status or orders it counts.
inline constexpr uint32_t kCostlyCallWeight = 10;

// Streams of gRPC's own services, health's Watch and reflection, that are open at a time: they last
// as long as their callers like.
inline constexpr size_t kForeignStreamsMax = 256;
inline constexpr size_t kForeignStreamsOfAddressMax = 32;

// The web listener.
inline constexpr size_t kWebConnectionsMax = 64;
inline constexpr size_t kWebRequestBytesMax = size_t{16} << 10U;  // line and headers of a request
inline constexpr std::chrono::seconds kWebIdleMax{5};             // of a connection

// Waits.
inline constexpr std::chrono::milliseconds kCallDeadline{30'000};  // an ordinary call
inline constexpr std::chrono::milliseconds kPollParked{20'000};  // a Next call waits at the server
inline constexpr std::chrono::milliseconds kSessionIdleMax{
    120'000};  // not heard of so long while idle: forgotten
inline constexpr std::chrono::milliseconds kBackoffFirst{250};  // reconnecting
inline constexpr size_t kServersMax = 64;                       // addresses that a client is given
inline constexpr std::chrono::milliseconds kBackoffMax{30'000};
// How long a client may be told to stay away at most, and a coordinator believed.
inline constexpr std::chrono::milliseconds kStayAwayMax{4 * 3'600 * 1'000};
// How long a client that declined a task is rather given another.
inline constexpr std::chrono::milliseconds kRefusalLife{600'000};
// How long a task may keep the others waiting while it gathers its minimum.
inline constexpr std::chrono::milliseconds kTurnMax{60'000};
inline constexpr std::chrono::milliseconds kStepDeadlineMax{24 * 3'600 * 1'000};
inline constexpr std::chrono::milliseconds kChallengeLife{
    120'000};  // between Challenge and CheckIn

// Under which name an error says in milliseconds when to try again: gRPC's own [gRFC A6].
inline constexpr std::string_view kRetryAfterKey = "grpc-retry-pushback-ms";
// Between an operator's signing an order and the coordinator's getting it, on their clocks.
inline constexpr std::chrono::seconds kOrderLife{300};

// Pre-keys [specification 3.2].
inline constexpr std::chrono::seconds kPreKeyLifeMax{24 * 3'600};  // from now to not_after
inline constexpr std::chrono::seconds kClockSkewMax{3'600};  // between the clocks of two devices

// The client's ledger, and what it keeps besides [specification 3.7].
inline constexpr uint32_t kAttemptsPerRoundMax = 4;
inline constexpr uint32_t kAttemptsPerDayMax = 64;
inline constexpr uint32_t kLedgerEntriesMax = 1U << 20U;
inline constexpr uint32_t kEvidenceRecordsMax = 1'024;            // against its coordinator
inline constexpr size_t kDeviceStatesMax = 8;                     // tasks that a device trained
inline constexpr size_t kSeenKeysOnDeviceMax = size_t{1} << 16U;  // of peers in past sessions

static_assert(kCohortMax * (sizeof(uint64_t) * 64 + kEvidenceBytesMax) < kQuestionBytesMax,
              "a roster is one question");
static_assert(uint64_t{kParallelCohortsMax} * kCohortMax < uint64_t{1} << 31U,
              "with a bound below 2^31, the sums of all cohorts add up within 62 bits");
static_assert(kUnreadBytesMax >= kCohortMax * kChunkBytesMax, "a cohort can download at once");
static_assert(kMessageBytesMax < kRequestsQueuedBytesMax, "any one request can wait");
static_assert(kCohortMax <= kDecodedSharesMax, "shares from a whole cohort can be decoded");
static_assert(kCompleteCohortMax <= kCohortMax, "a complete graph is one of the graphs");
static_assert(kPollParked < kCallDeadline, "a parked call answers before its caller gives up");
static_assert(kTaskBytesMax + 4'096 < kChunkBytesMax, "an invitation is one message");

}  // namespace chorus::limits
