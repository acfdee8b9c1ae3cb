// What is being sent: two at a time, tried again by itself where the network or the service fails.

import * as api from "../api.js";
import * as slices from "./slices.js";

const AT_ONCE = 2; // a browser has six connections to one server, and events and sound need some
const FIRST_WAIT_S = 2;
const LONGEST_WAIT_S = 30;
const SPEED_OVER_MS = 3000; // the speed is that of the last seconds

/** Every upload of this page, oldest first. */
export const uploads = [];

/** Emits "change" with the upload as `detail`. */
export const changes = new EventTarget();

const tell = (upload) => changes.dispatchEvent(new CustomEvent("change", { detail: upload }));

/** How many are not yet with the service. */
export const atWork = () => uploads.filter((one) => ["waiting", "sending", "pausing"].includes(one.state)).length;

/**
 * Queues a recording for sending.
 * @param {{name: string, file?: Blob, url?: string, recording?: {id: string}}} source
 * @param {{hotwords: string[], itn: boolean}} options
 */
export function submit(source, options) {
  const upload = { ...source, options, key: source.recording?.id ?? api.unique(), state: "waiting", sent: 0, total: source.file?.size ?? 0, speed: 0, job: null, error: null, tries: 0 };
  uploads.push(upload);
  tell(upload);
  next();
  return upload;
}

/** Tries a failed upload again. */
export function again(upload) {
  Object.assign(upload, { state: "waiting", error: null, sent: 0, tries: 0 });
  tell(upload);
  next();
}

/** Stops an upload, or takes one that has ended off the list. */
export function dismiss(upload) {
  upload.abort?.abort();
  clearTimeout(upload.timer);
  uploads.splice(uploads.indexOf(upload), 1);
  tell(upload);
  next();
}

/** The form that both ways of transcribing take. */
export function formOf(upload) {
  const form = new FormData();
  form.append("response_format", "detailed_json");
  for (const hotword of upload.options.hotwords) form.append("hotwords[]", hotword);
  if (upload.options.itn) form.append("itn", "true");
  if (upload.url) form.append("url", upload.url);
  else form.append("file", upload.file, upload.name);
  return form;
}

function next() {
  const sending = uploads.filter((one) => one.state === "sending").length;
  for (const upload of uploads.filter((one) => one.state === "waiting").slice(0, AT_ONCE - sending)) void send(upload);
}

async function send(upload) {
  upload.state = "sending";
  upload.abort = new AbortController();
  upload.marks = [[performance.now(), 0]];
  tell(upload);
  const form = formOf(upload);
  form.append("name", upload.name);
  try {
    const body = await api.send(api.JOBS, form, { key: upload.key, signal: upload.abort.signal, onShare: (sent, total) => share(upload, sent, total) });
    Object.assign(upload, { state: "sent", job: JSON.parse(body) });
    if (upload.recording) await slices.forget(upload.recording.id); // acknowledged
  } catch (error) {
    if (error.name === "AbortError") return;
    fail(upload, error);
  }
  tell(upload);
  next();
}

function share(upload, sent, total) {
  const now = performance.now();
  upload.marks = [...upload.marks.filter(([at]) => now - at < SPEED_OVER_MS), [now, sent]];
  const [[since, before]] = upload.marks;
  Object.assign(upload, { sent, total });
  if (now - since > 200) upload.speed = ((sent - before) / (now - since)) * 1000;
  tell(upload);
}

/** Waits where the error passes; else the reader has to decide. */
function fail(upload, error) {
  upload.error = error;
  upload.sent = 0;
  if (!error.passes) {
    upload.state = "failed";
    return;
  }
  const wait_s = error.retryAfter_s || Math.min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** upload.tries++);
  upload.state = "pausing";
  upload.again_at = Date.now() + wait_s * 1000;
  const tick = () => {
    if (Date.now() >= upload.again_at) upload.state = "waiting";
    else upload.timer = setTimeout(tick, 500);
    tell(upload);
    next();
  };
  upload.timer = setTimeout(tick, 500);
}

addEventListener("beforeunload", (event) => {
  if (uploads.some((one) => ["waiting", "sending", "pausing"].includes(one.state) && !one.recording)) event.preventDefault();
});
