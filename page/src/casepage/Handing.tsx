/** Dialogues that hand a case on: uploads, a second reader, opening it again. */

import { useState } from "preact/hooks";

import * as api from "../api";
import { Dialogue, Problem } from "../app/parts";
import type { CaseDesk } from "./desk";
import { useTask, type Task } from "./useTask";

interface DialogueProps {
  desk: CaseDesk;
  onClose: () => void;
}

/** Takes a mask that was corrected elsewhere as a new revision. */
export function Upload({ desk, onClose }: DialogueProps) {
  const [file, setFile] = useState<File | null>(null);
  const task = useTask();
  const send = () =>
    task.run(async () => {
      if (!file) return;
      const { revision } = await desk.head();
      const stored = await api.upload(desk.key, file, revision);
      await desk.sender.catchUp(stored.revision);
      desk.notice(`${file.name} is revision ${stored.revision}.`, "good");
      onClose();
    });
  return (
    <Dialogue title="Upload a corrected mask" onClose={onClose}>
      <p>
        A NIfTI label map (.nii.gz) on this scan's grid, with the same values as here. It becomes a new revision; what was
        there before stays in the history.
      </p>
      <label class="field">
        <span>File</span>
        <input
          class="input"
          type="file"
          accept=".nii.gz,.gz,application/gzip"
          onChange={(event) => setFile(event.currentTarget.files?.[0] ?? null)}
        />
      </label>
      {task.problem && <Problem problem={task.problem} />}
      <Buttons task={task} label="Upload" able={file !== null} onClose={onClose} send={send} />
    </Dialogue>
  );
}

/** Asks another person to confirm. */
export function Second({ desk, onClose }: DialogueProps) {
  const [name, setName] = useState("");
  const task = useTask();
  const send = () =>
    task.run(async () => {
      await api.askSecond(desk.key, name.trim());
      await desk.head();
      desk.notice(`${name.trim()} is asked to read this case as well.`, "good");
      onClose();
    });
  return (
    <Dialogue title="Ask a second reader" onClose={onClose}>
      <p>An approval then counts only when this person, who is not the first reader, has approved as well.</p>
      <label class="field">
        <span>Their sign-in name</span>
        <input class="input" value={name} autocomplete="off" onInput={(event) => setName(event.currentTarget.value)} />
      </label>
      {task.problem && <Problem problem={task.problem} />}
      <Buttons task={task} label="Ask" able={name.trim() !== ""} onClose={onClose} send={send} />
    </Dialogue>
  );
}

/** Opens a decided case again. */
export function Reopen({ desk, onClose }: DialogueProps) {
  const [reason, setReason] = useState("");
  const task = useTask();
  const send = () =>
    task.run(async () => {
      await api.reopen(desk.key, reason);
      await desk.head();
      onClose();
    });
  return (
    <Dialogue title="Reopen this case" onClose={onClose}>
      <p>The earlier decision stays in the audit trail; the case must be decided anew.</p>
      <label class="field">
        <span>Reason</span>
        <textarea class="input" rows={2} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
      </label>
      {task.problem && <Problem problem={task.problem} />}
      <Buttons task={task} label="Reopen" able={reason.trim() !== ""} onClose={onClose} send={send} />
    </Dialogue>
  );
}

interface ButtonsProps {
  task: Task;
  label: string;
  able: boolean;
  onClose: () => void;
  send: () => void;
}

function Buttons({ task, label, able, onClose, send }: ButtonsProps) {
  return (
    <div class="row">
      <button type="button" class="button primary" disabled={task.busy || !able} onClick={send}>
        {label}
      </button>
      <button type="button" class="button" onClick={onClose}>
        Close
      </button>
    </div>
  );
}
