// What a job is at, in words and colours that do not stand alone: every state has its sentence.

import { el, icon } from "./dom.js";
import { clock, moment, t } from "./words.js";

const ICONS = { queued: "clock", processing: "wave", completed: "check", failed: "warn", canceled: "off" };

/** Whether nothing more will happen to a job. */
export const isOver = (job) => ["completed", "failed", "canceled"].includes(job.state);

/** The mark of a state: icon and word. */
export const chip = (state) => el("span", { className: `chip ${state}` }, icon(ICONS[state] ?? "clock"), el("span", {}, t(state in ICONS ? state : "queued")));

/** The place in the queue in words. */
export function place(job) {
  if (job.queue_position === null || job.queue_position === undefined) return t("queued");
  if (job.queue_position === 0) return t("next");
  return job.queue_position === 1 ? t("ahead1") : t("ahead", { n: job.queue_position });
}

/** The share that is recognised, 0 to 1, or null while the length is not known. */
export function share(job) {
  const { audio_s_done, audio_s_total } = job.progress ?? {};
  return audio_s_total ? Math.min(1, audio_s_done / audio_s_total) : null;
}

/** How far it is in words. */
export function progress(job) {
  const { audio_s_done, audio_s_total } = job.progress ?? {};
  if (!audio_s_total) return t("progressUnknown");
  const end = job.expected_end_at ? ` · ${t("endsAt", { when: moment(job.expected_end_at) })}` : "";
  return t("progressed", { done: clock(audio_s_done), total: clock(audio_s_total) }) + end;
}

/** The server's sentence for why a file failed. */
export const reason = (job, file = 0) => (job.files?.[file]?.error ?? job.files?.find((one) => one.error)?.error)?.message ?? t("failedLong");

/** A job in one sentence. */
export function sentence(job) {
  if (job.state === "processing") return progress(job);
  if (job.state === "queued") return place(job);
  return job.state === "failed" ? reason(job) : t(job.state);
}

/** A bar; without a share it runs to and fro. */
export function bar(portion, label) {
  const made = el("progress", { max: 1, "aria-label": label });
  if (portion !== null) made.value = portion;
  return made;
}

/** The panel that says at the head of a job what is going on. Empty once it is done. */
export function panel(job, file) {
  const text = (...words) => el("div", {}, ...words);
  if (job.state === "queued") return [icon("clock"), text(el("strong", {}, place(job)), el("p", {}, t("queuedLong")))];
  if (job.state === "processing") {
    return [icon("wave"), text(el("strong", {}, t("processing")), el("p", { className: "figures" }, progress(job)), bar(share(job), t("processing")))];
  }
  if (job.state === "failed") return [icon("warn"), text(el("strong", {}, t("failedLong")), el("p", {}, reason(job, file)))];
  if (job.state === "canceled") return [icon("off"), text(el("strong", {}, t("canceled")), el("p", {}, t("canceledLong")))];
  return [];
}
