// Local training: a dense network, softmax with cross-entropy, plain minibatch SGD in binary32.
import { shapesOf, type Activation, type Task } from "./task.js";

export interface Examples {
  inputs: number;
  features: Float32Array; // [count, inputs]
  labels: Uint8Array; // [count]
}

export interface Evaluation {
  evaluated: number;
  correct: number;
  loss: number; // mean
}

// From 0 up to but without 1; an argument, so that a test can repeat a training.
export type Uniform = () => number;

const apply: Record<Activation, (x: number) => number> = {
  none: (x) => x,
  relu: (x) => Math.max(0, x),
  tanh: Math.tanh,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
};
// The derivative by way of the output.
const slope: Record<Activation, (y: number) => number> = {
  none: () => 1,
  relu: (y) => (y > 0 ? 1 : 0),
  tanh: (y) => 1 - y * y,
  sigmoid: (y) => y * (1 - y),
};

export class Network {
  private readonly shapes: [number, number][];
  private readonly outputs: Float32Array[];
  private readonly deltas: Float32Array[];

  constructor(
    private readonly task: Task,
    readonly weights: Float32Array,
  ) {
    this.shapes = shapesOf(task.inputs, task.layers);
    this.outputs = this.shapes.map(([, units]) => new Float32Array(units));
    this.deltas = this.shapes.map(([, units]) => new Float32Array(units));
  }

  // Probabilities of the classes.
  predict(features: Float32Array): Float32Array {
    let input = features;
    let at = 0;
    this.shapes.forEach(([fan, units], l) => {
      const output = this.outputs[l];
      const activate = apply[this.task.layers[l].activation];
      const bias = at + fan * units;
      for (let u = 0; u < units; ++u) {
        let sum = this.weights[bias + u];
        const row = at + u * fan;
        for (let i = 0; i < fan; ++i) sum += this.weights[row + i] * input[i];
        output[u] = activate(sum);
      }
      input = output;
      at = bias + units;
    });
    return softmax(input);
  }

  // Adds the gradient of one example's loss to `gradient`.
  addGradient(features: Float32Array, label: number, gradient: Float32Array): void {
    const probabilities = this.predict(features);
    const last = this.shapes.length - 1;
    const lastSlope = slope[this.task.layers[last].activation];
    probabilities.forEach((p, u) => {
      this.deltas[last][u] = (p - (u === label ? 1 : 0)) * lastSlope(this.outputs[last][u]);
    });
    let end = this.weights.length;
    for (let l = last; l >= 0; --l) {
      const [fan, units] = this.shapes[l];
      const begin = end - units - fan * units;
      const input = l === 0 ? features : this.outputs[l - 1];
      const below = l === 0 ? undefined : this.deltas[l - 1].fill(0);
      for (let u = 0; u < units; ++u) {
        const delta = this.deltas[l][u];
        const row = begin + u * fan;
        gradient[end - units + u] += delta;
        for (let i = 0; i < fan; ++i) gradient[row + i] += delta * input[i];
        if (below) for (let i = 0; i < fan; ++i) below[i] += delta * this.weights[row + i];
      }
      if (below) {
        const slopeBelow = slope[this.task.layers[l - 1].activation];
        below.forEach((value, i) => (below[i] = value * slopeBelow(input[i])));
      }
      end = begin;
    }
  }

  evaluate(examples: Examples, rows: number[]): Evaluation {
    let [correct, loss] = [0, 0];
    for (const row of rows) {
      const probabilities = this.predict(rowOf(examples, row));
      const best = probabilities.indexOf(Math.max(...probabilities));
      if (best === examples.labels[row]) correct += 1;
      loss -= Math.log(Math.max(probabilities[examples.labels[row]], 1e-30));
    }
    return { evaluated: rows.length, correct, loss: rows.length === 0 ? 0 : loss / rows.length };
  }

  // `training.epochs` over the rows, or `training.steps` minibatches if that is not 0.
  train(examples: Examples, rows: number[], uniform: Uniform): void {
    const { epochs, steps, batchSize, learningRate } = this.task.training;
    const order = [...rows];
    const gradient = new Float32Array(this.weights.length);
    let left = steps > 0 ? steps : epochs * Math.ceil(rows.length / batchSize);
    while (left > 0) {
      shuffle(order, uniform);
      for (let begin = 0; begin < order.length && left > 0; begin += batchSize, --left) {
        const batch = order.slice(begin, begin + batchSize);
        gradient.fill(0);
        for (const row of batch) this.addGradient(rowOf(examples, row), examples.labels[row], gradient);
        const rate = learningRate / batch.length;
        for (let i = 0; i < gradient.length; ++i) this.weights[i] -= rate * gradient[i];
      }
    }
  }
}

function rowOf(examples: Examples, row: number): Float32Array {
  return examples.features.subarray(row * examples.inputs, (row + 1) * examples.inputs);
}

function softmax(logits: Float32Array): Float32Array {
  const peak = Math.max(...logits);
  const exponents = logits.map((x) => Math.exp(x - peak));
  const total = exponents.reduce((sum, x) => sum + x, 0);
  return exponents.map((x) => x / total);
}

export function shuffle(order: number[], uniform: Uniform): void {
  for (let i = order.length - 1; i > 0; --i) {
    const j = Math.floor(uniform() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
}
