// Requests to the server: errors, token, retries while the server is unavailable.
import { readNpy, split } from "./npy.js";
import { toAddress, toJSON } from "./requests.js";

const TOKEN = "keras-gan-token";
const LONGEST_ANSWER = 60_000; // ms; after it the server counts as unreachable
const LONGEST_PAUSE = 15_000;
const MOST_TIMEOUTS = 2; // attempts at a request that exceeds the server's own timeout
const WORDS = { 404: "The server does not know this path.", 413: "The request is too large." };

export class ServerError extends Error {
  constructor(status, line) {
    super(line);
    this.status = status;
  }
}

/**
 * Client of the server.
 *
 * Events: "away" {detail: {seconds, line}} before every pause. After it, one "back" when a response
 * is accepted, or one "quiet" when no request waits for the server.
 * askToken(line, wrong) returns a promise of the token that the user types.
 */
export class Api extends EventTarget {
  #base;
  #askToken;
  #away = null; // a promise while the server is being probed
  #asked = null; // a promise while the token dialog is open
  #endPause = () => {};
  #isAway = false; // true after "away", until "back" or "quiet"
  #waiting = 0; // requests without a response
  #token = null;

  constructor(base, askToken) {
    super();
    this.#base = base;
    this.#askToken = askToken;
    try {
      this.#token = sessionStorage.getItem(TOKEN);
    } catch {
      // storage is not allowed
    }
    addEventListener("online", () => this.tryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.tryNow());
  }

  get hasToken() {
    return this.#token !== null;
  }

  /** Ends the pause before the next probe of the server. */
  tryNow() {
    this.#endPause();
  }

  async models(signal) {
    return (await this.#request("v1/models", { signal })).models;
  }

  /** Returns samples as [{png}, {values, outputs}, {array} or {text}]; `files` has those of given inputs by name. */
  async samples(found, signal, files) {
    const answer = await this.#post(found, signal, files);
    if (!(answer instanceof Blob)) return answer.samples;
    if (found.format === "npy") return split(readNpy(await answer.arrayBuffer())).map((array) => ({ array }));
    if (found.format === "jsonl") return (await answer.text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
    return [{ png: await base64(answer) }]; // a single picture
  }

  /** Returns a file: a picture grid, or a sample in a format of its kind. */
  async file(found, signal, files) {
    const answer = await this.#post(found, signal, files);
    return answer instanceof Blob ? answer : new Blob([JSON.stringify(answer)], { type: "application/json" });
  }

  /** Returns the file that the server makes of one, such as a translated picture, and what it did with the latter. */
  upload(address, file, signal) {
    const headers = { "Content-Type": file.type || "application/octet-stream" };
    const pick = (blob, response) => ({ blob, notes: response.headers.get("X-Notes") ?? "" });
    return this.#request(address, { method: "POST", headers, body: file, signal }, pick);
  }

  translate(address, file, signal) {
    return this.upload(address, file, signal);
  }

  /** Returns the answer of a classification. */
  classify(address, file, signal) {
    const headers = { "Content-Type": file.type || "application/octet-stream" };
    return this.#request(address, { method: "POST", headers, body: file, signal });
  }

  /** Returns the answer of a policy: its action and the other outputs by name. */
  act(found, signal) {
    const headers = { "Content-Type": "application/json" };
    return this.#request("v1/act", { method: "POST", headers, body: toJSON(found), signal });
  }

  /** Returns an example of a model as a Blob. */
  example(model, number, signal) {
    return this.#request(`v1/models/${encodeURIComponent(model)}/examples/${number}.png`, { signal });
  }

  #post(found, signal, files) {
    if (files?.size) {
      const body = new FormData();
      for (const [name, file] of files) body.append(name, file);
      const { inputs, ...plain } = found; // an address has no place for arrays
      if (inputs) body.append("inputs", toJSON(inputs));
      return this.#request(toAddress(this.#base, plain), { method: "POST", body, signal });
    }
    const headers = { "Content-Type": "application/json" };
    return this.#request("v1/generate", { method: "POST", headers, body: toJSON(found), signal });
  }

  async #request(path, options, pick = (body) => body) {
    this.#waiting++;
    try {
      return await this.#try(path, options, pick);
    } finally {
      if (--this.#waiting === 0 && !this.#away) this.#end("quiet");
    }
  }

  async #try(path, { signal, headers = {}, ...options }, pick) {
    let timeouts = 0;
    for (let attempt = 0; ; attempt++) {
      await untilAborted(this.#away, signal);
      const token = this.#token;
      const authorization = token === null ? {} : { Authorization: `Bearer ${token}` };
      const limit = AbortSignal.timeout(LONGEST_ANSWER);
      let response, body;
      try {
        response = await fetch(new URL(path, this.#base), {
          ...options,
          headers: { ...headers, ...authorization },
          signal: signal ? AbortSignal.any([signal, limit]) : limit,
        });
        body = await read(response);
      } catch {
        signal?.throwIfAborted();
        this.#look(attempt);
        continue;
      }
      const readable = body instanceof Blob || Object.keys(body).length > 0;
      if (response.ok && readable) {
        this.#end("back");
        return pick(body, response);
      }
      const line = body.error ?? WORDS[response.status] ?? `The server's response is not readable (${response.status}).`;
      if (response.status === 401) await untilAborted(this.#newToken(token, line), signal);
      else if (readable && (response.status === 503 || (response.status === 504 && ++timeouts < MOST_TIMEOUTS)))
        await this.#pause(response, attempt, line, signal);
      else if (!readable && response.status >= 502) this.#look(attempt); // the response of a proxy
      else {
        this.#end("back"); // an error response shows that the server is back
        throw new ServerError(response.status, line);
      }
    }
  }

  /** Waits before a retry, at least the Retry-After of a server that is full, loading or draining. */
  async #pause(response, attempt, line, signal) {
    const asked = Number(response.headers.get("Retry-After"));
    const least = Math.min(asked > 0 ? 1000 * asked : 250 * 2 ** attempt, LONGEST_PAUSE);
    const wait = least * (1 + Math.random() / 2); // random, so that refused clients do not return together
    // Short overload is not reported.
    if (attempt > 1) this.#reportAway(wait, line);
    await untilAborted(new Promise((done) => setTimeout(done, wait)), signal);
  }

  /** Starts to probe the server, unless a probe runs. */
  #look(attempt) {
    this.#away ??= this.#probe(attempt).finally(() => {
      this.#away = null;
      if (this.#waiting === 0) this.#end("back");
    });
  }

  /** Probes until the server is ready. It may be ready and still fail a request: pauses grow. */
  async #probe(attempt) {
    for (let round = attempt; ; round++) {
      const pause = Math.min(500 * 2 ** round, LONGEST_PAUSE);
      this.#reportAway(pause, "The server does not answer.");
      await new Promise((done) => {
        this.#endPause = done;
        setTimeout(done, pause);
      });
      try {
        const address = new URL("readyz", this.#base);
        const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(5000) });
        if (answer.ok || answer.status === 401 || answer.status === 404) return;
      } catch {
        // still unreachable
      }
    }
  }

  /** Opens one dialog for all refused requests; none if the token has changed meanwhile. */
  async #newToken(refused, line) {
    if (refused !== this.#token) return;
    this.#asked ??= this.#askToken(line, refused !== null).finally(() => (this.#asked = null));
    this.#token = await this.#asked;
    try {
      sessionStorage.setItem(TOKEN, this.#token);
    } catch {
      // the token is kept until the page is left
    }
  }

  #reportAway(wait, line) {
    this.#isAway = true;
    this.#dispatch("away", { seconds: Math.ceil(wait / 1000), line });
  }

  #end(type) {
    if (!this.#isAway) return;
    this.#isAway = false;
    this.#dispatch(type);
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Reads a response: pictures and arrays as a Blob, JSON as an object, {} for anything else. */
async function read(response) {
  const type = response.headers.get("Content-Type") ?? "";
  if (response.ok && !/\bjson\b|html/.test(type)) return response.blob();
  const text = await response.text();
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

function untilAborted(promise, signal) {
  if (!signal) return promise;
  signal.throwIfAborted();
  if (!promise) return promise;
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

async function base64(blob) {
  const address = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
  return address.slice(address.indexOf(",") + 1);
}
