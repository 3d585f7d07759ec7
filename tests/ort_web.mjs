// Runs a bundle's model.onnx in onnxruntime-web; prints the samples as JSON.
//   node ort_web.mjs NODE_MODULES MODEL.ONNX FEEDS.JSON
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, model, feeds] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${modules}/x.js`));
const ort = require("onnxruntime-web");
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(readFileSync(model), {
  executionProviders: ["wasm"],
});
const { latents, labels } = JSON.parse(readFileSync(feeds));
const given = {
  latents: new ort.Tensor("float32", Float32Array.from(latents.flat()), [
    latents.length,
    latents[0].length,
  ]),
};
if (labels) {
  given.labels = new ort.Tensor("int64", BigInt64Array.from(labels.map(BigInt)), [labels.length]);
}
const { samples } = await session.run(given);
console.log(JSON.stringify({ dims: samples.dims, data: Array.from(samples.data) }));
