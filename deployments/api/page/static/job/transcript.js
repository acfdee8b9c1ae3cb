// The sentences with their times: shown as they come, marked as they are heard, edited in place.

import { button, el } from "../dom.js";
import { LineEditor } from "./line_editor.js";
import { clock, t } from "../words.js";

const BLOCK = 50; // sentences in one block that the browser skips while it is not on the screen
const FRAME_MS = 8; // of one frame for new sentences, so that ten hours of them do not stop the page
const REST_MS = 4000; // after a reader scrolls, the page does not scroll by itself
const SMOOTH = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";

/**
 * The transcript of one recording.
 * `play(seconds)` is called for a click, `changed(edits)` after each edit.
 */
export class Transcript {
  segments = []; // {index, start, end, text} as the service recognised them
  edits = {}; // index to the text of the reader
  words = null; // index to [{text, start_ms, end_ms}], once loaded
  #rows = []; // the <li> of each segment
  #waiting = [];
  #frame = 0;
  #marked = -1;
  #active = 0;
  #scrolled_at = 0;

  constructor({ play, changed }) {
    Object.assign(this, { play, changed });
    this.editor = new LineEditor(this);
    this.pencil = button("edit", null, { label: t("editing", { time: "" }), kind: "pencil", click: () => this.edit(this.#active) });
    this.pencil.tabIndex = -1;
    this.element = el("div", { className: "transcript", on: {
      click: (event) => this.#clicked(event),
      dblclick: (event) => event.target.closest(".say") && this.edit(this.#indexOf(event.target)),
      focusin: (event) => this.#focused(event),
      pointerover: (event) => this.#focused(event),
      keydown: (event) => this.#key(event),
    } });
    this.scrolled = () => { this.#scrolled_at = performance.now(); };
    for (const type of ["wheel", "touchmove"]) addEventListener(type, this.scrolled, { passive: true });
  }

  close() {
    cancelAnimationFrame(this.#frame);
    for (const type of ["wheel", "touchmove"]) removeEventListener(type, this.scrolled);
    CSS.highlights?.clear();
  }

  /** The text that counts: the reader's, else the recognised one. */
  textOf(index) {
    return this.edits[index] ?? this.segments[index].text;
  }

  /** All of it, a sentence a line. */
  get text() {
    return this.segments.map((one) => this.textOf(one.index)).join("\n");
  }

  /** Adds a sentence. It is on the screen within the next frames. */
  add(segment) {
    this.segments[segment.index] = segment;
    this.#waiting.push(segment);
    this.#frame ||= requestAnimationFrame(() => this.#flush());
  }

  /** Takes the edits that the service has kept. */
  setEdits(edits) {
    const touched = new Set([...Object.keys(this.edits), ...Object.keys(edits)]);
    this.edits = { ...edits };
    for (const index of touched) this.#refresh(Number(index));
  }

  /** Sets the text of some sentences at once, and gives the edits that were there before. */
  change(texts) {
    const before = { ...this.edits };
    for (const [index, text] of Object.entries(texts)) {
      if (text === this.segments[index].text) delete this.edits[index];
      else this.edits[index] = text;
      this.#refresh(Number(index));
    }
    this.changed(this.edits);
    return before;
  }

  /** Marks what is heard at this moment: the word where it is known, and its sentence. */
  at(seconds) {
    const index = this.#lineAt(seconds);
    if (index !== this.#marked) {
      this.#rows[this.#marked]?.removeAttribute("aria-current");
      this.#rows[index]?.setAttribute("aria-current", "true");
      this.#marked = index;
      if (index >= 0 && performance.now() - this.#scrolled_at > REST_MS && !this.editor.open) this.show(index);
    }
    this.#markWord(index, seconds * 1000);
  }

  /** Scrolls a sentence into view. */
  show(index, block = "nearest") {
    this.#rows[index]?.scrollIntoView({ block, behavior: SMOOTH });
  }

  /** Opens a sentence for editing. */
  edit(index) {
    if (this.#rows[index] && this.segments[index]) this.editor.edit(index, this.#rows[index]);
  }

  /** The sentence that keys act on; moving it moves the focus. */
  move(by) {
    const to = Math.min(this.#rows.length - 1, Math.max(0, (this.#marked >= 0 && !this.element.contains(document.activeElement) ? this.#marked : this.#active) + by));
    this.activate(to);
    this.#rows[to]?.firstChild.focus({ preventScroll: true });
    this.show(to);
  }

  get active() {
    return this.#active;
  }

  activate(index) {
    const [before, row] = [this.#rows[this.#active], this.#rows[index]];
    if (!row || this.editor.open) return;
    if (before) before.firstChild.tabIndex = -1;
    row.firstChild.tabIndex = 0;
    this.#active = index;
    this.pencil.setAttribute("aria-label", t("editLine", { time: clock(this.segments[index].start) }));
    this.pencil.title = t("kEdit");
    if (this.pencil.parentNode !== row) row.append(this.pencil);
  }

  /** The text node of a sentence, for marks. */
  nodeOf(index) {
    return this.#rows[index]?.querySelector(".say")?.firstChild ?? null;
  }

  #flush() {
    const began = performance.now();
    const followed = innerHeight + scrollY >= document.documentElement.scrollHeight - 160;
    const [first] = this.#waiting;
    let n = 0;
    while (n < this.#waiting.length && performance.now() - began < FRAME_MS) this.#append(this.#waiting[n++]);
    this.#waiting.splice(0, n);
    this.#frame = this.#waiting.length ? requestAnimationFrame(() => this.#flush()) : 0;
    if (this.live && followed && first?.index > 0) scrollTo({ top: document.documentElement.scrollHeight });
  }

  #append({ index, start, text }) {
    let block = this.element.lastElementChild;
    if (!block || block.childElementCount >= BLOCK) {
      block = el("ol", { className: "block", start: index + 1 });
      this.element.append(block);
    }
    const time = el("button", { type: "button", className: "time", tabIndex: this.#rows.length ? -1 : 0 }, clock(start));
    const shown = this.edits[index] ?? text;
    time.setAttribute("aria-label", t("playFrom", { time: clock(start), text: shown }));
    const row = el("li", { data: { index: String(index) } }, time, el("span", { className: "say" }, shown));
    if (index in this.edits) row.classList.add("edited");
    this.#rows[index] = row;
    block.append(row);
  }

  #refresh(index) {
    const row = this.#rows[index];
    if (!row) return; // not yet shown: it will be with its edit
    row.querySelector(".say")?.replaceChildren(this.textOf(index));
    row.classList.toggle("edited", index in this.edits);
    row.firstChild.setAttribute("aria-label", t("playFrom", { time: clock(this.segments[index].start), text: this.textOf(index) }));
  }

  #lineAt(seconds) {
    let [low, high] = [0, this.segments.length - 1];
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (this.segments[middle].start <= seconds + 0.01) low = middle + 1;
      else high = middle - 1;
    }
    return high >= 0 && seconds < this.segments[high].end + 0.3 ? high : -1;
  }

  /** Finds the word in the shown text; a word that an edit took away is not marked. */
  #markWord(index, now_ms) {
    if (!globalThis.Highlight) return;
    const node = index >= 0 ? this.nodeOf(index) : null;
    let range = null;
    let from = 0;
    for (const word of (node && this.words?.[index]) || []) {
      if (word.start_ms > now_ms) break;
      const found = node.data.indexOf(word.text, from);
      if (found < 0 || found > from + 12) continue;
      from = found + word.text.length;
      range = now_ms < word.end_ms + 150 ? [found, from] : null;
    }
    if (!range) return void CSS.highlights.delete("word");
    const marked = new Range();
    marked.setStart(node, range[0]);
    marked.setEnd(node, range[1]);
    CSS.highlights.set("word", new Highlight(marked));
  }

  #indexOf(target) {
    const row = target.closest("li[data-index]");
    return row ? Number(row.dataset.index) : -1;
  }

  #clicked(event) {
    const index = this.#indexOf(event.target);
    if (index < 0 || this.editor.open || event.detail > 1) return;
    const said = event.target.closest(".say");
    if (said && !getSelection().isCollapsed) return; // text was selected, to be copied
    if (said || event.target.closest(".time")) {
      this.activate(index);
      this.#scrolled_at = 0;
      this.play(this.segments[index].start);
    }
  }

  #focused(event) {
    const index = this.#indexOf(event.target);
    if (index >= 0 && (event.type === "focusin" || event.pointerType === "mouse")) {
      if (event.type === "pointerover" && this.element.contains(document.activeElement)) return;
      this.activate(index);
    }
  }

  #key(event) {
    if (this.editor.open || event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (by) this.move(by);
    else if (event.key === "Home") this.move(-Infinity);
    else if (event.key === "End") this.move(Infinity);
    else if (event.key === "F2") this.edit(this.#active);
    else return;
    event.preventDefault();
  }
}
