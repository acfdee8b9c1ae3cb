// The view of one job: its state, the player, the sentences, and what can be done with them.

import * as api from "../api.js";
import { announce, ask, button, copy, dialog, download, el, icon, toast } from "../dom.js";
import { exportMenu } from "./exports.js";
import { follow } from "./follow.js";
import { Player } from "./player.js";
import { Search } from "./search.js";
import * as states from "../states.js";
import { Transcript } from "./transcript.js";
import { clock, moment, size, t } from "../words.js";

const PEAKS_AGAIN_MS = 3000;
const SAVE_AFTER_MS = 400;

/** The open job. `changed(job)` tells the list, `gone(id)` that it was deleted. */
export class JobView {
  #stop = () => {};
  #timers = [];
  #saving = Promise.resolve();
  #saveTimer = 0;
  #wordsAsked = false;
  #closed = false;

  constructor(job, { changed, gone }) {
    Object.assign(this, { job, changed, gone, file: 0 });
    this.element = el("article", { className: "job" });
    this.#build();
  }

  close() {
    this.#closed = true;
    this.#stop();
    this.transcript.editor.close(true);
    void this.flush();
    this.#timers.forEach(clearTimeout);
    this.player.close();
    this.transcript.close();
  }

  /** Shows the view anew, in another language or for another file. */
  #build() {
    this.transcript = new Transcript({ play: (seconds) => this.player.playFrom(seconds), changed: (edits) => this.#edited(edits) });
    this.search = new Search(this.transcript);
    this.player = new Player({ onTime: (seconds) => this.transcript.at(seconds) });
    this.player.audio.addEventListener("play", () => this.#loadWords());
    this.title = el("h1", { tabIndex: -1 });
    this.state = el("span", {});
    this.facts = el("p", { className: "small muted" });
    this.panel = el("section", { className: "panel" });
    this.lost = el("p", { className: "panel lost", role: "alert", hidden: true }, icon("warn"), el("span", {}, t("lost")));
    this.saved = el("span", { className: "small muted", role: "status" });
    this.count = el("span", { className: "small muted" });
    this.empty = el("p", { className: "hint" });
    this.cancel = button("stop", t("cancelJob"), { click: () => this.#cancel() });
    this.exports = exportMenu({ save: (format) => this.#export(format), copy: () => this.#copy() });
    const files = this.job.files ?? [];
    const choice = files.length < 2 ? null : el("label", { className: "row" }, t("file"), " ",
      el("select", { on: { change: (event) => this.#other(Number(event.target.value)) } },
        files.map((one) => el("option", { value: String(one.index), selected: one.index === this.file }, one.name ?? String(one.index + 1)))));
    this.heading = el("div", { className: "row between" },
      el("span", { className: "small muted" }, this.count, " ", this.saved),
      button("search", t("search"), { kind: "plain", label: t("searchAll"), click: () => this.search.toggle() }));
    this.element.replaceChildren(
      el("header", {},
        el("div", { className: "title" }, this.title, this.state),
        this.facts,
        el("div", { className: "row actions" }, this.exports, this.cancel,
          button("edit", t("rename"), { click: () => this.#rename() }),
          button("trash", t("remove1"), { click: () => this.#remove() }), choice)),
      this.lost, this.panel,
      el("section", { className: "text", "aria-label": t("transcript") }, this.heading, this.search.element, this.transcript.element, this.empty),
      this.player.element);
  }

  /** Begins: the sound, the waveform, the edits and the events. */
  async begin() {
    this.update(this.job);
    try {
      this.transcript.setEdits((await api.edits(this.job.id, this.file)).segments);
    } catch {
      // no edits yet
    }
    if (this.#closed) return;
    this.transcript.live = !states.isOver(this.now);
    let wasLost = false;
    this.#stop = follow(this.job.id, this.file, {
      onSegment: (segment) => {
        this.transcript.add(segment);
        if (this.transcript.live) announce(segment.text);
        this.#counted();
      },
      onJob: (job) => this.update(job),
      onLost: (lost) => {
        this.lost.hidden = !lost;
        if (wasLost && !lost) toast(t("back"));
        wasLost = lost;
        if (lost) void this.#look();
      },
      onDone: () => {
        this.transcript.live = false;
        this.lost.hidden = true;
        void this.#look();
      },
    });
  }

  /** The job as it is for the file that is shown: of several, each has its own state. */
  get now() {
    const { files = [] } = this.job;
    return files.length > 1 ? { ...this.job, ...files[this.file], name: this.job.name } : this.job;
  }

  /** Shows the job as it is now. */
  update(job) {
    this.job = job;
    const file = job.files?.[this.file] ?? {};
    const now = this.now;
    this.title.textContent = job.name || file.name || job.id;
    document.title = `${this.title.textContent} · ${t("title")}`;
    this.state.replaceChildren(states.chip(now.state));
    const facts = [moment(job.created_at), file.duration ? clock(file.duration) : null, file.bytes ? size(file.bytes) : null];
    this.facts.textContent = facts.filter(Boolean).join(" · ");
    this.panel.className = `panel state ${now.state}`;
    this.#showPanel();
    this.cancel.hidden = states.isOver(job);
    this.exports.hidden = now.state !== "completed";
    this.player.load(api.audioOf(job.id, this.file), { patient: !states.isOver(now) });
    if (this.stood !== now.state) {
      if (this.stood) announce(t(now.state));
      this.stood = now.state;
      this.player.again();
      void this.#peaks();
    }
    this.#counted();
    this.changed(job);
  }

  #showPanel() {
    const { now } = this;
    const shown = states.panel(now, this.file);
    this.panel.hidden = !shown.length;
    const running = this.panel.querySelector("progress");
    if (now.state === "processing" && running) {
      this.panel.querySelector(".figures").textContent = states.progress(now);
      const portion = states.share(now);
      if (portion !== null) running.value = portion;
    } else this.panel.replaceChildren(...shown);
  }

  #counted() {
    const n = this.transcript.segments.length;
    this.count.textContent = n ? t("sentences", { n }) : "";
    this.heading.hidden = !n;
    this.empty.hidden = n > 0 || ["failed", "canceled"].includes(this.now.state);
    this.empty.textContent = this.now.state === "completed" && !this.transcript.live ? t("noSpeech") : t("soon");
  }

  /** Asks for the job once: it may have ended or gone while nobody told. */
  async #look() {
    try {
      const job = await api.job(this.job.id);
      if (!this.#closed) this.update(job);
    } catch (error) {
      if (error.status === 404) {
        this.#stop();
        toast(t("eGone"));
      }
    }
  }

  async #peaks() {
    if (this.player.wave.hasPeaks) return;
    this.#timers.forEach(clearTimeout);
    try {
      this.player.wave.show(await api.peaks(this.job.id, this.file));
    } catch {
      // decoded later, or never
      if (!this.#closed && !states.isOver(this.job)) this.#timers.push(setTimeout(() => this.#peaks(), PEAKS_AGAIN_MS));
    }
  }

  /** The times of the words, at the first play: an hour of them is a megabyte. */
  async #loadWords() {
    if (this.#wordsAsked || this.now.state !== "completed") return;
    this.#wordsAsked = true;
    try {
      const { segments } = await (await api.result(this.job.id, this.file, "detailed_json")).json();
      this.transcript.words = segments.map((segment) => segment.words ?? []);
    } catch {
      this.#wordsAsked = false; // the sentence is marked without them
    }
  }

  #edited(edits) {
    this.saved.textContent = t("saving");
    clearTimeout(this.#saveTimer);
    this.unsaved = { ...edits };
    this.#saveTimer = setTimeout(() => this.flush(), SAVE_AFTER_MS);
  }

  /** Saves what is not saved yet. One save follows another, so that the last edits stay. */
  flush() {
    clearTimeout(this.#saveTimer);
    const [{ unsaved, file }, { id }] = [this, this.job];
    if (!unsaved) return this.#saving;
    this.unsaved = null;
    this.#saving = this.#saving.then(async () => {
      try {
        await api.saveEdits(id, file, unsaved);
        this.saved.textContent = t("saved");
      } catch (error) {
        this.unsaved ??= unsaved;
        this.saved.textContent = t("notSaved", { why: error.message });
        toast(this.saved.textContent, { words: t("retry"), act: () => this.flush() });
      }
    });
    return this.#saving;
  }

  async #export(format) {
    this.transcript.editor.close(true);
    await this.flush();
    const extension = { text: "txt", detailed_json: "json" }[format] ?? format;
    const base = (this.job.files?.[this.file]?.name || this.job.name || this.job.id).replace(/\.\w{1,5}$/, "");
    const name = `${base.replace(/[\\/:*?"<>|]/g, "_")}.${extension}`;
    await this.#tried(async () => {
      const answer = await api.result(this.job.id, this.file, format, { edited: true, download: true });
      download(await answer.blob(), name);
      toast(t("exported", { name }));
    });
  }

  async #copy() {
    this.transcript.editor.close(true);
    await this.#tried(async () => {
      await copy(this.transcript.text);
      toast(t("copied"));
    });
  }

  #rename() {
    const input = el("input", { type: "text", value: this.job.name ?? "", "aria-label": t("name"), maxLength: 200 });
    const shown = dialog(t("rename"), el("form", { on: { submit: (event) => {
      event.preventDefault();
      shown.close();
      if (input.value.trim()) void this.#tried(async () => this.update(await api.rename(this.job.id, input.value.trim())));
    } } }, input, el("div", { className: "row end" },
      button(null, t("cancel"), { click: () => shown.close() }),
      el("button", { type: "submit", className: "primary" }, t("save")))));
    input.select();
  }

  async #cancel() {
    await this.#tried(async () => this.update(await api.cancel(this.job.id)));
  }

  async #remove() {
    if (!(await ask(t("removeAsk", { name: this.title.textContent }), t("remove1")))) return;
    await this.#tried(async () => {
      await api.remove(this.job.id);
      this.unsaved = null;
      toast(t("removed"));
      this.gone(this.job.id);
    });
  }

  async #tried(act) {
    try {
      await act();
    } catch (error) {
      toast(error.message);
    }
  }

  async #other(file) {
    this.close();
    await this.#saving;
    this.#closed = false;
    this.#wordsAsked = false;
    this.stood = null;
    this.file = file;
    this.#build();
    void this.begin();
  }
}
