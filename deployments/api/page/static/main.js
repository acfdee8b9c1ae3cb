// Puts the page together: who is signed in, which view is open, language and colours.

import * as api from "./api.js";
import { DirectView } from "./job/direct.js";
import { button, el, icon, setIcon, toast } from "./dom.js";
import { JobView } from "./job/job.js";
import * as keys from "./keys.js";
import { JobList } from "./list.js";
import { askForKey } from "./sign_in.js";
import { StartView } from "./start/start.js";
import { isChinese, remember, switchLanguage, t, translate } from "./words.js";

const by = (id) => document.getElementById(id);
const root = document.documentElement;
let view = null;

const list = new JobList(by("side"), {
  trouble: (sentence) => {
    list.isInTrouble = sentence !== null;
    by("trouble").hidden = sentence === null;
    by("trouble").textContent = sentence ?? "";
  },
});

/** Shows a view in the place of the one that is open. */
function put(next, focus = true) {
  view?.close?.();
  view = next;
  by("main").replaceChildren(next.element);
  scrollTo(0, 0);
  if (focus) next.element.querySelector("h1")?.focus({ preventScroll: true });
  void next.begin?.();
}

const start = () => new StartView({
  enabled: list.enabled,
  latest: (id) => list.get(id),
  transcribe: (source, options) => put(new DirectView(source, options)),
});

/** Opens what the address names: a job, or the start. */
async function route(focus = true) {
  drawer(false);
  const id = decodeURIComponent(/^#\/job\/(.+)$/.exec(location.hash)?.[1] ?? "");
  list.mark(id || null);
  if (!id) return put(start(), focus);
  try {
    const job = await api.job(id);
    if (!location.hash.endsWith(encodeURIComponent(id))) return; // meanwhile the reader went on
    put(new JobView(job, { changed: (one) => list.put(one), gone: (gone) => { list.drop(gone); location.hash = "#/"; } }), focus);
  } catch (error) {
    if (error.status === 401) return; // the dialog for the key is open
    put(missing(error.status === 404 ? t("eGone") : error.message));
  }
}

/** The view of a job that cannot be shown. */
const missing = (why) => ({
  element: el("article", { className: "hint" }, icon("warn"), el("h1", { tabIndex: -1 }, why),
    el("div", { className: "row center" }, button(null, t("retry"), { click: () => route() }), el("a", { className: "button primary", href: "#/" }, t("newJob")))),
});

function drawer(open) {
  by("side").classList.toggle("open", open);
  by("shade").hidden = !open;
  by("drawer").setAttribute("aria-expanded", String(open));
  if (open) by("side").querySelector("a").focus();
}

/** Writes what the header says, in the language of the page. */
function header() {
  translate();
  const dark = root.dataset.theme === "dark";
  by("language").textContent = isChinese() ? "EN" : "中文";
  by("language").lang = isChinese() ? "en" : "zh-CN";
  by("language").setAttribute("aria-label", isChinese() ? "EN, English" : "中文");
  by("theme").setAttribute("aria-label", dark ? t("toLight") : t("toDark"));
  by("theme").title = dark ? t("toLight") : t("toDark");
  setIcon(by("theme"), dark ? "sun" : "moon");
}

by("drawer").onclick = () => drawer(!by("side").classList.contains("open"));
by("shade").onclick = () => drawer(false);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || by("shade").hidden) return;
  drawer(false);
  by("drawer").focus();
});
by("keys").onclick = () => keys.help();
by("language").onclick = switchLanguage;
by("theme").onclick = () => {
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  remember("theme", root.dataset.theme);
  header();
};
by("leave").onclick = async () => {
  await api.signOut().catch((error) => toast(error.message));
  location.reload();
};
addEventListener("language", () => {
  header();
  list.build();
  if (!(view instanceof DirectView)) void route(false); // its text would be lost
});
addEventListener("hashchange", () => route());
addEventListener("signed-out", async () => {
  await askForKey();
  location.reload();
});
document.querySelector(".skip").onclick = (event) => {
  event.preventDefault();
  by("main").focus();
};
keys.listen(() => view);

/** Signs in where keys are required, asks for the jobs, and opens the view. */
async function begin() {
  header();
  put(start(), false); // at once: the service may take a moment
  try {
    const who = await api.session();
    by("leave").hidden = !who.signed_in;
    if (who.keys_required && !who.signed_in) {
      await askForKey();
      by("leave").hidden = false;
    }
  } catch (error) {
    if (error.status !== 401) list.trouble(error.message);
  }
  const jobs = list.enabled;
  await list.refresh();
  if (location.hash.length > 2 || list.enabled !== jobs) await route(false);
}

void begin();
