// The public HTTP API. Addresses are relative to the page, so that it works behind any prefix.

import { t } from "./words.js";

export const JOBS = "v1/transcription-jobs";
const address = (path) => new URL(path, document.baseURI).href;

/** An answer that is no success. `message` is the server's own sentence, for the reader. */
export class Refused extends Error {
  constructor(message, { status = 0, code = "", retryAfter_s = 0 } = {}) {
    super(message);
    Object.assign(this, { status, code, retryAfter_s });
  }

  /** Whether the same request may succeed a little later. */
  get passes() {
    return this.status === 0 || this.status === 429 || this.status === 503;
  }
}

/** The error of an answer. @param {number} status @param {string} body @param {string|null} retry */
function refusal(status, body, retry) {
  let error = {};
  try {
    error = JSON.parse(body).error ?? {};
  } catch {
    // a proxy in between may answer in HTML
  }
  const message = error.message || t("eStatus", { status });
  return new Refused(message, { status, code: error.code ?? "", retryAfter_s: Number(retry) || 0 });
}

/** The response of a request. Throws Refused, of status 0 where nobody answers. */
export async function request(path, { method = "GET", json, signal } = {}) {
  const sent = json === undefined ? {} : { body: JSON.stringify(json), headers: { "Content-Type": "application/json" } };
  let response;
  try {
    response = await fetch(address(path), { method, signal, credentials: "same-origin", ...sent });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(t("eNetwork"));
  }
  if (response.ok) return response;
  const refused = refusal(response.status, await response.text(), response.headers.get("Retry-After"));
  if (refused.status === 401) dispatchEvent(new Event("signed-out"));
  throw refused;
}

/** The JSON of an answer. */
export const ask = async (path, options) => (await request(path, options)).json();

/** {signed_in, keys_required, name}. A service without keys has no such path. */
export async function session() {
  try {
    return await ask("v1/session");
  } catch (error) {
    if (error.status === 404) return { signed_in: false, keys_required: false };
    throw error;
  }
}

export const signIn = (key) => request("v1/session", { method: "POST", json: { key } });
export const signOut = () => request("v1/session", { method: "DELETE" });

/** A page of jobs, or null where the service keeps none. */
export async function jobs({ limit = 30, after } = {}) {
  const query = new URLSearchParams({ limit, ...(after ? { after } : {}) });
  try {
    return await ask(`${JOBS}?${query}`);
  } catch (error) {
    if (error.status === 404) return null; // "jobs_off", or a service of before jobs
    throw error;
  }
}

const one = (id) => `${JOBS}/${encodeURIComponent(id)}`;
export const job = (id) => ask(one(id));
export const rename = (id, name) => ask(one(id), { method: "PATCH", json: { name } });
export const remove = (id) => request(one(id), { method: "DELETE" });
export const cancel = (id) => ask(`${one(id)}/cancel`, { method: "POST" });
export const audioOf = (id, file) => address(`${one(id)}/audio?file=${file}`);
export const eventsOf = (id, file, after) => address(`${one(id)}/events?file=${file}&after=${after}`);
export const peaks = (id, file) => ask(`${one(id)}/peaks?file=${file}`);
export const edits = (id, file) => ask(`${one(id)}/edits?file=${file}`);
export const saveEdits = (id, file, segments) =>
  ask(`${one(id)}/edits?file=${file}`, { method: "PUT", json: { segments } });

/** The result in a format, as the server writes it. */
export function result(id, file, format, { edited = false, download = false } = {}) {
  const query = new URLSearchParams({ format, file });
  if (edited) query.set("edited", "true");
  if (download) query.set("download", "true");
  return request(`${one(id)}/result?${query}`);
}

/**
 * Sends a form and tells how far it is. `onText` gets the answer as it grows, for streams.
 * @param {string} path
 * @param {FormData} form
 * @param {{key?: string, signal?: AbortSignal, onShare?: (sent: number, total: number) => void, onText?: (text: string) => void}} more
 * @returns {Promise<string>} the body
 */
export function send(path, form, { key, signal, onShare, onText } = {}) {
  return new Promise((resolve, reject) => {
    const sent = new XMLHttpRequest(); // fetch tells nothing of an upload
    sent.open("POST", address(path));
    if (key) sent.setRequestHeader("Idempotency-Key", key);
    sent.upload.onprogress = (event) => event.lengthComputable && onShare?.(event.loaded, event.total);
    sent.upload.onload = (event) => onShare?.(event.total, event.total);
    sent.onprogress = () => sent.status === 200 && onText?.(sent.responseText);
    sent.onerror = () => reject(new Refused(t("eNetwork")));
    sent.onabort = () => reject(new DOMException("", "AbortError"));
    sent.onload = () => {
      if (sent.status < 300) return resolve(sent.responseText);
      if (sent.status === 401) dispatchEvent(new Event("signed-out"));
      return reject(refusal(sent.status, sent.responseText, sent.getResponseHeader("Retry-After")));
    };
    signal?.addEventListener("abort", () => sent.abort());
    sent.send(form);
  });
}

/** A name that no other upload has; `randomUUID` exists on secure pages only. */
export function unique() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
