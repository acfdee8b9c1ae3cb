// Signs in with a key. The service answers with a cookie, since sound and events send no header.

import * as api from "./api.js";
import { dialog, el } from "./dom.js";
import { t } from "./words.js";

let asking = null;

/** Asks for the key until one is right. Two that ask at once share the dialog. */
export function askForKey() {
  asking ??= new Promise((resolve) => {
    const key = el("input", { type: "password", "aria-label": t("key"), autocomplete: "current-password", required: true });
    const wrong = el("p", { className: "small bad", role: "alert" });
    const submit = async (event) => {
      event.preventDefault();
      try {
        await api.signIn(key.value.trim());
      } catch (error) {
        wrong.textContent = error.status === 401 || error.status === 403 ? t("keyWrong") : error.message;
        key.select();
        return;
      }
      asking = null;
      shown.close();
      resolve();
    };
    const shown = dialog(t("signIn"), el("form", { on: { submit } }, el("p", {}, t("keyHint")), key, wrong,
      el("div", { className: "row end" }, el("button", { type: "submit", className: "primary" }, t("signIn")))));
    shown.addEventListener("cancel", (event) => event.preventDefault());
  });
  return asking;
}
