import { useEffect, useState } from "preact/hooks";

import * as api from "../api";
import type { CaseDetail, Verdict } from "../api";
import { Dialogue, Problem } from "../app/parts";
import { structureName } from "../app/words";
import type { Queue } from "../editing/queue";
import type { CaseDesk } from "./desk";
import { saveText } from "./saving";
import { useStore } from "./store";
import { useTask } from "./useTask";

const VERDICTS: readonly { verdict: Verdict; label: string; hint: string }[] = [
  { verdict: "approve", label: "Approve", hint: "It may be used as it is seen here." },
  { verdict: "reject", label: "Reject", hint: "It must not be used. Say why." },
  { verdict: "escalate", label: "Escalate", hint: "Somebody with more experience should look. Say what for." },
];

interface DecideProps {
  desk: CaseDesk;
  structure: number | null;
  onClose: () => void;
  next: () => void;
}

/** A verdict, signed: on exactly the revision that is seen, by name. */
export function Decide({ desk, structure, onClose, next }: DecideProps) {
  const [detail, setDetail] = useState<CaseDetail | null>(null);
  const [done, setDone] = useState<string | null>(null);
  const loading = useTask();
  const queue = useStore(desk.store, (state) => state.queue);
  useEffect(() => loading.run(async () => setDetail(await desk.signable())), []);
  if (done) return <Done text={done} onClose={onClose} next={next} />;
  return (
    <Dialogue title="Decide" onClose={onClose}>
      {loading.problem && <Problem problem={loading.problem} />}
      {!detail && !loading.problem && <p role="status">{waitingText(queue)}</p>}
      {detail && <Form desk={desk} detail={detail} structure={structure} onClose={onClose} onDone={setDone} />}
      {!detail && (
        <div class="row">
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
        </div>
      )}
    </Dialogue>
  );
}

/** Nothing is signed before all is stored; the bar that says why it is not lies under the dialogue. */
function waitingText(queue: Queue): string {
  if (queue.trouble) return `${saveText(queue)}. ${queue.trouble.text}`;
  return queue.items.length > 0 ? "Waiting until all strokes are saved…" : "Comparing what is shown with what is stored…";
}

interface FormProps {
  desk: CaseDesk;
  detail: CaseDetail;
  structure: number | null;
  onClose: () => void;
  onDone: (text: string) => void;
}

function Form({ desk, detail, structure, onClose, onDone }: FormProps) {
  const [scope, setScope] = useState(structure);
  const [verdict, setVerdict] = useState<Verdict>("approve");
  const [reason, setReason] = useState("");
  const [signature, setSignature] = useState(desk.person.fullName);
  const [password, setPassword] = useState("");
  const task = useTask();
  const { revision, seen } = detail;
  const send = () =>
    task.run(async () => {
      const secret = desk.local ? {} : { password };
      const decision = { verdict, structure: scope, reason, revision, seen, signature, ...secret };
      await api.decide(desk.key, decision);
      await desk.head();
      const what = scope === null ? "The case" : structureName(desk.structure(scope)?.name ?? "The structure");
      onDone(`${what} is ${{ approve: "approved", reject: "rejected", escalate: "escalated" }[verdict]}.`);
    });
  return (
    <form
      class="stack"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <label class="field">
        <span>About</span>
        <select
          class="input"
          value={scope ?? ""}
          onChange={(event) => setScope(event.currentTarget.value === "" ? null : Number(event.currentTarget.value))}
        >
          <option value="">The whole case</option>
          {detail.structures.map(({ value, name }) => (
            <option key={value} value={value}>
              {structureName(name)}
            </option>
          ))}
        </select>
      </label>
      <Verdicts verdict={verdict} onChange={setVerdict} />
      <label class="field">
        <span>Reason{verdict === "approve" ? " (if there is something to say)" : ""}</span>
        <textarea
          class="input"
          rows={2}
          required={verdict !== "approve"}
          maxLength={2000}
          value={reason}
          onInput={(event) => setReason(event.currentTarget.value)}
        />
      </label>
      <Signed desk={desk} detail={detail} />
      <label class="field">
        <span>Signed with your full name</span>
        <input
          class="input"
          required
          autocomplete="off"
          value={signature}
          onInput={(event) => setSignature(event.currentTarget.value)}
        />
      </label>
      {!desk.local && (
        <label class="field">
          <span>Your password</span>
          <input
            class="input"
            type="password"
            required
            autocomplete="current-password"
            value={password}
            onInput={(event) => setPassword(event.currentTarget.value)}
          />
        </label>
      )}
      {task.problem && <Problem problem={task.problem} />}
      <div class="row">
        <button type="submit" class="button primary" disabled={task.busy}>
          Sign: {VERDICTS.find((choice) => choice.verdict === verdict)!.label.toLowerCase()}
        </button>
        <button type="button" class="button" onClick={onClose}>
          Cancel
        </button>
      </div>
    </form>
  );
}

function Verdicts({ verdict, onChange }: { verdict: Verdict; onChange: (verdict: Verdict) => void }) {
  return (
    <fieldset class="verdicts">
      <legend>Verdict</legend>
      {VERDICTS.map(({ verdict: each, label, hint }) => (
        <label key={each} class="row">
          <input type="radio" name="verdict" checked={verdict === each} onChange={() => onChange(each)} />
          <strong>{label}</strong> <span class="muted">{hint}</span>
        </label>
      ))}
    </fieldset>
  );
}

function Signed({ desk, detail }: { desk: CaseDesk; detail: CaseDetail }) {
  const edited = detail.revision > 0;
  return (
    <dl class="signed">
      <dt>Case</dt>
      <dd>{detail.pseudonym}</dd>
      <dt>Revision</dt>
      <dd>
        {detail.revision} {edited ? "(with corrections)" : "(the model's own result)"}
      </dd>
      <dt>Digest of what is seen</dt>
      <dd class="mono" title={detail.seen}>
        {detail.seen.slice(0, 16)}…
      </dd>
      <dt>Reader</dt>
      <dd>{desk.person.fullName}</dd>
    </dl>
  );
}

function Done({ text, onClose, next }: { text: string; onClose: () => void; next: () => void }) {
  return (
    <Dialogue title={text} onClose={onClose}>
      <p>The signature stands in the audit trail.</p>
      <div class="row">
        <button type="button" class="button primary" onClick={next}>
          Next case
        </button>
        <button type="button" class="button" onClick={onClose}>
          Stay here
        </button>
      </div>
    </Dialogue>
  );
}
