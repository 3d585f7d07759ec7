// Facts about a model, from its entry in /v1/models.

const SEEDED = ["normal", "uniform", "class"];

/** Returns the inputs that the user gives as files. */
export const givenOf = (model) => model.inputs.filter(({ fill }) => fill === "given");

/** Checks that seeds choose the samples; else the given inputs alone do. */
export const isSeeded = (model) => model.inputs.some(({ fill }) => SEEDED.includes(fill));

/** Checks that a model translates pictures of any size by /v1/translate. */
export const isTranslator = (model) => Boolean(model.translation);

/** Checks that a model is shown as a wall of its samples, not with a chosen picture. */
export const isGallery = (model) => !isTranslator(model) && !isClassifier(model) && !isActor(model);

/** Checks that a model classifies pictures by /v1/classify. */
export const isClassifier = (model) => Boolean(model.classifier);

/** Checks that a model turns sounds and spectrograms into sound by /v1/vocode. */
export const isVocoder = (model) => Boolean(model.vocoder);

/** Checks that a model answers an observation with an action by /v1/act, or an observation and an action with a reward. */
export const isActor = (model) => Boolean(model.policy) || (model.role === "reward" && ["observation", "action"].every((each) => model.inputs.some(({ name }) => name === each)));

/** Checks that samples have neighbors, and walks between them. */
export const canWalk = (model) => model.inputs.some(({ fill }) => fill === "normal");

/** Checks that a truncation has an effect; the server refuses one that has none. */
export const takesTruncation = (model) =>
  model.inputs.some(({ name, fill }) => fill === "normal" || name === "truncation");

/**
 * Returns the input of codes as {name, categorical, continuous}, or null: first the number of categories of each
 * categorical code, then the number of continuous codes.
 */
export function codesOf(model) {
  const port = model.inputs.find(({ meta }) => meta.categorical || meta.continuous);
  return port ? { name: port.name, categorical: port.meta.categorical ?? [], continuous: port.meta.continuous ?? 0 } : null;
}

/**
 * Returns the constant inputs that a user may set otherwise: not the codes, and not the truncation. A prefix has tokens
 * of the samples, whatever its kind.
 */
export const constantsOf = (model) =>
  model.inputs
    .filter(({ name, fill, meta }) => fill === "constant" && name !== "truncation" && !meta.categorical && !meta.continuous)
    .map((input) => (input.name === "prefix" ? { ...input, kind: model.kind } : input))
    .map((input) => ({ ...portOf(input), dtype: input.dtype, value: input.value, meta: { vocabulary: vocabularyOf(model, input), ...input.meta } }));

/** Returns the vocabulary of an input of tokens, which is that of the samples where it names none. */
const vocabularyOf = (model, { kind }) => (kind === model.kind ? metaOf(model).vocabulary : undefined);

/** Checks that a dimension may have any size. */
export const isDynamic = ({ shape }) => shape.some((size) => typeof size !== "number");

/** Returns a shape as text. */
export const sizes = (shape) => shape.map((size) => (typeof size === "number" ? size : "any")).join(" × ");

/** Returns an input or output in the form that a model has for its samples. */
export function portOf({ name, kind, shape, meta }) {
  return { name, kind, meta, shape: shape.slice(1), value_range: meta.value_range ?? null };
}

/** Returns the outputs beside the samples. */
export const othersOf = (model) => model.outputs.slice(1).map(portOf);

/** Returns the properties of the samples, such as `sample_rate`. */
export const metaOf = (model) => model.meta ?? model.outputs[0].meta;

/** Returns the file formats of the samples' kind; other formats are those of every kind. */
export const filesOf = (model) => model.formats.filter((name) => !["npy", "npz", "json", "grid"].includes(name));

/** Returns the format in which a single sample is downloaded. */
export const fileFormat = (model) => model.formats[0];
