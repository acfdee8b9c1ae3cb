// Records from the microphone in slices of five seconds, each kept before the next one ends.

import { unique } from "../api.js";
import * as slices from "./slices.js";

const SLICE_MS = 5000;
const BITS_PER_SECOND = 48_000; // of Opus: ample for speech, 20 MB an hour
const TYPES = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];

/** Why the microphone cannot be used on this page at all: "notSecure", or null. */
export const hindrance = () => (navigator.mediaDevices?.getUserMedia && globalThis.MediaRecorder ? null : "notSecure");

/** A recording that runs. Make one with `record`. */
class Recording {
  #stream;
  #recorder;
  #writes = Promise.resolve();
  #n = 0;
  #ran_ms = 0;
  #since;
  saved = 0; // bytes

  constructor(stream) {
    const type = TYPES.find((one) => MediaRecorder.isTypeSupported(one)) ?? "";
    this.#stream = stream;
    this.#recorder = new MediaRecorder(stream, { mimeType: type, audioBitsPerSecond: BITS_PER_SECOND });
    this.meta = { id: unique(), type: this.#recorder.mimeType || type, began_at: Date.now() / 1000, seconds: 0 };
    this.done = new Promise((resolve, reject) => {
      this.#recorder.onstop = () => this.#writes.then(resolve, reject);
    });
    slices.hold(this.meta.id, this.done);
  }

  /** Seconds so far, without pauses. */
  get seconds() {
    return (this.#ran_ms + (this.#since === undefined ? 0 : performance.now() - this.#since)) / 1000;
  }

  get paused() {
    return this.#recorder.state === "paused";
  }

  async begin() {
    await slices.keep(this.meta);
    this.#recorder.ondataavailable = (event) => this.#keep(event.data);
    this.#recorder.start(SLICE_MS);
    this.#since = performance.now();
    this.flush = () => this.#recorder.state === "recording" && this.#recorder.requestData();
    addEventListener("pagehide", this.flush);
    document.addEventListener("visibilitychange", this.flush);
  }

  #keep(blob) {
    if (!blob.size) return;
    const n = this.#n++;
    this.meta.seconds = this.seconds;
    this.#writes = this.#writes
      .then(() => Promise.all([slices.add(this.meta.id, n, blob), slices.keep(this.meta)]))
      .then(() => { this.saved += blob.size; });
  }

  pause() {
    if (this.paused) {
      this.#recorder.resume();
      this.#since = performance.now();
    } else {
      this.#recorder.pause();
      this.#ran_ms = this.seconds * 1000;
      this.#since = undefined;
    }
  }

  /** Stops, frees the microphone, and gives the recording with its file. */
  async stop() {
    this.#ran_ms = this.seconds * 1000;
    this.#since = undefined;
    if (this.#recorder.state !== "inactive") this.#recorder.stop();
    for (const track of this.#stream.getTracks()) track.stop();
    removeEventListener("pagehide", this.flush);
    document.removeEventListener("visibilitychange", this.flush);
    await this.done;
    return { ...this.meta, blob: await slices.assembled(this.meta) };
  }

  /** Draws the loudness on a canvas until the recording ends. */
  meter(canvas) {
    const context = new AudioContext();
    const analyser = new AnalyserNode(context, { fftSize: 1024 });
    context.createMediaStreamSource(this.#stream).connect(analyser);
    const wave = new Uint8Array(analyser.fftSize);
    const bars = [];
    const draw = () => {
      if (this.#recorder.state === "inactive") return void context.close();
      analyser.getByteTimeDomainData(wave);
      bars.push(wave.reduce((most, value) => Math.max(most, Math.abs(value - 128)), 0) / 128);
      const { width, height } = canvas;
      if (bars.length > width / 4) bars.shift();
      const pen = canvas.getContext("2d");
      pen.clearRect(0, 0, width, height);
      pen.fillStyle = getComputedStyle(canvas).color;
      bars.forEach((bar, i) => {
        const tall = Math.max(2, bar * height);
        pen.fillRect(i * 4, (height - tall) / 2, 2, tall);
      });
      setTimeout(() => requestAnimationFrame(draw), 60);
    };
    draw();
  }
}

/** Asks for the microphone and begins. Throws what the browser says where it refuses. */
export async function record() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const recording = new Recording(stream);
  await recording.begin();
  return recording;
}
