// The player at the foot: sound by range requests, the waveform, and speed.

import { button, el, icon, setIcon } from "../dom.js";
import { Wave } from "./wave.js";
import { clock, remember, remembered, t } from "../words.js";

const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 3];
const JUMP_S = 5;

/** The player of one recording. `onTime` is called with the seconds, many times a second. */
export class Player {
  #frame = 0;

  constructor({ onTime }) {
    this.onTime = onTime;
    this.audio = el("audio", { preload: "metadata" });
    this.toggle = button("play", null, { label: t("play"), kind: "round", click: () => this.playOrPause() });
    this.times = el("span", { className: "times" }, clock(0));
    this.speed = el("select", { "aria-label": t("speed"), on: { change: () => this.setSpeed(Number(this.speed.value)) } },
      SPEEDS.map((one) => el("option", { value: String(one) }, `${one}×`)));
    const canvas = el("canvas", { className: "wave", tabIndex: 0, role: "slider", "aria-label": t("position"), "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0" });
    this.wave = new Wave(canvas, (seconds) => this.seek(seconds));
    this.trouble = el("p", { className: "small bad", hidden: true }, icon("warn"), el("span", {}, t("noAudio")));
    this.element = el("section", { className: "player", "aria-label": t("player") },
      this.audio, canvas, this.trouble,
      el("div", { className: "row" },
        button("back", null, { label: t("back5"), click: () => this.jump(-JUMP_S) }),
        this.toggle,
        button("forward", null, { label: t("forward5"), click: () => this.jump(JUMP_S) }),
        this.times, el("span", { className: "grow" }),
        el("label", { className: "small" }, el("span", { className: "only-wide" }, t("speed")), " ", this.speed)));
    this.setSpeed(Number(remembered("speed")) || 1);
    const { audio } = this;
    audio.onplay = audio.onpause = () => this.#played();
    audio.ontimeupdate = audio.onseeked = audio.onloadedmetadata = () => this.#moved();
    audio.onloadeddata = () => { this.trouble.hidden = true; };
    audio.onerror = () => { this.trouble.hidden = this.patient; };
  }

  get total() {
    const { duration } = this.audio;
    return Number.isFinite(duration) ? duration : this.wave.total;
  }

  /** Loads a recording. With `patient` it may not be there yet, as while its URL is fetched. */
  load(url, { patient = false } = {}) {
    this.patient = patient;
    if (this.audio.src !== url) this.audio.src = url;
  }

  /** Tries a recording again that could not be loaded. */
  again() {
    if (this.audio.error) this.audio.load();
  }

  playOrPause() {
    if (this.audio.paused) void this.audio.play().catch(() => {});
    else this.audio.pause();
  }

  /** Plays from these seconds on. */
  playFrom(seconds) {
    this.seek(seconds);
    void this.audio.play().catch(() => {});
  }

  seek(seconds) {
    this.audio.currentTime = seconds;
    this.#moved();
  }

  jump(seconds) {
    this.seek(Math.min(Math.max(0, this.audio.currentTime + seconds), this.total || Infinity));
  }

  setSpeed(speed) {
    const near = SPEEDS.includes(speed) ? speed : 1;
    this.audio.defaultPlaybackRate = this.audio.playbackRate = near;
    this.speed.value = String(near);
    remember("speed", String(near));
  }

  faster(by) {
    const at = SPEEDS.indexOf(this.audio.playbackRate) + by;
    if (SPEEDS[at]) this.setSpeed(SPEEDS[at]);
  }

  close() {
    cancelAnimationFrame(this.#frame);
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.audio.load();
    this.wave.close();
  }

  #played() {
    const { paused } = this.audio;
    setIcon(this.toggle, paused ? "play" : "pause");
    this.toggle.setAttribute("aria-label", paused ? t("play") : t("pause"));
    const frame = () => {
      this.#moved();
      if (!this.audio.paused) this.#frame = requestAnimationFrame(frame);
    };
    cancelAnimationFrame(this.#frame);
    if (!paused) frame();
  }

  #moved() {
    const { currentTime } = this.audio;
    const words = this.total ? `${clock(currentTime)} / ${clock(this.total)}` : clock(currentTime);
    if (this.times.textContent !== words) this.times.textContent = words;
    this.wave.at(currentTime, this.total);
    this.onTime(currentTime);
  }
}
