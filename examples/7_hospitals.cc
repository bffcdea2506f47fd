// Four hospitals learn together who has a heart disease, and none of them shows a patient to
// anybody: federated logistic regression beside the same on all patients in one place.
//
//   7_hospitals FOLDER [ROUNDS]
//
// FOLDER holds processed.{cleveland,hungarian,switzerland,va}.data of the UCI Heart Disease data
// set (https://archive.ics.uci.edu/dataset/45). Both models learn from four fifths of each
// hospital's patients and are tried on the others, over five ways to choose them. Ends with exit
// code 0 when the federated one is as good, within a hundredth.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "chorus/simulation.h"

namespace {

constexpr std::array<const char*, 4> kHospitals = {"cleveland", "hungarian", "switzerland", "va"};
constexpr int kSplits = 5;

// Of the 14 columns, these are known of nearly everybody: age, sex, kind of chest pain (1 to 4),
// blood pressure, cholesterol, sugar, electrocardiogram (0 to 2), heart rate, angina, ST change.
constexpr size_t kColumns = 10;
constexpr size_t kChestPain = 2;
constexpr size_t kCardiogram = 6;
constexpr size_t kDisease = 13;          // 0 is healthy
constexpr uint32_t kInputs = 8 + 4 + 3;  // numbers, and one input for each kind of the two

struct Patient {
  std::array<float, kInputs> features{};
  uint32_t ill = 0;
};
using Hospital = std::vector<Patient>;

// --- 1. Data: one file a hospital; "?" is a value that was not taken. ----------------------------

Hospital ReadHospital(const std::string& path) {
  Hospital patients;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::vector<std::string> fields;
    std::istringstream in(line);
    for (std::string field; std::getline(in, field, ',');) fields.push_back(field);
    if (fields.size() <= kDisease) continue;
    if (std::find(fields.begin(), fields.begin() + kColumns, "?") != fields.begin() + kColumns) {
      continue;
    }
    Patient patient;
    size_t at = 0;
    for (size_t i = 0; i < kColumns; ++i) {
      const float value = std::strtof(fields[i].c_str(), nullptr);
      if (i == kChestPain || i == kCardiogram) continue;
      patient.features[at++] = value;
    }
    const auto kind = [&fields](size_t i) {
      return static_cast<size_t>(std::strtof(fields[i].c_str(), nullptr));
    };
    patient.features[8 + std::clamp<size_t>(kind(kChestPain), 1, 4) - 1] = 1;
    patient.features[12 + std::min<size_t>(kind(kCardiogram), 2)] = 1;
    patient.ill = std::strtof(fields[kDisease].c_str(), nullptr) > 0 ? 1 : 0;
    patients.push_back(patient);
  }
  return patients;
}

// --- 2. A split: each hospital keeps the last fifth of a shuffle for testing. --------------------

struct Split {
  chorus::Examples train;
  chorus::Examples test;
  std::vector<chorus::Rows> train_of;
  std::vector<chorus::Rows> test_of;
};

void Append(const Patient& patient, chorus::Examples& examples) {
  examples.features.insert(examples.features.end(), patient.features.begin(),
                           patient.features.end());
  examples.labels.push_back(patient.ill);
}

// Measured values minus their mean over their deviation, both of the patients to learn from. Their
// sums are all that the hospitals need to tell for it, which an analytics task adds up in secret.
void Standardise(Split& split) {
  for (size_t feature = 0; feature < kInputs; ++feature) {
    // Yes and no, and kinds, stay 0 and 1. Among the numbers left, 1 is sex, 4 sugar, 6 angina.
    if (feature >= 8 || feature == 1 || feature == 4 || feature == 6) continue;
    const auto count = static_cast<double>(split.train.count());
    double sum = 0;
    double squares = 0;
    for (size_t i = feature; i < split.train.features.size(); i += kInputs) {
      sum += split.train.features[i];
      squares += double{split.train.features[i]} * split.train.features[i];
    }
    const double mean = sum / count;
    const double deviation = std::sqrt(squares / count - mean * mean);
    for (chorus::Examples* const examples : {&split.train, &split.test}) {
      for (size_t i = feature; i < examples->features.size(); i += kInputs) {
        examples->features[i] = static_cast<float>((examples->features[i] - mean) / deviation);
      }
    }
  }
}

Split MakeSplit(std::vector<Hospital> hospitals, uint32_t seed) {
  std::mt19937 random(seed);
  Split split;
  split.train.inputs = kInputs;
  split.test.inputs = kInputs;
  for (Hospital& hospital : hospitals) {
    std::shuffle(hospital.begin(), hospital.end(), random);
    const auto all = static_cast<uint32_t>(hospital.size());
    const uint32_t held_out = all / 5;
    split.train_of.push_back({static_cast<uint32_t>(split.train.count()), all - held_out});
    split.test_of.push_back({static_cast<uint32_t>(split.test.count()), held_out});
    for (uint32_t i = 0; i < all; ++i) {
      Append(hospital[i], i < all - held_out ? split.train : split.test);
    }
  }
  Standardise(split);
  return split;
}

// --- 3. All patients in one place: gradient descent until nothing moves any more. ----------------

double Logit(const chorus::Weights& weights, const float* features) {
  return std::inner_product(features, features + kInputs, weights.begin(), double{weights.back()});
}

chorus::Weights TrainPooled(const chorus::Examples& examples) {
  chorus::Weights weights(kInputs + 1);
  for (int step = 0; step < 2'000; ++step) {
    std::array<double, kInputs + 1> gradient{};
    for (size_t i = 0; i < examples.count(); ++i) {
      const float* const features = examples.features.data() + i * kInputs;
      const double error = 1 / (1 + std::exp(-Logit(weights, features))) - examples.labels[i];
      for (size_t j = 0; j < kInputs; ++j) gradient[j] += error * features[j];
      gradient[kInputs] += error;
    }
    for (size_t j = 0; j <= kInputs; ++j) {
      weights[j] -= static_cast<float>(0.5 * gradient[j] / static_cast<double>(examples.count()));
    }
  }
  return weights;
}

double Accuracy(const chorus::Weights& weights, const chorus::Examples& examples,
                chorus::Rows rows) {
  uint32_t right = 0;
  for (uint32_t i = rows.begin; i < rows.begin + rows.count; ++i) {
    const bool ill = Logit(weights, examples.features.data() + size_t{i} * kInputs) > 0;
    right += ill == (examples.labels[i] == 1) ? 1U : 0U;
  }
  return static_cast<double>(right) / rows.count;
}

// --- 4. Nobody's patients leave: the task that all four agree to. --------------------------------

chorus::Simulation MakeSimulation(uint32_t rounds, uint32_t seed) {
  chorus::Simulation simulation;
  chorus::TaskSpec& task = simulation.task;
  task.name = "heart-disease";
  task.model.inputs = kInputs;
  task.model.layers = {{.units = 1}};
  task.model.loss = chorus::Loss::kBinaryCrossEntropy;
  task.training = {.batch_size = 512, .learning_rate = 0.5F, .held_back_percent = 0, .steps = 5};
  task.clip.update_l2_norm_max = 10;
  task.protocol = chorus::Protocol::kSecAgg;  // of their updates, only the sum is ever seen
  task.cohort = {.minimum = 4, .target = 4, .maximum = 4};
  // Four who know one another and stay on the line: none is assumed to be corrupt or to drop out.
  task.secagg.gamma_ppm = 0;
  task.secagg.delta_ppm = 0;
  task.rounds = rounds;
  simulation.seed = seed;
  simulation.test_every = rounds;
  return simulation;
}

struct Sums {
  double pooled = 0;
  double federated = 0;
  std::array<double, kHospitals.size()> each{};  // federated, at each hospital
};

bool TrySplit(const std::vector<Hospital>& hospitals, uint32_t seed, uint32_t rounds, Sums& sums) {
  const Split split = MakeSplit(hospitals, seed);
  const chorus::Population population = {.train = &split.train,
                                         .train_of = split.train_of,
                                         .test = &split.test,
                                         .test_of = split.test_of};
  const auto result = chorus::RunSimulation(MakeSimulation(rounds, seed), population, {});
  if (!result.ok()) {
    std::fprintf(stderr, "%s\n", result.status().message().c_str());
    return false;
  }
  const chorus::Rows all = {0, static_cast<uint32_t>(split.test.count())};
  const double pooled = Accuracy(TrainPooled(split.train), split.test, all);
  const double federated = Accuracy(result->weights, split.test, all);
  std::printf("split %u: pooled %.4f, federated %.4f; at", seed, pooled, federated);
  sums.pooled += pooled / kSplits;
  sums.federated += federated / kSplits;
  for (size_t i = 0; i < kHospitals.size(); ++i) {
    const double here = Accuracy(result->weights, split.test, split.test_of[i]);
    std::printf(" %s %.3f", kHospitals[i], here);
    sums.each[i] += here / kSplits;
  }
  std::printf("\n");
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fprintf(stderr, "usage: 7_hospitals FOLDER [ROUNDS]\n");
    return 2;
  }
  const uint32_t rounds =
      argc == 3 ? static_cast<uint32_t>(std::strtoul(argv[2], nullptr, 10)) : 100;
  std::vector<Hospital> hospitals;
  for (const char* name : kHospitals) {
    const std::string path = std::string(argv[1]) + "/processed." + name + ".data";
    hospitals.push_back(ReadHospital(path));
    std::printf("%-12s %4zu patients\n", name, hospitals.back().size());
    if (hospitals.back().empty()) {
      std::fprintf(stderr, "%s holds no patients; fetch the data set\n", path.c_str());
      return 1;
    }
  }
  Sums sums;
  for (uint32_t seed = 1; seed <= kSplits; ++seed) {
    if (!TrySplit(hospitals, seed, rounds, sums)) return 1;
  }
  std::printf("mean of %d splits: pooled %.4f, federated %.4f\n", kSplits, sums.pooled,
              sums.federated);
  return std::abs(sums.pooled - sums.federated) <= 0.01 ? 0 : 1;
}
