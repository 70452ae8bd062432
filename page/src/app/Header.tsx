import { useState } from "preact/hooks";

import { signOut, type Session } from "../api";
import type { Route } from "./route";
import { chooseTheme, chosenTheme, type Theme } from "./theme";
import { roleName } from "./words";

interface HeaderProps {
  session: Session;
  page: Route["page"];
  onSignedOut(): void;
}

export function Header({ session, page, onSignedOut }: HeaderProps) {
  const { person, local } = session;
  const link = (target: Route["page"], address: string, text: string) => (
    <a class="nav-link" href={address} aria-current={page === target ? "page" : undefined}>
      {text}
    </a>
  );
  const leave = async () => {
    await signOut().catch(() => {
      // Whoever wants to leave sees the page go; the session ends by itself.
    });
    onSignedOut();
  };
  return (
    <header class="row header">
      <nav class="row" aria-label="Pages">
        <span class="brand">delineate</span>
        {link("worklist", "#/", "Worklist")}
        {link("dashboard", "#/dashboard", "Dashboard")}
        {person.role === "admin" && link("people", "#/people", "People")}
        {person.role === "admin" && link("audit", "#/audit", "Audit trail")}
      </nav>
      <div class="row spread">
        <ThemeButton />
        <span>
          {person.fullName} <span class="muted">· {roleName(person.role)}</span>
        </span>
        {!local && (
          <button type="button" class="button quiet" onClick={leave}>
            Sign out
          </button>
        )}
      </div>
    </header>
  );
}

function ThemeButton() {
  const [theme, setTheme] = useState<Theme>(chosenTheme());
  const other: Theme = theme === "dark" ? "light" : "dark";
  const choose = () => {
    chooseTheme(other);
    setTheme(other);
  };
  return (
    <button type="button" class="button quiet" onClick={choose}>
      {other === "light" ? "Light theme" : "Dark theme"}
    </button>
  );
}

export function Footer({ version }: { version: string }) {
  return (
    <footer class="footer muted">
      delineate {version}. No medical device: a qualified person looks at every result before it is used.{" "}
      <a href="./THIRD_PARTY_LICENSES.txt">Licences</a>
    </footer>
  );
}
