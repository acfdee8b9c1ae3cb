// The list of jobs at the side, asked for again while something is at work.

import * as api from "./api.js";
import { button, el, icon } from "./dom.js";
import * as states from "./states.js";
import { atWork, changes } from "./start/uploads.js";
import { clock, moment, t } from "./words.js";

const SOON_MS = 2000;
const LATER_MS = 20_000;

/** The jobs of this key, newest first. `trouble(sentence)` tells of a service that does not answer. */
export class JobList {
  #jobs = new Map();
  #rows = new Map();
  #cursor = null;
  #timer = 0;
  #open = null;

  constructor(element, { trouble }) {
    Object.assign(this, { element, trouble, enabled: true });
    this.list = el("ul", { className: "jobs" });
    changes.addEventListener("change", ({ detail: upload }) => {
      if (upload.job && !this.#jobs.has(upload.job.id)) this.put(upload.job);
      this.#sending();
    });
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
    this.build();
  }

  /** Writes the frame of the list, in the language of the page. */
  build() {
    this.more = button(null, t("moreJobs"), { kind: "plain wide", click: () => this.#more() });
    this.sent = el("p", { className: "small muted", role: "status" });
    const fresh = el("a", { className: "button wide", href: "#/" }, icon("plus"), t("newJob"));
    this.element.replaceChildren(fresh, this.sent, this.list, this.more);
    this.#sending();
    this.show();
  }

  get all() {
    return [...this.#jobs.values()].sort((one, other) => other.created_at - one.created_at);
  }

  get(id) {
    return this.#jobs.get(id);
  }

  put(job) {
    this.#jobs.set(job.id, job);
    this.show();
    this.#soon();
  }

  drop(id) {
    this.#jobs.delete(id);
    this.#rows.delete(id);
    this.show();
  }

  /** The job that is open, or null. */
  mark(id) {
    this.#open = id;
    this.show();
  }

  /** Asks for the newest jobs. False where the service keeps none. */
  async refresh() {
    clearTimeout(this.#timer);
    try {
      const page = await api.jobs();
      this.trouble(null);
      this.enabled = page !== null;
      if (page) this.#take(page);
    } catch (error) {
      if (error.status !== 401) this.trouble(error.status ? error.message : t("offline"));
    }
    this.show();
    if (this.enabled) this.#soon();
    return this.enabled;
  }

  #take(page) {
    const oldest = page.data.at(-1)?.created_at ?? Infinity;
    const found = new Set(page.data.map((job) => job.id));
    for (const job of this.all) if (!found.has(job.id) && (!page.has_more || job.created_at > oldest)) this.#jobs.delete(job.id);
    for (const job of page.data) this.#jobs.set(job.id, job);
    if (this.#cursor === null || !page.has_more) this.#cursor = page.has_more ? page.next_cursor : null;
  }

  async #more() {
    try {
      const page = await api.jobs({ after: this.#cursor });
      for (const job of page.data) this.#jobs.set(job.id, job);
      this.#cursor = page.has_more ? page.next_cursor : null;
      this.show();
    } catch (error) {
      this.trouble(error.message);
    }
  }

  #soon() {
    clearTimeout(this.#timer);
    const working = this.all.some((job) => !states.isOver(job)) || this.isInTrouble;
    this.#timer = setTimeout(() => (document.hidden ? this.#soon() : this.refresh()), working ? SOON_MS : LATER_MS);
  }

  #sending() {
    const n = atWork();
    this.sent.hidden = !n;
    this.sent.replaceChildren(n ? el("a", { href: "#/" }, t("uploadsAtWork", { n })) : "");
  }

  /** Shows the list. A row is made anew when it changes, so that the others keep the focus. */
  show() {
    this.more.hidden = this.#cursor === null;
    const rows = this.all.map((job) => this.#kept(job));
    const shown = rows.length ? rows : [this.#nothing()];
    const { children } = this.list;
    if (shown.length !== children.length || shown.some((row, i) => row !== children[i])) this.list.replaceChildren(...shown);
    dispatchEvent(new Event("jobs"));
  }

  #kept(job) {
    const stands = JSON.stringify([job, job.id === this.#open, document.documentElement.lang]);
    const before = this.#rows.get(job.id);
    if (before?.stands === stands) return before.row;
    const row = this.#row(job);
    const hadFocus = before?.row.contains(document.activeElement);
    before?.row.replaceWith(row);
    if (hadFocus) row.firstChild.focus({ preventScroll: true });
    this.#rows.set(job.id, { stands, row });
    return row;
  }

  #nothing() {
    return el("li", { className: "none" }, icon("wave"),
      el("p", {}, this.enabled ? t("none") : t("noHistory")), this.enabled ? el("p", { className: "small" }, t("noneHint")) : null);
  }

  #row(job) {
    const portion = states.share(job);
    const length = job.progress?.audio_s_total ? ` · ${clock(job.progress.audio_s_total)}` : "";
    const link = el("a", { href: `#/job/${encodeURIComponent(job.id)}`, data: { id: job.id } },
      el("span", { className: "name" }, job.name || job.files?.[0]?.name || job.id),
      el("span", { className: "row small" }, states.chip(job.state),
        el("span", { className: "muted" }, job.state === "queued" ? states.place(job)
          : job.state === "processing" && portion !== null ? `${Math.floor(portion * 100)}%` : moment(job.created_at) + length)),
      job.state === "processing" ? states.bar(portion, t("processing")) : null);
    if (job.id === this.#open) link.setAttribute("aria-current", "page");
    return el("li", {}, link);
  }
}
