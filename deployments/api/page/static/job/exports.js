// The menu of what a transcript can be saved as.

import { button, el, icon } from "../dom.js";
import { t } from "../words.js";

/** The formats of a finished job. The server writes each of them, with the edits. */
const FORMATS = { docx: "docx", text: "text", srt: "srt", vtt: "vtt", lrc: "lrc", detailed_json: "json" };

/**
 * A button that opens a list. It closes by Escape, by a choice, and by a click elsewhere.
 * @param {{save: (format: string) => void, copy: () => void, only?: string[]}} calls
 */
export function exportMenu({ save, copy, only }) {
  const close = () => {
    menu.open = false;
  };
  const item = (words, act) => button(null, words, { kind: "item", click: () => { close(); act(); } });
  const formats = Object.entries(FORMATS).filter(([format]) => !only || only.includes(format));
  const menu = el("details", { className: "menu", on: {
    keydown: (event) => {
      if (event.key !== "Escape" || !menu.open) return;
      close();
      menu.firstChild.focus();
    },
    focusout: (event) => event.relatedTarget && !menu.contains(event.relatedTarget) && close(),
    toggle: () => menu.open && document.addEventListener("pointerdown", outside),
  } },
  el("summary", { className: "primary" }, icon("down"), el("span", {}, t("export"))),
  el("div", { className: "list" }, item(t("copy"), copy), formats.map(([format, words]) => item(t(words), () => save(format)))));
  const outside = (event) => {
    if (menu.contains(event.target)) return;
    close();
    document.removeEventListener("pointerdown", outside);
  };
  return menu;
}
