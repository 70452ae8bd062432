import { useEffect, useRef, useState } from "preact/hooks";

import { signIn, type ApiError, type Session } from "../api";
import { asApiError } from "./load";
import { Problem } from "./parts";

/** Name and password. `again`: the session ended while somebody was at work. */
export function SignInForm({ onSession, again }: { onSession: (session: Session) => void; again?: string }) {
  const [problem, setProblem] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const name = useRef<HTMLInputElement>(null);
  const password = useRef<HTMLInputElement>(null);
  useEffect(() => (again === undefined ? name : password).current?.focus(), []);
  const submit = async (event: Event) => {
    event.preventDefault();
    if (busy || !name.current || !password.current) return;
    setBusy(true);
    try {
      onSession(await signIn(name.current.value.trim(), password.current.value));
    } catch (caught) {
      setProblem(asApiError(caught));
      password.current.value = "";
      password.current.focus();
    } finally {
      setBusy(false);
    }
  };
  return (
    <form class="stack" onSubmit={submit}>
      {problem && <Problem problem={problem} />}
      <label class="field">
        <span>Name</span>
        <input class="input" name="name" autocomplete="username" required ref={name} defaultValue={again ?? ""} />
      </label>
      <label class="field">
        <span>Password</span>
        <input class="input" name="password" type="password" autocomplete="current-password" required ref={password} />
      </label>
      <button type="submit" class="button primary" aria-disabled={busy}>
        {busy ? "Signing in…" : "Sign in"}
      </button>
      <p class="muted">
        On your own machine you need no password: open the address that <kbd>delineate review</kbd> printed. It works
        once; start the command again for a new one. Accounts are made by an administrator, with{" "}
        <kbd>delineate review-people add</kbd>.
      </p>
    </form>
  );
}

export function SignInPage({ onSession }: { onSession: (session: Session) => void }) {
  return (
    <main class="sign-in" id="main">
      <div class="panel stack">
        <h1>delineate review</h1>
        <SignInForm onSession={onSession} />
      </div>
    </main>
  );
}
