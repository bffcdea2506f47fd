// A task as this client understands it: dense networks for classes, FedAvg's plain local SGD, SecAgg
// over a complete graph or the plain protocol. Whatever else a task asks for is refused.
import { Writer } from "./bytes.js";
import { RefusedError } from "./params.js";
import { messageType } from "./proto.js";

export type Activation = "none" | "relu" | "tanh" | "sigmoid";
const ACTIVATIONS: Activation[] = ["none", "relu", "tanh", "sigmoid"];

export interface Layer {
  units: number;
  activation: Activation;
}

export interface Task {
  bytes: Buffer; // as signed
  name: string;
  protocol: "plain" | "secagg";
  inputs: number;
  layers: Layer[];
  parameters: number;
  model: Buffer; // canonical bytes
  layout: Buffer; // likewise
  training: { epochs: number; steps: number; batchSize: number; learningRate: number; heldBackPercent: number };
  clip: number;
  encoding: { bound: number; examplesMax: number };
  cohort: { minimum: number; maximum: number };
  secagg: { gammaPpm: number; deltaPpm: number; honestMin: number };
}

// Fields of chorus.v1.Task. Those that came after the first version are left out of the signed bytes
// at their defaults, which for all that are looked at here is nothing: 0, false, the first value.
interface Fields {
  name: string;
  model: {
    inputs: number;
    layers: { units: number; activation: number; kind: number; personal: boolean }[];
    loss: number;
    shape: number[];
  };
  training: Record<string, number | boolean | null>;
  clip: { updateL2NormMax: number };
  encoding: { bound: number; examplesMax: number };
  protocol: number;
  secagg: { gammaPpm: number; deltaPpm: number; honestMin: number; graph: number | null };
  cohort: { minimum: number; maximum: number };
  queries: unknown[];
}

function require(condition: boolean, what: string): void {
  if (!condition) throw new RefusedError(`this client cannot take part: ${what}`);
}

export function decodeTask(bytes: Buffer): Task {
  const type = messageType("Task");
  const fields = type.toObject(type.decode(bytes), {
    defaults: true,
    arrays: true,
    objects: true,
    longs: Number,
  }) as Fields;
  const { model, training, secagg } = fields;
  require(fields.queries.length === 0, "the task asks about examples");
  require(fields.protocol === 1 || fields.protocol === 2, "it knows the plain protocol and SecAgg");
  const protocol = fields.protocol === 1 ? "plain" : "secagg";
  require(protocol === "plain" || !secagg.graph, "it knows the complete graph only");
  require(model.loss === 0 && model.shape.length === 0, "it trains classes with cross-entropy");
  for (const layer of model.layers) {
    require(layer.kind === 0 && !layer.personal, "it knows dense layers that are shared");
    require(layer.activation < ACTIVATIONS.length, "it does not know the activation");
  }
  const beyondSgd = [
    "optimizer", "schedule", "proximal", "gradientL2NormMax", "scaffold", "fairnessQ",
  ];
  const plainSgd = beyondSgd.every((name) => !training[name]);
  require(plainSgd, "it trains by plain SGD at a constant rate");
  const layers = model.layers.map(({ units, activation }) => ({
    units,
    activation: ACTIVATIONS[activation],
  }));
  return {
    bytes,
    name: fields.name,
    protocol,
    inputs: model.inputs,
    layers,
    parameters: shapesOf(model.inputs, layers).reduce((sum, [f, u]) => sum + f * u + u, 0),
    model: canonicalModel(model),
    layout: canonicalLayout(model.inputs, layers),
    training: {
      epochs: Number(training.epochs),
      steps: Number(training.steps),
      batchSize: Number(training.batchSize),
      learningRate: Number(training.learningRate),
      heldBackPercent: Number(training.heldBackPercent),
    },
    clip: fields.clip.updateL2NormMax,
    encoding: fields.encoding,
    cohort: fields.cohort,
    secagg,
  };
}

// [inputs, units] of each layer.
export function shapesOf(inputs: number, layers: Layer[]): [number, number][] {
  return layers.map((layer, i) => [i === 0 ? inputs : layers[i - 1].units, layer.units]);
}

function canonicalModel(model: Fields["model"]): Buffer {
  const writer = new Writer().raw("CHORUS1/model-spec").u32(model.inputs).u8(model.loss);
  writer.u32(model.layers.length);
  for (const layer of model.layers) writer.u32(layer.units).u8(layer.activation);
  return writer.take();
}

// Element type 1, binary32: of each dense layer the matrix [units, inputs], then the bias [units].
function canonicalLayout(inputs: number, layers: Layer[]): Buffer {
  const writer = new Writer().raw("CHORUS1/layout").u8(1).u32(2 * layers.length);
  for (const [fan, units] of shapesOf(inputs, layers)) {
    writer.u8(2).u32(units).u32(fan).u8(1).u32(units);
  }
  return writer.take();
}
