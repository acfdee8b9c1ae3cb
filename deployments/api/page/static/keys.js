// The keys of the page. Single letters can be switched off, for who dictates or uses a switch.

import { dialog, button, el } from "./dom.js";
import { remember, remembered, t } from "./words.js";

const ROWS = [
  [["Space", "K"], "kPlay"], [["J / ←", "L / →"], "kJump"], [["-", "+"], "kSpeed"], [["↑", "↓"], "kLines"],
  [["Enter"], "kEnter"], [["E", "F2"], "kEdit"], [["/"], "kSearch"],
];

const areOn = () => remembered("keys") !== "0";

/** What each key does with the open view: a player, sentences and the search. */
const ACTS = {
  " ": (view) => view.player.playOrPause(),
  k: (view) => view.player.playOrPause(),
  j: (view) => view.player.jump(-5),
  l: (view) => view.player.jump(5),
  ArrowLeft: (view) => view.player.jump(-5),
  ArrowRight: (view) => view.player.jump(5),
  "-": (view) => view.player.faster(-1),
  "+": (view) => view.player.faster(1),
  "=": (view) => view.player.faster(1),
  ArrowUp: (view) => view.transcript.move(-1),
  ArrowDown: (view) => view.transcript.move(1),
  e: (view) => view.transcript.edit(view.transcript.active),
  "/": (view) => view.search.toggle(true),
};

/** Listens to the keys; `open()` gives the view that is open. */
export function listen(open) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || !areOn()) return;
    if (event.key === "?" && !isTyping(event.target)) return void help();
    const act = ACTS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const view = open();
    if (!act || !view?.player || isTyping(event.target) || document.querySelector("dialog[open]")) return;
    if (event.key === " " && event.target.closest("button:not(.time), summary, a")) return; // Space presses it
    if (event.key.startsWith("Arrow") && event.target.closest("summary, .menu, nav")) return;
    event.preventDefault();
    act(view);
  });
}

const isTyping = (target) => Boolean(target.closest?.("input:not([type=checkbox]), textarea, select"));

/** The list of keys, with the switch. */
export function help() {
  if (document.querySelector("dialog[open]")) return;
  const rows = ROWS.map(([names, words]) => el("tr", {}, el("td", {}, names.map((name) => el("kbd", {}, name))), el("td", {}, t(words))));
  const on = el("input", { type: "checkbox", checked: areOn(), on: { change: () => remember("keys", on.checked ? "1" : "0") } });
  const shown = dialog(t("keys"), el("table", { className: "keys" }, el("tbody", {}, rows)),
    el("label", { className: "check" }, on, t("keysOn")),
    el("div", { className: "row end" }, button(null, t("close"), { click: () => shown.close() })));
}
