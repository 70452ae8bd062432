import type { ComponentType } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { ApiError, onSessionEnd, session as askSession, signInWithToken, type Session } from "../api";
import { AuditPage } from "./admin/Audit";
import { PeoplePage } from "./admin/People";
import { DashboardPage } from "./dashboard";
import { Footer, Header } from "./Header";
import { Idle } from "./Idle";
import { asApiError } from "./load";
import { Dialogue, Empty, Problem } from "./parts";
import { routeOf, worklistAddress, type Route } from "./route";
import { SignInForm, SignInPage } from "./SignIn";
import { WorklistPage } from "./worklist";

/** `out`: nobody is signed in; `problem`: the server could not say who is. */
type Here = { session: Session } | { problem: ApiError } | "out" | "asking";

export function App() {
  const [here, setHere] = useState<Here>("asking");
  const [ended, setEnded] = useState(false);
  const route = useRoute();
  const ask = () => {
    setHere("asking");
    begun().then(
      (session) => setHere({ session }),
      (caught: unknown) => {
        const problem = asApiError(caught);
        setHere(problem.status === 401 ? "out" : { problem });
      },
    );
  };
  useEffect(() => {
    onSessionEnd(() => setEnded(true));
    ask();
  }, []);
  const begin = (session: Session) => {
    // Strokes that wait are those of the person who drew them: somebody else begins with a page of their own.
    if (typeof here === "object" && "session" in here && here.session.person.name !== session.person.name) {
      return location.reload();
    }
    setEnded(false);
    setHere({ session });
  };
  if (here === "asking") return <main class="page" id="main" aria-busy="true" />;
  if (here === "out") return <SignInPage onSession={begin} />;
  if ("problem" in here) {
    return (
      <main class="page" id="main">
        <Problem problem={here.problem} retry={ask} />
      </main>
    );
  }
  const { session } = here;
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        To the content
      </a>
      {route.page !== "case" && <Header session={session} page={route.page} onSignedOut={() => setHere("out")} />}
      <Page route={route} session={session} />
      {route.page !== "case" && <Footer version={session.version} />}
      {!ended && <Idle limit={session.idleSeconds} onEnd={() => setEnded(true)} />}
      {ended && <AgainDialogue session={session} onSession={begin} />}
    </>
  );
}

/** The session of this browser, or the one that the one-time token in the address gives. */
async function begun(): Promise<Session> {
  const token = new URLSearchParams(location.search).get("token");
  if (token === null) return askSession();
  history.replaceState(null, "", `${location.pathname}${location.hash}`);
  // A token that was used before does not matter to whom it let in.
  return signInWithToken(token).catch(() => askSession());
}

function skip(event: Event): void {
  event.preventDefault();
  const main = document.getElementById("main") ?? document.querySelector("main");
  main?.setAttribute("tabindex", "-1");
  main?.focus();
}

function Page({ route, session }: { route: Route; session: Session }) {
  const admin = session.person.role === "admin";
  if (route.page === "worklist") return <WorklistPage address={route.query} person={session.person} />;
  if (route.page === "case") return <LazyCasePage key={route.key} caseKey={route.key} />;
  if (route.page === "dashboard") return <DashboardPage />;
  if (route.page === "people" && admin) return <PeoplePage local={session.local} />;
  if (route.page === "audit" && admin) return <AuditPage />;
  return (
    <main class="page" id="main">
      <Empty title={route.page === "unknown" ? "There is no such page" : "This page is for administrators"}>
        <p>
          <a href={worklistAddress()}>To the worklist</a>
        </p>
      </Empty>
    </main>
  );
}

type CasePageType = ComponentType<{ caseKey: string }>;

/** The case page with its viewer is a chunk of its own, so that the worklist shows at once. */
function LazyCasePage({ caseKey }: { caseKey: string }) {
  const [Found, setFound] = useState<CasePageType | null>(null);
  const [problem, setProblem] = useState<ApiError | null>(null);
  const load = () => {
    setProblem(null);
    import("../casepage").then(
      ({ CasePage }) => setFound(() => CasePage),
      () => setProblem(new ApiError(0, "A part of the page did not arrive.", "See whether the server still runs.")),
    );
  };
  useEffect(load, []);
  if (Found) return <Found caseKey={caseKey} />;
  return (
    <main class="page" id="main">
      {problem ? <Problem problem={problem} retry={load} /> : <p role="status">Opening the case…</p>}
    </main>
  );
}

/** Signing in again without leaving the page: what somebody was at stays underneath. */
function AgainDialogue({ session, onSession }: { session: Session; onSession(session: Session): void }) {
  return (
    <Dialogue title="Your session has ended" onClose={() => {}} modal="strict">
      <p>Sign in again to go on. What you were doing is still here, and strokes that were not sent yet are kept.</p>
      {session.local ? (
        <GoOn onSession={onSession} />
      ) : (
        <SignInForm onSession={onSession} again={session.person.name} />
      )}
    </Dialogue>
  );
}

/** On one's own machine another window signs in for this one too. */
function GoOn({ onSession }: { onSession(session: Session): void }) {
  const [problem, setProblem] = useState<ApiError | null>(null);
  const goOn = () => askSession().then(onSession, (caught: unknown) => setProblem(asApiError(caught)));
  return (
    <div class="stack">
      <p>
        The server was started anew: open the address that <kbd>delineate review</kbd> printed, then go on here.
      </p>
      {problem && <Problem problem={problem} />}
      <button type="button" class="button primary" onClick={goOn}>
        Go on
      </button>
    </div>
  );
}

const TITLES: Record<Route["page"], string> = {
  worklist: "Worklist",
  case: "Case",
  dashboard: "Dashboard",
  people: "People",
  audit: "Audit trail",
  unknown: "Not found",
};

function useRoute(): Route {
  const [route, setRoute] = useState(routeOf(location.hash));
  const shown = useRef(route.page);
  useEffect(() => {
    const follow = () => setRoute(routeOf(location.hash));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  useEffect(() => {
    document.title = `${route.page === "case" ? route.key : TITLES[route.page]} · delineate review`;
    if (shown.current !== route.page) document.getElementById("main")?.scrollIntoView({ block: "start" });
    shown.current = route.page;
  }, [route]);
  return route;
}
