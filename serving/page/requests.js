// Requests as fields, and their encodings: JSON, address, curl line, Python line.
// Seeds are BigInts, as they are below 2**63 and a JavaScript number is exact up to 2**53.

export const SEEDS = 2n ** 63n;

/** Parses a typed seed; null if it is invalid. */
export function readSeed(text) {
  const plain = String(text).trim();
  if (!/^\d{1,19}$/.test(plain)) return null;
  const seed = BigInt(plain);
  return seed < SEEDS ? seed : null;
}

export const seedRule = (text) =>
  `A seed must be an integer of at least 0 and below 2**63. Received: seed=${String(text).trim().slice(0, 40) || "nothing"}`;

/**
 * Returns the fields of POST /v1/generate.
 * view: {model, version, label, names, truncation, codes, constants, files}; version, label and codes may be null,
 * names are the classes', codes are {name, values}, constants the values of inputs by name.
 * what: {seeds} | {around, radius, seeds} | {interpolate, count} | {} for a model without seeds.
 */
export function fields(view, what, more = {}) {
  const found = { model: view.model };
  if (view.version !== null) found.version = view.version;
  Object.assign(found, what);
  // In an address a number is a text, which is a class name where classes have numbers as names.
  const isNamed = view.names.some((name) => /^\d+$/.test(name));
  if (view.label !== null) found.labels = [isNamed ? (view.names[view.label] ?? view.label) : view.label];
  if (view.truncation !== 1) found.truncation = view.truncation;
  const inputs = { ...view.constants, ...(view.codes && { [view.codes.name]: view.codes.values }) };
  if (Object.keys(inputs).length) found.inputs = inputs;
  return Object.assign(found, more);
}

/** Returns the class id of a sample: the chosen one, else the seed modulo the number of classes; null if unknown. */
export function classOf(model, view, seed) {
  if (!model.classes.count || seed === null) return null;
  const drawn = model.inputs.some(({ fill, meta }) => fill === "class" && meta.frequencies);
  if (drawn) return view.label; // by the server
  return view.label ?? Number(seed % BigInt(model.classes.count));
}

export function className(model, id) {
  return model.classes.names[id] ?? String(id);
}

/** Describes a sample, neighbor or frame, as in "sample of seed 7, class Coat". */
export function describe(model, view, what) {
  if (what.seed === null) return `result for ${[...view.files.values()].map(({ name }) => name).join(", ")}`;
  const center = what.around ?? what.interpolate?.[0] ?? what.seed;
  const id = classOf(model, view, center);
  const kind = id === null ? "" : `, class ${className(model, id)}`;
  if (what.around !== undefined)
    return `neighbor ${what.seed} of seed ${what.around} at radius ${what.radius}${kind}`;
  if (what.interpolate)
    return `frame ${what.frame + 1} of ${what.count} from seed ${what.interpolate.join(" to seed ")}${kind}`;
  return `sample of seed ${what.seed}${kind}`;
}

export const toJSON = (found) => literal(found, { null: "null", true: "true", false: "false" });

export function toAddress(base, found) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(found)) query.set(name, String(value));
  // Commas separate the seeds; a query may contain them unescaped.
  return `${new URL("v1/generate", base)}?${query.toString().replaceAll("%2C", ",")}`;
}

export function toCurl(base, found, file, token, files = new Map()) {
  const parts = [...files].map(([name, given]) => ` -F ${quoted(`${name}=${part(given)}`)}`);
  const header = token ? ' -H "Authorization: Bearer $TOKEN"' : "";
  if (found.inputs && files.size) {
    const { inputs, ...plain } = found;
    parts.push(` --form-string ${quoted(`inputs=${toJSON(inputs)}`)}`);
    found = plain;
  } else if (found.inputs) {
    // An address has no place for arrays.
    const address = new URL("v1/generate", base).href.replaceAll("'", "%27");
    return `curl -fsS${header} -H 'Content-Type: application/json' -d ${quoted(toJSON(found))} '${address}' -o ${file}`;
  }
  // The quote is escaped, so that a model's name cannot end the string in the shell.
  return `curl -fsS${header}${parts.join("")} '${toAddress(base, found).replaceAll("'", "%27")}' -o ${file}`;
}

/** Returns a file of a form: its name, or the text that a user has typed instead of choosing one. */
function part({ name, typed }) {
  const escaped = (text) => text.replace(/["\\]/g, "\\$&");
  return typed === undefined ? `@"${escaped(name)}"` : `"${escaped(typed)}";type=text/plain`;
}

/** Quotes a text for the shell. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Returns a line that generates samples as arrays, or as files if `asFiles` is true. */
export function toPython(base, found, token, files = new Map(), asFiles = false) {
  const { format, columns, inputs, ...rest } = found;
  const given = Object.entries(inputs ?? {}).map(([name, values]) => [name, pythonic([values])]);
  for (const [name, file] of files) given.push([name, file.typed === undefined ? pythonic(file.name) : `${pythonic(file.typed)}.encode()`]);
  if (asFiles) rest.format = format;
  const words = Object.entries(rest).map(([name, value]) => `${name}=${pythonic(value)}`);
  if (given.length) words.push(`inputs={${given.map(([name, text]) => `${JSON.stringify(name)}:${text}`).join(",")}}`);
  const key = token ? ', token="…"' : "";
  const server = pythonic(new URL(".", base).href.replace(/\/$/, ""));
  return `import serving; samples = serving.Client(${server}${key}).${asFiles ? "files" : "generate"}(${words.join(", ")})`;
}

const pythonic = (value) => literal(value, { null: "None", true: "True", false: "False" }, ", ");

function literal(value, words, comma = ",") {
  if (typeof value === "bigint") return value.toString();
  if (Array.isArray(value)) return `[${value.map((x) => literal(x, words, comma)).join(comma)}]`;
  if (value === null || typeof value === "boolean") return words[String(value)];
  if (typeof value !== "object") return JSON.stringify(value);
  const pairs = Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}:${literal(v, words)}`);
  return `{${pairs.join(",")}}`;
}

/** Returns the address of a translation. found: {model, version, seed, format}; version may be null, seed absent. */
export function translateAddress(base, found) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(found)) if (value !== null) query.set(name, String(value));
  return `${new URL("v1/translate", base)}?${query}`;
}

export function translateCurl(base, found, file, output, token) {
  const header = token ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const address = translateAddress(base, found).replaceAll("'", "%27");
  return `curl -fsS${header} -F ${quoted(`picture=@"${file.replace(/["\\]/g, "\\$&")}"`)} '${address}' -o ${output}`;
}

/** Returns the address of a path that takes a file. found: the fields of its query; those that are null are left out. */
export function uploadAddress(base, path, found) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(found)) if (value !== null) query.set(name, String(value));
  return `${new URL(`v1/${path}`, base)}?${query}`;
}

export function vocodeCurl(base, { model, version }, file, output, token) {
  const header = token ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const address = uploadAddress(base, "vocode", { model, version, resample: true }).replaceAll("'", "%27");
  return `curl -fsS${header} -F ${quoted(`sound=@"${file.replace(/["\\]/g, "\\$&")}"`)} '${address}' -o ${output}`;
}

export function vocodePython(base, { model, version }, file, output, token) {
  const key = token ? ', token="…"' : "";
  const server = pythonic(new URL(".", base).href.replace(/\/$/, ""));
  const words = [pythonic(file), `model=${pythonic(model)}`, `version=${version}`, "resample=True", `to=${pythonic(output)}`];
  return `import serving; serving.Client(${server}${key}).vocode(${words.join(", ")})`;
}

/** Returns the address of a classification. found: {model, version}; version may be null. */
export function classifyAddress(base, found) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(found)) if (value !== null) query.set(name, String(value));
  return `${new URL("v1/classify", base)}?${query}`;
}

export function classifyCurl(base, found, file, token) {
  const header = token ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const address = classifyAddress(base, found).replaceAll("'", "%27");
  return `curl -fsS${header} -F ${quoted(`picture=@"${file.replace(/["\\]/g, "\\$&")}"`)} '${address}'`;
}

export function classifyPython(base, { model, version }, file, token) {
  const key = token ? ', token="…"' : "";
  const server = pythonic(new URL(".", base).href.replace(/\/$/, ""));
  const words = [pythonic(file), `model=${pythonic(model)}`, `version=${version}`];
  return `import serving; print(serving.Client(${server}${key}).classify(${words.join(", ")}).top(3))`;
}

export function translatePython(base, { model, version, seed }, file, output, token) {
  const key = token ? ', token="…"' : "";
  const server = pythonic(new URL(".", base).href.replace(/\/$/, ""));
  const words = [pythonic(file), `model=${pythonic(model)}`, `version=${version}`, `to=${pythonic(output)}`];
  if (seed !== undefined) words.push(`seed=${seed}`);
  return `import serving; serving.Client(${server}${key}).translate(${words.join(", ")})`;
}

/** found: {model, version, observation}, of a reward {model, version, observation, action}. */
export function actCurl(base, { model, version, observation, action }, token) {
  const header = token ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const isReward = action !== undefined;
  const fields = isReward ? { model, version, inputs: { observation, action }, format: "json" } : { model, version, observation };
  const address = new URL(isReward ? "v1/generate" : "v1/act", base).href.replaceAll("'", "%27");
  return `curl -fsS${header} -H 'Content-Type: application/json' -d ${quoted(toJSON(fields))} '${address}'`;
}

export function actPython(base, { model, version, observation, action }, token) {
  const key = token ? ', token="…"' : "";
  const server = pythonic(new URL(".", base).href.replace(/\/$/, ""));
  const named = `model=${pythonic(model)}, version=${version}`;
  const given = action === undefined ? `act(${pythonic(observation)}, ` : `generate(observation=${pythonic([observation])}, action=${pythonic([action])}, `;
  return `import serving; print(serving.Client(${server}${key}).${given}${named}))`;
}
