// Edits the text of one sentence in its place. Its times are not touched.

import { button, el } from "../dom.js";
import { clock, t } from "../words.js";

/** The one sentence that is open for editing. */
export class LineEditor {
  #index = -1;

  constructor(transcript) {
    this.transcript = transcript;
  }

  get open() {
    return this.#index >= 0;
  }

  /** Opens a sentence in its row; one that is open is kept first. */
  edit(index, row) {
    if (index === this.#index) return;
    this.close(true);
    this.#index = index;
    const { transcript } = this;
    const segment = transcript.segments[index];
    this.row = row;
    this.area = el("textarea", {
      value: transcript.textOf(index), rows: 1, spellcheck: false,
      "aria-label": t("editing", { time: clock(segment.start) }),
      on: {
        input: () => this.#grow(),
        keydown: (event) => this.#key(event),
        focusout: (event) => row.contains(event.relatedTarget) || this.close(true),
      },
    });
    const original = () => {
      this.area.value = segment.text;
      this.close(true);
    };
    const hold = { pointerdown: (event) => event.preventDefault() }; // the text keeps the focus
    this.tools = el("span", { className: "tools", on: hold },
      button("check", t("save"), { kind: "plain", click: () => this.close(true) }),
      button(null, t("cancel"), { kind: "plain", click: () => this.close(false) }),
      index in transcript.edits ? button("undo", t("original"), { kind: "plain", click: original }) : null);
    row.querySelector(".say").replaceWith(this.area);
    row.append(this.tools);
    row.classList.add("open");
    this.#grow();
    this.area.focus();
  }

  /** Ends editing, with the text or without. */
  close(keep) {
    if (!this.open) return;
    const [index, { transcript, row, area }] = [this.#index, this];
    this.#index = -1; // first: taking the area away takes its focus, which closes
    const text = area.value.replace(/\s*\n\s*/g, " ").trim();
    const hadFocus = row.contains(document.activeElement);
    area.replaceWith(el("span", { className: "say" }, transcript.textOf(index)));
    this.tools.remove();
    row.classList.remove("open");
    if (hadFocus) row.firstChild.focus({ preventScroll: true });
    if (keep && text !== transcript.textOf(index)) transcript.change({ [index]: text });
  }

  #grow() {
    this.area.style.height = "auto";
    this.area.style.height = `${this.area.scrollHeight}px`;
  }

  #key(event) {
    if (event.isComposing) return; // Enter takes a candidate of the input method
    if (event.key === "Enter") this.close(true);
    else if (event.key === "Escape") this.close(false);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
