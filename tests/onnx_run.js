// Runs every case of a folder in onnxruntime-node and compares with what our network gave. Prints
// the largest difference of each model; ends with 1 when one is above 1e-5 of the value, or above
// 1e-5 where the value is below one.
'use strict';
const fs = require('fs');
const path = require('path');

const [folder, modules] = process.argv.slice(2);
const runtime = require(path.join(modules, 'onnxruntime-node'));
const kTolerance = 1e-5;

function tensorOf(info, values, rows) {
  return info.tokens
    ? new runtime.Tensor('int64', BigInt64Array.from(values, (v) => BigInt(v)), [rows, values.length / rows])
    : new runtime.Tensor('float32', Float32Array.from(values), [rows, values.length / rows]);
}

async function runWhole(session, info, rows, values) {
  const results = await session.run({[session.inputNames[0]]: tensorOf(info, values, rows)});
  return Array.from(results[session.outputNames[0]].data);
}

// Step by step, with the states of one step going into the next; to [rows × steps × outputs].
async function runCells(session, info) {
  const {rows, steps, width} = info;
  const states = {};
  for (const state of info.states) {
    states[state.in] = new runtime.Tensor('float32', new Float32Array(rows * state.units), [rows, state.units]);
  }
  const byStep = [];
  for (let t = 0; t < steps; ++t) {
    const values = [];
    for (let row = 0; row < rows; ++row) {
      for (let i = 0; i < width; ++i) values.push(info.inputs[(row * steps + t) * width + i]);
    }
    const results = await session.run({[session.inputNames[0]]: tensorOf(info, values, rows), ...states});
    byStep.push(Array.from(results[session.outputNames[0]].data));
    for (const state of info.states) states[state.in] = results[state.out];
  }
  const outputs = [];
  const each = byStep[0].length / rows;
  for (let row = 0; row < rows; ++row) {
    for (const step of byStep) outputs.push(...step.slice(row * each, (row + 1) * each));
  }
  return outputs;
}

function expectedOf(info) {
  if (info.probabilities === 'sigmoid') return info.outputs.map((x) => 1 / (1 + Math.exp(-x)));
  if (info.probabilities === 'no') return info.outputs;
  const expected = [];
  for (let at = 0; at < info.outputs.length; at += info.classes) {
    const powers = info.outputs.slice(at, at + info.classes).map(Math.exp);
    const sum = powers.reduce((a, b) => a + b);
    expected.push(...powers.map((p) => p / sum));
  }
  return expected;
}

async function main() {
  let worst = 0;
  const names = fs.readdirSync(folder).filter((f) => f.endsWith('.onnx')).map((f) => f.slice(0, -5));
  for (const name of names.sort()) {
    const info = JSON.parse(fs.readFileSync(path.join(folder, name + '.json')));
    const session = await runtime.InferenceSession.create(path.join(folder, name + '.onnx'), {logSeverityLevel: 3});
    const expected = expectedOf(info);
    let outputs;
    if (info.cell) {
      outputs = await runCells(session, info);
    } else {
      outputs = await runWhole(session, info, info.rows, info.inputs);
      // The batch is free: one row alone gives the same as among others.
      const alone = await runWhole(session, info, 1, info.inputs.slice(0, info.inputs.length / info.rows));
      outputs.push(...alone);
      expected.push(...expected.slice(0, expected.length / info.rows));
    }
    if (outputs.length !== expected.length) throw new Error(`${name}: ${outputs.length} outputs, not ${expected.length}`);
    let difference = 0;
    outputs.forEach((value, i) => {
      const error = Math.abs(value - expected[i]) / Math.max(1, Math.abs(expected[i]));
      difference = Number.isNaN(error) ? Infinity : Math.max(difference, error);
    });
    console.log(`onnx ${name.padEnd(28)} largest difference ${difference.toExponential(2)}`);
    worst = Math.max(worst, difference);
  }
  console.log(`${names.length} models in onnxruntime: largest difference ${worst.toExponential(2)}, bar <= ${kTolerance}: ` +
              (worst <= kTolerance ? 'holds' : 'MISSED'));
  process.exit(worst <= kTolerance && names.length > 0 ? 0 : 1);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
