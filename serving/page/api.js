// Requests to the server: its errors, its token, and waiting while it is away.
import { toJSON } from "./requests.js";

const TOKEN = "keras-gan-token";
const LONGEST_ANSWER = 60_000; // ms; beyond it the server is taken for gone
const LONGEST_PAUSE = 15_000;
const MOST_LATE = 2; // tries at what takes the server longer than it allows itself
const WORDS = { 404: "The server does not know this path.", 413: "The request is too large." };

export class ServerError extends Error {
  constructor(status, line) {
    super(line);
    this.status = status;
  }
}

/**
 * Events: "away" {detail: {seconds, line}} before every pause; after it, once, "back" when an answer
 * is accepted, or "quiet" when nobody waits for one any more.
 * askToken(line, wrong) gives a promise of what the user typed.
 */
export class Api extends EventTarget {
  #base;
  #askToken;
  #away = null; // a promise while the server is looked for
  #asked = null; // a promise while the user is asked for a token
  #knock = () => {};
  #told = false; // whether "away" was the last word
  #waiting = 0; // requests that wait for the server
  #token = null;

  constructor(base, askToken) {
    super();
    this.#base = base;
    this.#askToken = askToken;
    try {
      this.#token = sessionStorage.getItem(TOKEN);
    } catch {
      // storage is forbidden
    }
    addEventListener("online", () => this.tryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.tryNow());
  }

  get hasToken() {
    return this.#token !== null;
  }

  /** Ends the pause before the next look for the server. */
  tryNow() {
    this.#knock();
  }

  async models(signal) {
    return (await this.#request("v1/models", { signal })).models;
  }

  /** Samples as [{png} or {values}], in the order they were asked for. */
  async samples(found, signal) {
    const answer = await this.#post(found, signal);
    if (answer instanceof Blob) return [{ png: await base64(answer) }]; // a single picture
    return answer.samples;
  }

  /** A file: a grid, or a .npy. */
  async file(found, signal) {
    return this.#post(found, signal);
  }

  #post(found, signal) {
    const headers = { "Content-Type": "application/json" };
    return this.#request("v1/generate", { method: "POST", headers, body: toJSON(found), signal });
  }

  async #request(path, options) {
    this.#waiting++;
    try {
      return await this.#try(path, options);
    } finally {
      if (--this.#waiting === 0 && !this.#away) this.#end("quiet");
    }
  }

  async #try(path, { signal, headers = {}, ...options }) {
    let late = 0;
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
        return body;
      }
      const line = body.error ?? WORDS[response.status] ?? `The server's answer was not understood (${response.status}).`;
      if (response.status === 401) await untilAborted(this.#newToken(token, line), signal);
      else if (readable && (response.status === 503 || (response.status === 504 && ++late < MOST_LATE)))
        await this.#pause(response, attempt, line, signal);
      else if (!readable && response.status >= 502) this.#look(attempt); // a proxy's word
      else {
        this.#end("back"); // a refusal is an answer
        throw new ServerError(response.status, line);
      }
    }
  }

  /** The server is full, late, loading or draining: it says itself when to come again. */
  async #pause(response, attempt, line, signal) {
    const told = Number(response.headers.get("Retry-After"));
    const least = Math.min(told > 0 ? 1000 * told : 250 * 2 ** attempt, LONGEST_PAUSE);
    const wait = least * (1 + Math.random() / 2); // or all who were refused come again at once
    // A moment's fullness is nobody's concern.
    if (attempt > 1) this.#tellAway(wait, line);
    await untilAborted(new Promise((done) => setTimeout(done, wait)), signal);
  }

  /** Starts to look for the server, unless that is under way. */
  #look(attempt) {
    this.#away ??= this.#probe(attempt).finally(() => {
      this.#away = null;
      if (this.#waiting === 0) this.#end("back");
    });
  }

  /** A server may be ready and yet fail a request: each attempt of it waits longer. */
  async #probe(attempt) {
    for (let turn = attempt; ; turn++) {
      const pause = Math.min(500 * 2 ** turn, LONGEST_PAUSE);
      this.#tellAway(pause, "The server does not answer.");
      await new Promise((done) => {
        this.#knock = done;
        setTimeout(done, pause);
      });
      try {
        const address = new URL("readyz", this.#base);
        const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(5000) });
        if (answer.ok || answer.status === 401 || answer.status === 404) return;
      } catch {
        // still away
      }
    }
  }

  /** One question for all the requests that were refused; none if the token has changed since. */
  async #newToken(refused, line) {
    if (refused !== this.#token) return;
    this.#asked ??= this.#askToken(line, refused !== null).finally(() => (this.#asked = null));
    this.#token = await this.#asked;
    try {
      sessionStorage.setItem(TOKEN, this.#token);
    } catch {
      // it holds until the page is left
    }
  }

  #tellAway(wait, line) {
    this.#told = true;
    this.#tell("away", { seconds: Math.ceil(wait / 1000), line });
  }

  #end(type) {
    if (!this.#told) return;
    this.#told = false;
    this.#tell(type);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** A picture or array as Blob, JSON as it is, {} for what is neither. */
async function read(response) {
  const type = response.headers.get("Content-Type") ?? "";
  if (response.ok && !type.includes("json") && !type.includes("html")) return response.blob();
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
