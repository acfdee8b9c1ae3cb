// Find and replace over all sentences, also those that are not on the screen.

import { button, el, toast } from "../dom.js";
import { t } from "../words.js";

const MOST_MARKS = 2000;

/** The bar that finds and replaces in a transcript. */
export class Search {
  #hits = []; // [index, from]
  #at = -1;

  constructor(transcript) {
    this.transcript = transcript;
    this.input = el("input", { type: "search", placeholder: t("search"), "aria-label": t("search"), on: { input: () => this.find(), keydown: (event) => this.#key(event) } });
    this.other = el("input", { type: "text", placeholder: t("replaceWith"), "aria-label": t("replaceWith"), on: { keydown: (event) => this.#key(event) } });
    this.count = el("span", { className: "small count", role: "status" });
    this.element = el("div", { className: "search", role: "search", hidden: true },
      el("div", { className: "row" }, this.input, this.count,
        button("up", null, { label: t("previous"), click: () => this.go(-1) }),
        button("chevron", null, { label: t("nextHit"), click: () => this.go(1) }),
        button("close", null, { label: t("close"), click: () => this.toggle(false) })),
      el("div", { className: "row" }, this.other,
        button(null, t("replace"), { click: () => this.replace() }),
        button(null, t("replaceAll"), { click: () => this.replaceAll() })));
  }

  toggle(open = this.element.hidden) {
    this.element.hidden = !open;
    if (open) this.input.select();
    this.find();
  }

  /** Finds the words anew, and stays at the hit that was shown. */
  find() {
    const words = this.element.hidden ? "" : this.input.value.toLowerCase();
    const before = this.#hits[this.#at];
    this.#hits = [];
    for (const { index } of words ? this.transcript.segments : []) {
      const text = this.transcript.textOf(index).toLowerCase();
      for (let from = text.indexOf(words); from >= 0; from = text.indexOf(words, from + words.length)) this.#hits.push([index, from]);
    }
    const near = before ? this.#hits.findIndex(([index, from]) => index > before[0] || (index === before[0] && from >= before[1])) : 0;
    this.#at = this.#hits.length ? Math.max(0, near) : -1;
    this.#show(Boolean(words));
  }

  go(by) {
    if (!this.#hits.length) return;
    this.#at = (this.#at + by + this.#hits.length) % this.#hits.length;
    this.#show(true);
  }

  replace() {
    const hit = this.#hits[this.#at];
    if (!hit) return;
    const [index, from] = hit;
    const text = this.transcript.textOf(index);
    const { value } = this.other;
    this.transcript.change({ [index]: text.slice(0, from) + value + text.slice(from + this.input.value.length) });
    this.#hits[this.#at] = [index, from + value.length]; // what was put in is not found again at once
    this.find();
  }

  replaceAll() {
    const n = this.#hits.length;
    if (!n) return;
    const texts = {};
    for (const [index, from] of this.#hits.toReversed()) {
      const text = texts[index] ?? this.transcript.textOf(index);
      texts[index] = text.slice(0, from) + this.other.value + text.slice(from + this.input.value.length);
    }
    const before = this.transcript.change(texts);
    this.find();
    const undo = () => {
      this.transcript.setEdits(before);
      this.transcript.changed(before);
      this.find();
    };
    toast(t("replaced", { n }), { words: t("undo"), act: undo });
  }

  #show(asked) {
    const n = this.#hits.length;
    this.count.textContent = !asked ? "" : n ? t("hits", { at: this.#at + 1, n }) : t("noHits");
    if (n) this.transcript.show(this.#hits[this.#at][0], "center");
    if (!globalThis.Highlight) return;
    const length = this.input.value.length;
    CSS.highlights.set("hits", new Highlight(...this.#ranges(this.#hits.slice(0, MOST_MARKS), length)));
    CSS.highlights.set("hit", new Highlight(...this.#ranges(n ? [this.#hits[this.#at]] : [], length)));
  }

  #ranges(hits, length) {
    return hits.flatMap(([index, from]) => {
      const node = this.transcript.nodeOf(index);
      if (!node || node.length < from + length) return [];
      const range = new Range();
      range.setStart(node, from);
      range.setEnd(node, from + length);
      return [range];
    });
  }

  #key(event) {
    if (event.isComposing) return;
    if (event.key === "Escape") this.toggle(false);
    else if (event.key === "Enter" && event.target === this.input) this.go(event.shiftKey ? -1 : 1);
    else if (event.key === "Enter") this.replace();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
