#include "wire/learning.h"

#include <string>

#include "base/limits.h"
#include "wire/proto.h"

namespace chorus::wire {
namespace {

static_assert(static_cast<int>(Activation::kSoftmax) == v1::ACTIVATION_SOFTMAX &&
                  static_cast<int>(Loss::kNextToken) == v1::LOSS_NEXT_TOKEN &&
                  static_cast<int>(LayerKind::kResidual) == v1::LAYER_KIND_RESIDUAL &&
                  static_cast<int>(Padding::kSame) == v1::PADDING_SAME &&
                  static_cast<int>(ClientOptimizer::kAdam) == v1::CLIENT_OPTIMIZER_ADAM &&
                  static_cast<int>(Schedule::kCosine) == v1::SCHEDULE_COSINE &&
                  static_cast<int>(ServerOptimizer::kFedYogi) == v1::SERVER_OPTIMIZER_FEDYOGI &&
                  static_cast<int>(RobustRule::kBulyan) == v1::ROBUST_RULE_BULYAN &&
                  static_cast<int>(QueryKind::kMoments) == v1::QUERY_KIND_MOMENTS,
              "the plain enumerations share their numbers with the schema");

void Write(const LayerSpec& from, v1::Layer& to) {
  const LayerSpec before;
  to.set_units(from.units);
  to.set_activation(static_cast<v1::Activation>(from.activation));
  to.set_kind(static_cast<v1::LayerKind>(from.kind));
  to.set_personal(from.personal);
  to.set_kernel(from.kernel);
  if (from.stride != before.stride) to.set_stride(from.stride);
  to.set_padding(static_cast<v1::Padding>(from.padding));
  to.set_vocabulary(from.vocabulary);
  to.set_rate(from.rate);
  to.set_span(from.span);
  to.set_last_only(from.last_only);
}

Status Read(const v1::Layer& from, LayerSpec& to) {
  CHORUS_TRY(AtMost(from.units(), limits::kUnitsMax, "units of a layer"));
  to.units = from.units();
  to.activation = static_cast<Activation>(from.activation());
  to.kind = static_cast<LayerKind>(from.kind());
  to.personal = from.personal();
  to.kernel = from.kernel();
  Take(from.has_stride(), from.stride(), to.stride);
  to.padding = static_cast<Padding>(from.padding());
  to.vocabulary = from.vocabulary();
  to.rate = from.rate();
  to.span = from.span();
  to.last_only = from.last_only();
  return OkStatus();
}

void Write(const QuerySpec& from, v1::Query& to) {
  to.set_name(from.name);
  to.set_kind(static_cast<v1::QueryKind>(from.kind));
  for (const uint32_t column : from.columns) to.add_columns(column);
  to.set_low(from.low);
  to.set_high(from.high);
  to.set_bins(from.bins);
  to.set_unit(from.unit);
}

Status Read(const v1::Query& from, QuerySpec& to) {
  if (CleanText(from.name(), kNameBytesMax) != from.name())
    return InvalidArgument(
        "the name of a query must be UTF-8 without control characters, of at "
        "most " +
        std::to_string(kNameBytesMax) + " bytes");
  to.name = from.name();
  to.kind = static_cast<QueryKind>(from.kind());
  to.columns.assign(from.columns().begin(), from.columns().end());
  Take(from.has_low(), from.low(), to.low);
  Take(from.has_high(), from.high(), to.high);
  Take(from.has_bins(), from.bins(), to.bins);
  Take(from.has_unit(), from.unit(), to.unit);
  return OkStatus();
}

}  // namespace

void Write(const ModelSpec& from, v1::Model& to) {
  const ModelSpec before;
  to.set_inputs(from.inputs);
  for (const LayerSpec& layer : from.layers) Write(layer, *to.add_layers());
  to.set_loss(static_cast<v1::Loss>(from.loss));
  for (const uint32_t size : from.shape) to.add_shape(size);
  if (from.huber_delta != before.huber_delta) to.set_huber_delta(from.huber_delta);
  to.set_custom_parameters(from.custom_parameters);
}

Status Read(const v1::Model& from, ModelSpec& to) {
  CHORUS_TRY(AtMost(from.custom_parameters(), limits::kDimMax, "model.custom_parameters"));
  to.custom_parameters = from.custom_parameters();
  const uint64_t least = to.custom_parameters > 0 ? 0 : 1;
  CHORUS_TRY(Between(from.inputs(), least, limits::kUnitsMax, "model.inputs"));
  CHORUS_TRY(Between(static_cast<uint64_t>(from.layers_size()), least, limits::kLayersMax,
                     "the number of model.layers"));
  CHORUS_TRY(AtMost(static_cast<uint64_t>(from.shape_size()), limits::kRankMax,
                    "the number of model.shape"));
  to.inputs = from.inputs();
  for (const v1::Layer& layer : from.layers()) CHORUS_TRY(Read(layer, to.layers.emplace_back()));
  to.loss = static_cast<Loss>(from.loss());
  to.shape.assign(from.shape().begin(), from.shape().end());
  Take(from.has_huber_delta(), from.huber_delta(), to.huber_delta);
  return OkStatus();
}

void Write(const TrainingSpec& from, v1::Training& to) {
  const TrainingSpec before;
  to.set_epochs(from.epochs);
  to.set_batch_size(from.batch_size);
  to.set_learning_rate(from.learning_rate);
  to.set_held_back_percent(from.held_back_percent);
  if (from.steps != before.steps) to.set_steps(from.steps);
  if (from.optimizer != before.optimizer)
    to.set_optimizer(static_cast<v1::ClientOptimizer>(from.optimizer));
  if (from.momentum != before.momentum) to.set_momentum(from.momentum);
  if (from.beta1 != before.beta1) to.set_beta1(from.beta1);
  if (from.beta2 != before.beta2) to.set_beta2(from.beta2);
  if (from.epsilon != before.epsilon) to.set_epsilon(from.epsilon);
  if (from.schedule != before.schedule) to.set_schedule(static_cast<v1::Schedule>(from.schedule));
  if (from.decay != before.decay) to.set_decay(from.decay);
  if (from.decay_rounds != before.decay_rounds) to.set_decay_rounds(from.decay_rounds);
  if (from.gradient_l2_norm_max != before.gradient_l2_norm_max)
    to.set_gradient_l2_norm_max(from.gradient_l2_norm_max);
  if (from.proximal != before.proximal) to.set_proximal(from.proximal);
  if (from.scaffold) to.set_scaffold(true);
  if (from.population != before.population) to.set_population(from.population);
  if (from.fairness_q != before.fairness_q) to.set_fairness_q(from.fairness_q);
  if (from.fairness_loss != before.fairness_loss) to.set_fairness_loss(from.fairness_loss);
}

void Read(const v1::Training& from, TrainingSpec& to) {
  Take(from.has_epochs(), from.epochs(), to.epochs);
  Take(from.has_batch_size(), from.batch_size(), to.batch_size);
  Take(from.has_learning_rate(), from.learning_rate(), to.learning_rate);
  Take(from.has_held_back_percent(), from.held_back_percent(), to.held_back_percent);
  Take(from.has_steps(), from.steps(), to.steps);
  Take(from.has_optimizer(), static_cast<ClientOptimizer>(from.optimizer()), to.optimizer);
  Take(from.has_momentum(), from.momentum(), to.momentum);
  Take(from.has_beta1(), from.beta1(), to.beta1);
  Take(from.has_beta2(), from.beta2(), to.beta2);
  Take(from.has_epsilon(), from.epsilon(), to.epsilon);
  Take(from.has_schedule(), static_cast<Schedule>(from.schedule()), to.schedule);
  Take(from.has_decay(), from.decay(), to.decay);
  Take(from.has_decay_rounds(), from.decay_rounds(), to.decay_rounds);
  Take(from.has_gradient_l2_norm_max(), from.gradient_l2_norm_max(), to.gradient_l2_norm_max);
  Take(from.has_proximal(), from.proximal(), to.proximal);
  Take(from.has_scaffold(), from.scaffold(), to.scaffold);
  Take(from.has_population(), from.population(), to.population);
  Take(from.has_fairness_q(), from.fairness_q(), to.fairness_q);
  Take(from.has_fairness_loss(), from.fairness_loss(), to.fairness_loss);
}

void WriteServer(const TaskSpec& from, v1::Task& to) {
  const ServerSpec before;
  const ServerSpec& server = from.server;
  if (server.optimizer != before.optimizer)
    to.mutable_server()->set_optimizer(static_cast<v1::ServerOptimizer>(server.optimizer));
  if (server.beta1 != before.beta1) to.mutable_server()->set_beta1(server.beta1);
  if (server.beta2 != before.beta2) to.mutable_server()->set_beta2(server.beta2);
  if (server.tau != before.tau) to.mutable_server()->set_tau(server.tau);
  if (server.robust != before.robust)
    to.mutable_server()->set_robust(static_cast<v1::RobustRule>(server.robust));
  if (server.byzantine != before.byzantine) to.mutable_server()->set_byzantine(server.byzantine);
  if (server.buffered_sums != before.buffered_sums)
    to.mutable_server()->set_buffered_sums(server.buffered_sums);
  if (server.staleness_max != before.staleness_max)
    to.mutable_server()->set_staleness_max(server.staleness_max);
  for (const QuerySpec& query : from.queries) Write(query, *to.add_queries());
}

Status ReadServer(const v1::Task& from, TaskSpec& to) {
  const v1::Server& server = from.server();
  Take(server.has_optimizer(), static_cast<ServerOptimizer>(server.optimizer()),
       to.server.optimizer);
  Take(server.has_beta1(), server.beta1(), to.server.beta1);
  Take(server.has_beta2(), server.beta2(), to.server.beta2);
  Take(server.has_tau(), server.tau(), to.server.tau);
  Take(server.has_robust(), static_cast<RobustRule>(server.robust()), to.server.robust);
  Take(server.has_byzantine(), server.byzantine(), to.server.byzantine);
  Take(server.has_buffered_sums(), server.buffered_sums(), to.server.buffered_sums);
  Take(server.has_staleness_max(), server.staleness_max(), to.server.staleness_max);
  CHORUS_TRY(AtMost(static_cast<uint64_t>(from.queries_size()), limits::kQueriesMax,
                    "the number of queries"));
  for (const v1::Query& query : from.queries()) CHORUS_TRY(Read(query, to.queries.emplace_back()));
  return OkStatus();
}

}  // namespace chorus::wire
