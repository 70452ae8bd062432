import { useCallback, useEffect, useRef, useState } from "preact/hooks";

import * as api from "../api";
import { asApiError, useLoaded } from "../app/load";
import { Problem } from "../app/parts";
import { caseAddress, worklistAddress } from "../app/route";
import { nextCase } from "../app/worklist/next";
import "./casepage.css";
import { Decide } from "./Decide";
import type { CaseDesk } from "./desk";
import type { DialogueName, OpenDialogue } from "./dialogues";
import { Export } from "./Export";
import { Reopen, Second, Upload } from "./Handing";
import { Help } from "./Help";
import { press } from "./keyboard";
import { Notices } from "./Notices";
import { openDesk } from "./openDesk";
import { Palette } from "./Palette";
import { Side } from "./Side";
import { Structures } from "./Structures";
import { ProposalBar, ToolOptions } from "./ToolOptions";
import { TopBar } from "./TopBar";
import { ViewBar } from "./ViewBar";
import { WholeStructure } from "./WholeStructure";

/** A case: its pictures, tools to correct it, and what is decided about it. */
export function CasePage({ caseKey }: { caseKey: string }) {
  const host = useRef<HTMLDivElement>(null);
  const [desk, setDesk] = useState<CaseDesk | null>(null);
  const [problem, setProblem] = useState<api.ApiError | null>(null);
  const [turn, setTurn] = useState(0);
  const [dialogue, setDialogue] = useState<OpenDialogue | null>(null);
  const open = useCallback((name: DialogueName, structure: number | null = null) => setDialogue({ name, structure }), []);
  const close = useCallback(() => setDialogue(null), []);
  useEffect(() => {
    let gone = false;
    let opened: CaseDesk | null = null;
    setDesk(null);
    setProblem(null);
    openDesk(caseKey, host.current!).then(
      (made) => {
        if (gone) return made.close();
        opened = made;
        setDesk(made);
      },
      (failure: unknown) => gone || setProblem(asApiError(failure)),
    );
    return () => {
      gone = true;
      opened?.close();
    };
  }, [caseKey, turn]);
  return (
    <main class="case" id="main">
      {problem && (
        <div class="case-problem">
          <Problem problem={problem} retry={() => setTurn(turn + 1)} />
          <a href={worklistAddress()}>Back to the worklist</a>
        </div>
      )}
      {!desk && !problem && (
        <p class="case-problem" role="status">
          Opening the case…
        </p>
      )}
      {desk && <Before key={`before ${desk.key}`} desk={desk} open={open} />}
      <div key="view" class="case-view" ref={host} hidden={problem !== null} />
      {desk && <After key={`after ${desk.key}`} desk={desk} open={open} dialogue={dialogue} close={close} />}
    </main>
  );
}

interface PartProps {
  desk: CaseDesk;
  open: (name: DialogueName, structure?: number | null) => void;
}

/** What stands before the pictures, in reading order. */
function Before({ desk, open }: PartProps) {
  return (
    <>
      <TopBar desk={desk} open={open} next={() => void goOn(desk)} />
      <aside class="case-left" aria-label="Structures">
        <Structures desk={desk} decide={(structure) => open("decide", structure)} />
        <WholeStructure desk={desk} />
      </aside>
      <div class="case-bars">
        <ViewBar desk={desk} />
        <ToolOptions desk={desk} />
      </div>
      <Palette desk={desk} />
    </>
  );
}

/** What stands after the pictures, or over them. */
function After({ desk, open, dialogue, close }: PartProps & { dialogue: OpenDialogue | null; close: () => void }) {
  const findings = useLoaded(() => api.findings(desk.key), desk.key);
  const at = useRef(-1);
  const next = () => void goOn(desk);
  const places = [...(findings.value?.lesions ?? []), ...(findings.value?.findings ?? [])].filter(({ index }) => index);
  const finding = (direction: 1 | -1) => {
    if (places.length === 0) return desk.say("No finding has a place to go to.");
    at.current = at.current < 0 && direction < 0 ? places.length - 1 : (at.current + direction + places.length) % places.length;
    const { text, index } = places[at.current]!;
    desk.jump(index!);
    desk.say(text);
  };
  useKeys(desk, { open, next, finding });
  return (
    <>
      <aside class="case-right" aria-label="About this case">
        <Side desk={desk} findings={findings} />
      </aside>
      <ProposalBar desk={desk} />
      <Notices desk={desk} />
      {dialogue?.name === "decide" && <Decide desk={desk} structure={dialogue.structure} onClose={close} next={next} />}
      {dialogue?.name === "export" && <Export desk={desk} onClose={close} />}
      {dialogue?.name === "upload" && <Upload desk={desk} onClose={close} />}
      {dialogue?.name === "second" && <Second desk={desk} onClose={close} />}
      {dialogue?.name === "reopen" && <Reopen desk={desk} onClose={close} />}
      {dialogue?.name === "help" && <Help onClose={close} />}
    </>
  );
}

/** Opens the case that most needs eyes now. */
async function goOn(desk: CaseDesk): Promise<void> {
  try {
    const key = await nextCase(desk.person.name, desk.key);
    if (key) location.hash = caseAddress(key);
    else desk.notice("No other case waits for you.", "good");
  } catch (failure) {
    desk.notice(asApiError(failure).message, "bad");
  }
}

interface Reach {
  open: (name: DialogueName) => void;
  next: () => void;
  finding: (direction: 1 | -1) => void;
}

function useKeys(desk: CaseDesk, reach: Reach): void {
  const newest = useRef(reach);
  newest.current = reach;
  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      if (press(event, { desk, ...newest.current })) event.preventDefault();
    };
    // The brush's size; taken before the picture takes the wheel to scroll.
    const wheel = (event: WheelEvent) => {
      if (!event.altKey || !(event.target instanceof HTMLElement) || !event.target.closest(".case-view")) return;
      event.preventDefault();
      event.stopPropagation();
      desk.resize(event.deltaY < 0 ? 1 : -1);
    };
    const leave = (event: BeforeUnloadEvent) => {
      if (desk.sender.state.items.length > 0) event.preventDefault();
    };
    addEventListener("keydown", listen);
    addEventListener("wheel", wheel, { capture: true, passive: false });
    addEventListener("beforeunload", leave);
    return () => {
      removeEventListener("keydown", listen);
      removeEventListener("wheel", wheel, { capture: true });
      removeEventListener("beforeunload", leave);
    };
  }, [desk]);
}
