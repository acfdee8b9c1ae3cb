// Where the service keeps no jobs: one recording by one request, whose answer is a stream.

import * as api from "../api.js";
import { announce, button, copy as copyText, download, el, icon, toast } from "../dom.js";
import { exportMenu } from "./exports.js";
import { Player } from "./player.js";
import { Search } from "./search.js";
import * as slices from "../start/slices.js";
import * as states from "../states.js";
import { Transcript } from "./transcript.js";
import { formOf } from "../start/uploads.js";
import { clock, size, t } from "../words.js";

const PATH = "v1/audio/transcriptions";

/** The events of a stream that have come whole, from the text so far. @returns {[object[], number]} with where to read on */
export function eventsIn(text, from) {
  const found = [];
  let at = from;
  for (let end = text.indexOf("\n\n", at); end >= 0; end = text.indexOf("\n\n", at)) {
    const data = text.slice(at, end).split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n");
    if (data && data !== "[DONE]") found.push(JSON.parse(data));
    at = end + 2;
  }
  return [found, at];
}

/** The view of one transcription that lives as long as the page. */
export class DirectView {
  #read = 0;
  #abort = new AbortController();

  constructor(source, options) {
    Object.assign(this, { source, options, n: 0, text: "" });
    this.transcript = new Transcript({ play: (seconds) => this.player.playFrom(seconds), changed: () => {} });
    this.search = new Search(this.transcript);
    this.player = new Player({ onTime: (seconds) => this.transcript.at(seconds) });
    this.player.element.hidden = !source.file;
    if (source.file) this.player.load(URL.createObjectURL(source.file));
    this.panel = el("section", { className: "panel processing" });
    this.growing = el("p", { className: "growing" });
    this.exports = exportMenu({ save: (format) => this.#save(format), copy: () => copyText(this.transcript.text).then(() => toast(t("copied")), (error) => toast(error.message)), only: ["text", "srt", "detailed_json"] });
    this.exports.hidden = true;
    this.find = button("search", t("search"), { kind: "plain", label: t("searchAll"), click: () => this.search.toggle() });
    this.find.hidden = true;
    this.element = el("article", { className: "job" },
      el("header", {}, el("div", { className: "title" }, el("h1", { tabIndex: -1 }, source.name)), el("div", { className: "row actions" }, this.exports, this.find)),
      this.panel, el("section", { className: "text", "aria-label": t("transcript") }, this.search.element, this.growing, this.transcript.element), this.player.element);
    document.title = `${source.name} · ${t("title")}`;
  }

  /** Sends the recording and shows what comes. */
  async begin() {
    const form = formOf({ ...this.source, options: this.options });
    form.append("stream", "true");
    this.#show("upload", t("submitting"), null);
    try {
      await api.send(PATH, form, {
        signal: this.#abort.signal,
        onShare: (sent, total) => this.text || this.#show("upload", sent < total ? `${Math.floor((sent / total) * 100)}% · ${size(sent)} / ${size(total)}` : t("progressUnknown"), sent < total ? sent / total : null),
        onText: (text) => this.#take(text),
      }).then((text) => this.#take(text));
      if (!this.done) throw new api.Refused(t("eNetwork"));
      if (this.source.recording) await slices.forget(this.source.recording.id);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.panel.hidden = false;
      this.panel.className = "panel failed";
      const retry = button(null, t("retry"), { click: () => { Object.assign(this, { n: 0, text: "" }); this.#read = 0; this.growing.textContent = ""; void this.begin(); } });
      this.panel.replaceChildren(icon("warn"), el("div", {}, el("strong", {}, t("failedLong")), el("p", {}, error.message), retry));
    }
  }

  close() {
    this.#abort.abort();
    this.player.close();
    this.transcript.close();
  }

  #show(iconName, words, portion) {
    this.panel.hidden = false;
    this.panel.className = "panel processing";
    this.panel.replaceChildren(icon(iconName), el("div", {}, el("strong", {}, t("processing")), el("p", { className: "figures" }, words), states.bar(portion, t("processing"))));
  }

  #take(text) {
    const [events, at] = eventsIn(text, this.#read);
    this.#read = at;
    for (const event of events) {
      if (event.type === "error") throw new api.Refused(event.error.message);
      if (event.type === "transcript.text.delta") {
        this.text += event.delta;
        this.growing.textContent = this.text;
        announce(event.delta);
      }
      if (event.type === "transcript.progress") {
        this.#show("wave", t("progressed", { done: clock(event.done_ms / 1000), total: clock(event.total_ms / 1000) }), event.done_ms / event.total_ms);
      }
      if (event.type === "transcript.text.done") this.#finish(event.transcript);
    }
  }

  #finish({ segments }) {
    this.done = true;
    this.panel.hidden = true;
    this.growing.textContent = segments.length ? "" : t("noSpeech");
    segments.forEach((one, index) => this.transcript.add({ index, start: one.start_ms / 1000, end: one.end_ms / 1000, text: one.text }));
    this.transcript.words = segments.map((one) => one.words);
    this.exports.hidden = this.find.hidden = false;
    announce(t("completed"));
  }

  /** Here the page writes the file, since the service has forgotten the recording. */
  #save(format) {
    const { transcript } = this;
    const time = (s) => new Date(Math.round(s * 1000)).toISOString().slice(11, 23).replace(".", ",");
    const lines = transcript.segments.map((one) => ({ ...one, text: transcript.textOf(one.index) }));
    const content = {
      text: () => `${transcript.text}\n`,
      srt: () => lines.map((one, i) => `${i + 1}\n${time(one.start)} --> ${time(one.end)}\n${one.text}\n`).join("\n"),
      detailed_json: () => JSON.stringify({ segments: lines }, null, 1),
    }[format]();
    const extension = { text: "txt", detailed_json: "json" }[format] ?? format;
    download(new Blob([content]), `${this.source.name.replace(/\.\w{1,5}$/, "")}.${extension}`);
  }
}
