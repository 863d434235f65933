// Light or dark: as the system has it, or as chosen here. The choice is kept where storage is allowed.

const SCHEME_KEY = "lm-eval-trust-scheme";
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const schemeListeners = new Set();

const isDark = () => (document.documentElement.dataset.theme ?? (systemDark.matches ? "dark" : "light")) === "dark";

/** Use a scheme from now on; an empty one is the system's. */
function useScheme(scheme) {
  if (scheme) document.documentElement.dataset.theme = scheme;
  else delete document.documentElement.dataset.theme;
  for (const listener of schemeListeners) listener();
}

/** What storage returns; a page opened from disk may have none. */
function stored(act) {
  try {
    return act(localStorage);
  } catch {
    return null;
  }
}

function schemeControl() {
  const options = [["", "as the system"], ["light", "light"], ["dark", "dark"]];
  const saved = stored((kept) => kept.getItem(SCHEME_KEY)) ?? "";
  const chosen = options.some(([name]) => name === saved) ? saved : "";
  useScheme(chosen);
  return labelled("Colours", selectOf(options, chosen, (scheme) => {
    stored((kept) => kept.setItem(SCHEME_KEY, scheme));
    useScheme(scheme);
  }));
}

systemDark.addEventListener("change", () => schemeListeners.forEach((listener) => listener()));

// Paper is white.
let beforePrint = "";
addEventListener("beforeprint", () => {
  beforePrint = document.documentElement.dataset.theme ?? "";
  useScheme("light");
});
addEventListener("afterprint", () => useScheme(beforePrint));
