// One client's vector (docs/wire_format.md, "The contribution"): the clipped update in fixed point,
// and four numbers that count.
import type { Evaluation, Uniform } from "./model.js";
import { setSigned, zeros, type Words } from "./ring.js";
import type { Task } from "./task.js";

const LOSS_MAX = 16;

// Cuts the update to the L2 norm `clip`, in place.
export function clipToNorm(update: Float32Array, clip: number): void {
  const norm = Math.sqrt(update.reduce((sum, x) => sum + x * x, 0));
  if (!Number.isFinite(norm)) throw new Error("training diverged");
  if (norm <= clip) return;
  const factor = (clip / norm) * (1 - 2 ** -20); // room for the rounding to binary32
  for (let i = 0; i < update.length; ++i) update[i] *= factor;
}

// To one of the two neighbouring integers, so that the expectation is the value.
function roundRandomly(value: number, uniform: Uniform): number {
  const below = Math.floor(value);
  return below + (uniform() < value - below ? 1 : 0);
}

// `update` [parameters] is clipped already; `examples` were trained on.
export function encodeContribution(
  task: Task,
  wordBytes: number,
  update: Float32Array,
  examples: number,
  evaluation: Evaluation,
  uniform: Uniform,
): Words {
  const { bound, examplesMax } = task.encoding;
  const weight = Math.min(examples, examplesMax);
  const evaluated = Math.min(evaluation.evaluated, examplesMax);
  const words = zeros(update.length + 4, wordBytes);
  const scale = (weight / examplesMax) * (bound / task.clip);
  update.forEach((x, i) => {
    const value = roundRandomly(x * scale, uniform);
    setSigned(words, i, Math.max(-bound, Math.min(bound, value)));
  });
  const accuracy = evaluation.evaluated === 0 ? 0 : evaluation.correct / evaluation.evaluated;
  const loss = (Math.min(evaluation.loss, LOSS_MAX) / LOSS_MAX) * (evaluated / examplesMax) * bound;
  setSigned(words, update.length, weight);
  setSigned(words, update.length + 1, evaluated);
  setSigned(words, update.length + 2, Math.round(accuracy * evaluated));
  setSigned(words, update.length + 3, roundRandomly(loss, uniform));
  return words;
}
