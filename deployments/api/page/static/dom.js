// Makes elements, and says things to the reader: messages, questions, announcements.

import { t } from "./words.js";

/**
 * An element. Properties are set as such; `on` holds listeners, `data` the data attributes, and
 * names with a hyphen are attributes. Strings become text nodes, never HTML.
 */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (key === "on") for (const [type, call] of Object.entries(value)) made.addEventListener(type, call);
    else if (key === "data") Object.assign(made.dataset, value);
    else if (key.includes("-") || key === "role" || key === "for") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** An icon of icons.svg. The words beside it, or the button's label, say what it means. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "i");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `page/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** Changes the icon of a button. */
export function setIcon(button, name) {
  button.querySelector("use").setAttribute("href", `page/icons.svg#${name}`);
}

/** A button with an icon, words, or both. Without words shown, `label` is read and is the tip. */
export function button(iconName, words, { label, kind = "", click } = {}) {
  return el(
    "button",
    { type: "button", className: words ? kind : `icon ${kind}`, title: label ?? "", "aria-label": label, on: click ? { click } : {} },
    iconName ? icon(iconName) : null,
    words ? el("span", {}, words) : null,
  );
}

const STAYS_MS = 5000;

/** A short message below the header, with at most one thing to do about it. */
export function toast(words, action) {
  const shown = el("div", { className: "toast" }, el("span", {}, words));
  if (action) {
    const act = () => {
      shown.remove();
      action.act();
    };
    shown.append(button(null, action.words, { kind: "plain", click: act }));
  }
  document.getElementById("toasts").append(shown);
  setTimeout(() => shown.remove(), action ? 3 * STAYS_MS : STAYS_MS);
}

const SAID_AT_MOST = 200; // characters: a screen reader must not fall hours behind
let waiting = "";
let timer = 0;

/** Tells a screen reader, politely and not more than once in two seconds. */
export function announce(words) {
  waiting = `${waiting} ${words}`.slice(-SAID_AT_MOST);
  timer ||= setTimeout(() => {
    document.getElementById("said").replaceChildren(el("p", {}, waiting.trim()));
    [waiting, timer] = ["", 0];
  }, 2000);
}

/** A dialog that takes the focus and gives it back. It is closed by Escape too. */
export function dialog(title, ...children) {
  const heading = el("h2", { id: "dialog-title" }, title);
  const shown = el("dialog", { "aria-labelledby": "dialog-title", on: { close: () => shown.remove() } }, heading, ...children);
  document.body.append(shown);
  shown.showModal();
  return shown;
}

/** Whether the reader confirmed. */
export function ask(question, yes) {
  return new Promise((resolve) => {
    const answer = (said) => () => {
      resolve(said);
      shown.close();
    };
    const shown = dialog(
      question,
      el("div", { className: "row end" },
        button(null, t("cancel"), { click: answer(false) }),
        button("trash", yes, { kind: "danger", click: answer(true) })),
    );
    shown.addEventListener("cancel", () => resolve(false));
  });
}

/** Hands a blob to the browser as a download. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = el("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Copies a text. Pages over plain HTTP have no clipboard of their own, and use the old way. */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = el("textarea", { value: text, className: "unseen" });
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("copy");
  return undefined;
}
