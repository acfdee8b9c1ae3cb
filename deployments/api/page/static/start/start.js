// The view where a transcription begins: choose, record or name recordings, and press Start.

import { announce, button, el, icon } from "../dom.js";
import { Microphone } from "./microphone.js";
import { leftOver, forget } from "./slices.js";
import * as states from "../states.js";
import { again, changes, dismiss, submit, uploads } from "./uploads.js";
import { clock, moment, remember, remembered, size, t } from "../words.js";

const chosen = []; // outlives the view: {name, file?, url?, recording?, note?, heard?}
let asked = false; // for recordings of an earlier visit

/** The start view. `one(upload)` is told when a single upload became a job. */
export class StartView {
  constructor({ enabled, latest, transcribe }) {
    Object.assign(this, { enabled, latest, transcribe });
    this.microphone = new Microphone((recording) => this.#recorded(recording));
    this.input = el("input", { type: "file", multiple: true, accept: "audio/*,video/*,.amr,.m4a,.mkv,.flac,.opus", className: "unseen", tabIndex: -1, "aria-label": t("choose"),
      on: { change: () => { this.add(this.input.files); this.input.value = ""; } } });
    this.url = el("input", { type: "url", inputMode: "url", placeholder: t("linkHint"), "aria-label": t("link") });
    this.hotwords = el("textarea", { rows: 3, "aria-label": t("hotwords"), value: remembered("hotwords") ?? "", on: { change: () => remember("hotwords", this.hotwords.value) } });
    this.itn = el("input", { type: "checkbox", checked: remembered("itn") === "1", on: { change: () => remember("itn", this.itn.checked ? "1" : "0") } });
    this.list = el("ul", { className: "cards", "aria-label": t("chosen") });
    this.sentTitle = el("h2", { hidden: true }, t("sending"));
    this.sent = el("ul", { className: "cards sent", "aria-label": t("sending") });
    for (const one of uploads) one.card = null; // in the language of now
    this.go = button("upload", t("start"), { kind: "primary big", click: () => this.#start() });
    this.hint = el("p", { className: "small bad", role: "alert" });
    this.zone = el("div", { className: "zone" }, icon("upload"), el("p", { className: "drop" }, t("drop")),
      el("div", { className: "row center" },
        button("file", t("choose"), { click: () => this.input.click() }), this.microphone.button),
      el("p", { className: "small muted" }, t("kinds")), this.input, this.microphone.element);
    const link = el("form", { className: "row link", on: { submit: (event) => { event.preventDefault(); this.#link(); } } },
      icon("link"), this.url, el("button", { type: "submit" }, t("addLink")));
    this.element = el("section", { className: "start" },
      el("h1", { tabIndex: -1 }, t("heading")), el("p", { className: "lead" }, enabled ? t("lead") : t("leadOff")),
      this.zone, link,
      el("details", { className: "options" }, el("summary", {}, t("options")),
        el("label", { className: "field" }, t("hotwords"), this.hotwords),
        el("label", { className: "check" }, this.itn, t("itn"))),
      this.list, el("div", { className: "row" }, this.go, this.hint), this.sentTitle, this.sent);
    this.heard = new AbortController();
    const on = (target, type, call) => target.addEventListener(type, call, { signal: this.heard.signal });
    on(document, "dragover", (event) => this.#drag(event, true));
    on(document, "dragleave", (event) => event.relatedTarget || this.#drag(event, false));
    on(document, "drop", (event) => { this.#drag(event, false); this.add(event.dataTransfer.files); });
    on(document, "paste", (event) => this.#pasted(event));
    on(changes, "change", ({ detail }) => this.#sending(detail));
    on(globalThis, "jobs", () => this.#uploads());
    document.title = t("title");
    this.#show();
    this.#uploads();
    void this.#recover();
  }

  close() {
    this.heard.abort();
    void this.microphone.close();
  }

  /** Adds files to what is chosen. */
  add(files) {
    for (const file of files) chosen.push({ name: file.name || t("recordedAt", { when: moment(Date.now() / 1000) }), file });
    this.#show();
    if (files.length) this.go.focus();
  }

  #drag(event, over) {
    event.preventDefault();
    this.zone.classList.toggle("over", over);
    this.zone.querySelector(".drop").textContent = over ? t("dropNow") : t("drop");
  }

  #pasted(event) {
    if (event.clipboardData.files.length) this.add(event.clipboardData.files);
    const text = event.clipboardData.getData("text").trim();
    if (/^https?:\/\/\S+$/.test(text) && !event.target.closest?.("input, textarea")) this.#addUrl(text);
  }

  #link() {
    const url = this.url.value.trim();
    if (!/^https?:\/\/\S+$/.test(url)) return void (this.hint.textContent = t("linkWrong"));
    this.url.value = "";
    return this.#addUrl(url);
  }

  #addUrl(url) {
    const last = new URL(url).pathname.split("/").pop();
    let name = last || url;
    try {
      name = decodeURIComponent(name);
    } catch {
      // it holds a bare %: shown as it is
    }
    chosen.push({ name, url });
    this.#show();
    this.go.focus();
  }

  #recorded(recording, note) {
    const kind = recording.type.includes("mp4") ? "m4a" : recording.type.includes("ogg") ? "ogg" : "webm";
    const name = `${t("recordedAt", { when: moment(recording.began_at).replaceAll(":", "-") })}.${kind}`;
    chosen.push({ name, file: recording.blob, recording, note });
    this.#show();
    if (!note) this.go.focus();
  }

  /** Recordings that were not acknowledged before the page was left. */
  async #recover() {
    if (asked) return;
    asked = true;
    try {
      for (const recording of await leftOver()) this.#recorded(recording, t("recovered"));
    } catch {
      // the browser keeps nothing, as in some private windows
    }
  }

  #start() {
    if (!chosen.length) {
      this.hint.textContent = t("nothing");
      return;
    }
    const options = { hotwords: this.hotwords.value.split("\n").map((one) => one.trim()).filter(Boolean), itn: this.itn.checked };
    const all = chosen.splice(0);
    this.#show();
    if (!this.enabled) {
      if (all.length > 1) chosen.push(...all.slice(1)); // one at a time: each answer is its own view
      this.transcribe(all[0], options);
      return;
    }
    this.alone = all.map((source) => submit(source, options)).at(all.length > 1 ? 1 : 0);
    if (all.length > 1) this.alone = null;
    this.sent.scrollIntoView({ block: "nearest" });
  }

  #sending(upload) {
    if (upload.job && upload === this.alone) {
      location.hash = `#/job/${encodeURIComponent(upload.job.id)}`;
      return;
    }
    this.#uploads();
  }

  #show() {
    this.hint.textContent = "";
    this.go.querySelector("span").textContent = chosen.length > 1 ? t("startN", { n: chosen.length }) : t("start");
    this.list.hidden = !chosen.length;
    this.list.replaceChildren(...chosen.map((one) => this.#card(one)));
  }

  #card(one) {
    const remove = () => {
      chosen.splice(chosen.indexOf(one), 1);
      if (one.recording) void forget(one.recording.id);
      this.#show();
    };
    const facts = [one.url, one.recording?.seconds ? clock(one.recording.seconds) : null, one.file ? size(one.file.size) : null];
    one.heard ??= one.recording ? URL.createObjectURL(one.file) : null;
    return el("li", { className: "card" }, icon(one.url ? "link" : one.recording ? "mic" : "file"),
      el("div", { className: "grow" }, el("strong", {}, one.name),
        el("p", { className: "small muted" }, facts.filter(Boolean).join(" · ")),
        one.note ? el("p", { className: "small note" }, one.note) : null,
        one.heard ? el("audio", { controls: true, src: one.heard, "aria-label": one.name }) : null),
      button("close", null, { label: t("remove", { name: one.name }), click: remove }));
  }

  /** Shows the uploads. A card is made anew when its state changes, so that its buttons keep the focus. */
  #uploads() {
    const shown = uploads.filter((one) => !one.job || uploads.length > 1);
    this.sentTitle.hidden = !shown.length;
    for (const one of shown) {
      const job = one.job && (this.latest(one.job.id) ?? one.job);
      const stands = `${one.state} ${job?.state} ${one.sent >= one.total}`;
      if (one.stands === stands && one.card) tellCard(one, job);
      else {
        const card = uploadCard(one, job);
        one.card?.replaceWith(card);
        Object.assign(one, { stands, card });
        announce(`${one.name} ${words(one, job)}`);
      }
    }
    const cards = shown.map((one) => one.card);
    if (cards.length !== this.sent.children.length || cards.some((card, i) => card !== this.sent.children[i])) this.sent.replaceChildren(...cards);
  }
}

/** What an upload is at, in words. */
function words(upload, job) {
  const { state, sent, total, speed, again_at } = upload;
  if (state === "waiting") return t("waitingUpload");
  if (state === "pausing") return t(upload.error.status ? "uploadBusy" : "uploadLost", { seconds: Math.max(1, Math.ceil((again_at - Date.now()) / 1000)) });
  if (state === "failed") return t("uploadFailed", { why: upload.error.message });
  if (state === "sent") return states.sentence(job);
  if (upload.url) return t("submitting");
  if (total > 0 && sent >= total) return t("uploaded");
  const [percent, left] = [total ? Math.floor((sent / total) * 100) : 0, speed ? clock((total - sent) / speed) : "…"];
  return t("uploading", { percent, done: size(sent), total: size(total), speed: size(Math.round(speed)), left });
}

/** The share of its bar: null runs to and fro, undefined is no bar. */
function portionOf(upload, job) {
  if (job?.state === "processing") return states.share(job);
  if (upload.state !== "sending") return undefined;
  return upload.url || upload.sent >= upload.total ? null : upload.sent / upload.total;
}

/** Tells the news in a card whose state is the same. */
function tellCard(upload, job) {
  upload.card.querySelector(".figures").textContent = words(upload, job);
  const portion = portionOf(upload, job);
  if (typeof portion === "number") upload.card.querySelector("progress").value = portion;
}

/** The card of an upload: what it waits for, how far it is, what can be done. */
function uploadCard(upload, job) {
  const portion = portionOf(upload, job);
  const drop = () => dismiss(upload);
  return el("li", { className: `card ${upload.state} ${job?.state ?? ""}` },
    job ? states.chip(job.state) : icon(upload.state === "failed" ? "warn" : "upload"),
    el("div", { className: "grow" }, el("strong", {}, upload.name), el("p", { className: "small figures" }, words(upload, job)),
      portion === undefined ? null : states.bar(portion, upload.name)),
    job ? el("a", { className: "button", href: `#/job/${encodeURIComponent(job.id)}` }, t("open")) : null,
    upload.state === "failed" ? button(null, t("retry"), { click: () => again(upload) }) : null,
    job ? null : button("close", null, { label: t("dismiss", { name: upload.name }), click: drop }));
}
