// The button that records, with the loudness and the time while it does.

import { button, el, setIcon } from "../dom.js";
import { hindrance, record } from "./recorder.js";
import { clock, size, t } from "../words.js";

/** The microphone of the start view. `done(recording)` is called with what was recorded. */
export class Microphone {
  #recording = null;
  #timer = 0;

  constructor(done) {
    this.done = done;
    this.button = button("mic", t("record"), { click: () => (this.#recording ? this.stop() : this.#begin()) });
    this.button.setAttribute("aria-pressed", "false");
    this.canvas = el("canvas", { className: "meter", width: 480, height: 48, "aria-hidden": "true" });
    this.words = el("span", { className: "figures" });
    this.hold = button("pause", null, { label: t("pause"), click: () => this.#pause() });
    this.trouble = el("p", { className: "small bad", role: "alert" });
    this.live = el("div", { className: "recording", hidden: true }, this.canvas, el("div", { className: "row center" }, el("span", { className: "red", "aria-hidden": "true" }), this.words, this.hold));
    this.element = el("div", {}, this.live, this.trouble);
  }

  async #begin() {
    this.trouble.textContent = "";
    const why = hindrance();
    if (why) {
      this.trouble.textContent = t("noMicrophone", { why: t(why) });
      return;
    }
    try {
      this.#recording = await record();
    } catch (error) {
      this.trouble.textContent = t("noMicrophone", { why: error.message });
      return;
    }
    this.#shown(true);
    this.#recording.meter(this.canvas);
    this.#timer = setInterval(() => this.#tick(), 250);
    this.#tick();
  }

  #tick() {
    const time = clock(this.#recording.seconds);
    this.words.textContent = this.#recording.paused ? t("recordPaused", { time }) : t("recording", { time, saved: size(this.#recording.saved) });
  }

  #pause() {
    this.#recording.pause();
    const label = this.#recording.paused ? t("resume") : t("pause");
    setIcon(this.hold, this.#recording.paused ? "mic" : "pause");
    this.hold.setAttribute("aria-label", label);
    this.hold.title = label;
    this.#tick();
  }

  #shown(on) {
    this.live.hidden = !on;
    this.button.setAttribute("aria-pressed", String(on));
    this.button.classList.toggle("danger", on);
    this.button.querySelector("span").textContent = on ? t("stopRecord") : t("record");
    setIcon(this.button, on ? "stop" : "mic");
  }

  async stop() {
    const recording = this.#recording;
    this.#recording = null;
    clearInterval(this.#timer);
    this.#shown(false);
    try {
      this.done(await recording.stop());
    } catch (error) {
      this.trouble.textContent = t("noMicrophone", { why: error.message });
    }
  }

  /** Leaves the view: what was recorded is kept for the next one. */
  close() {
    return this.#recording ? this.stop() : Promise.resolve();
  }
}
