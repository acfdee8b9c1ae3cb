// The waveform: bars on a canvas of our own, which is also the slider of the position.

import { clock, t } from "../words.js";

const BAR = 3; // CSS pixels, with the gap
const STEP_S = 5;

/** The waveform of a recording. `seek` is called with seconds. */
export class Wave {
  #bars = [];
  #peaks = null;
  #at = 0;
  #hover = null;

  constructor(canvas, seek) {
    this.canvas = canvas;
    this.seek = seek;
    this.total = 0;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#goTo(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      this.#hover = event.offsetX;
      if (event.buttons) this.#goTo(event);
      canvas.title = this.total ? clock(this.#seconds(event)) : "";
      this.draw();
    });
    canvas.addEventListener("pointerleave", () => {
      this.#hover = null;
      this.draw();
    });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    this.observer = new ResizeObserver(() => this.#measure());
    this.observer.observe(canvas);
    this.painter = new MutationObserver(() => this.draw());
    this.painter.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  get hasPeaks() {
    return this.#peaks !== null;
  }

  /** Shows peaks as the service computed them: one byte for each 1 / per_second of a second. */
  show({ peaks, duration }) {
    this.#peaks = Uint8Array.from(atob(peaks), (letter) => letter.charCodeAt(0));
    this.total = duration;
    this.#measure();
  }

  /** Moves the mark of the position. */
  at(seconds, total) {
    this.#at = seconds;
    if (total) this.total = total;
    this.canvas.setAttribute("aria-valuemax", String(Math.round(this.total)));
    this.canvas.setAttribute("aria-valuenow", String(Math.round(seconds)));
    this.canvas.setAttribute("aria-valuetext", t("ofTime", { at: clock(seconds), total: clock(this.total) }));
    this.draw();
  }

  close() {
    this.observer.disconnect();
    this.painter.disconnect();
  }

  #seconds(event) {
    return Math.min(1, Math.max(0, event.offsetX / this.canvas.clientWidth)) * this.total;
  }

  #goTo(event) {
    if (this.total) this.seek(this.#seconds(event));
  }

  #key(event) {
    const to = {
      ArrowLeft: this.#at - STEP_S, ArrowDown: this.#at - STEP_S,
      ArrowRight: this.#at + STEP_S, ArrowUp: this.#at + STEP_S,
      PageDown: this.#at - 60, PageUp: this.#at + 60, Home: 0, End: this.total,
    }[event.key];
    if (to === undefined || !this.total) return;
    event.preventDefault();
    event.stopPropagation();
    this.seek(Math.min(this.total, Math.max(0, to)));
  }

  /** One bar for each BAR pixels: the loudest of its peaks, so that an hour takes no longer to draw. */
  #measure() {
    const { canvas } = this;
    canvas.width = canvas.clientWidth * devicePixelRatio;
    canvas.height = canvas.clientHeight * devicePixelRatio;
    const n = Math.max(1, Math.floor(canvas.clientWidth / BAR));
    const peaks = this.#peaks ?? new Uint8Array(0);
    this.#bars = Array.from({ length: n }, (_, i) => {
      const [from, to] = [Math.floor((i * peaks.length) / n), Math.ceil(((i + 1) * peaks.length) / n)];
      let most = 0;
      for (let k = from; k < to; k++) most = Math.max(most, peaks[k]);
      return most / 255;
    });
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const [height, width] = [canvas.clientHeight, canvas.clientWidth];
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const played = this.total ? (this.#at / this.total) * width : 0;
    const [done, rest] = [style.getPropertyValue("--accent"), style.getPropertyValue("--wave")];
    this.#bars.forEach((bar, i) => {
      const tall = Math.max(2, bar * (height - 6));
      pen.fillStyle = i * BAR < played ? done : rest;
      pen.fillRect(i * BAR, (height - tall) / 2, BAR - 1, tall);
    });
    pen.fillStyle = done;
    if (this.total) pen.fillRect(Math.min(width - 2, played), 0, 2, height);
    if (this.#hover !== null && this.total) {
      pen.fillStyle = style.getPropertyValue("--muted");
      pen.fillRect(this.#hover, 0, 1, height);
    }
  }
}
