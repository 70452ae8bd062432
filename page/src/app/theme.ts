/** Dark or light, as chosen in this browser. Dark unless somebody chose otherwise: reading rooms are. */

export type Theme = "dark" | "light";

const KEY = "delineate.theme";

export function chosenTheme(): Theme {
  try {
    return localStorage.getItem(KEY) === "light" ? "light" : "dark";
  } catch {
    return "dark";
  }
}

export function applyTheme(theme: Theme): void {
  document.documentElement.dataset["theme"] = theme;
}

export function chooseTheme(theme: Theme): void {
  applyTheme(theme);
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // A browser that stores nothing keeps the theme until the page is left.
  }
}
