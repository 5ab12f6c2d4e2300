export type Theme = "auto" | "light" | "dark";

const key = "parley.theme";

export function theme(): Theme {
  const saved = localStorage.getItem(key);
  return saved === "light" || saved === "dark" ? saved : "auto";
}

/** Sets the colours: as the system has them, or as the user wants them here. */
export function applyTheme(next: Theme = theme()): void {
  if (next === "auto") {
    localStorage.removeItem(key);
    delete document.documentElement.dataset["theme"];
  } else {
    localStorage.setItem(key, next);
    document.documentElement.dataset["theme"] = next;
  }
}
