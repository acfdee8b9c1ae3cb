// Runs before the first paint, so that neither the colours nor the language flicker.
(function () {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const stored = (key) => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null; // storage is switched off
    }
  };
  const paint = () => {
    root.dataset.theme = stored("theme") || (dark.matches ? "dark" : "light");
  };
  paint();
  dark.addEventListener("change", paint);
  const language = stored("language") || (/^zh/i.test(navigator.language) ? "zh" : "en");
  root.lang = language === "zh" ? "zh-CN" : "en";
})();
