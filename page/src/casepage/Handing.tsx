/** Dialogues that hand a case on: exports, uploads, a second reader, opening it again. */

import { useState } from "preact/hooks";

import * as api from "../api";
import type { ExportFormat, ExportedFile } from "../api";
import { Dialogue, Problem } from "../app/parts";
import { decimal } from "../app/words";
import type { CaseDesk } from "./desk";
import { useTask, type Task } from "./useTask";

interface DialogueProps {
  desk: CaseDesk;
  onClose: () => void;
}

const FORMATS: readonly { format: ExportFormat; label: string }[] = [
  { format: "seg", label: "DICOM segmentation (SEG)" },
  { format: "rtstruct", label: "DICOM contours (RTSTRUCT)" },
  { format: "sr", label: "DICOM measurements (SR)" },
  { format: "nifti", label: "NIfTI label map" },
  { format: "glb", label: "Surfaces (GLB)" },
  { format: "stl", label: "Surfaces (STL)" },
  { format: "report", label: "Report (HTML)" },
];

function size(bytes: number): string {
  return bytes < 1e6 ? `${decimal(bytes / 1e3, 1)} kB` : `${decimal(bytes / 1e6, 1)} MB`;
}

/** Asks for a case in formats of other software, then links to what was written. */
export function Export({ desk, onClose }: DialogueProps) {
  const [formats, setFormats] = useState<readonly ExportFormat[]>(["seg", "report"]);
  const [files, setFiles] = useState<readonly ExportedFile[] | null>(null);
  const task = useTask();
  const toggle = (format: ExportFormat, on: boolean) =>
    setFormats(on ? [...formats, format] : formats.filter((other) => other !== format));
  const send = () =>
    task.run(async () => {
      setFiles(null);
      await desk.sender.settled();
      setFiles(await api.exportCase(desk.key, formats));
    });
  return (
    <Dialogue title="Export" onClose={onClose}>
      <p class="muted">Approved cases are exported as they were signed, with the reader's name.</p>
      <fieldset class="verdicts">
        <legend>Formats</legend>
        {FORMATS.map(({ format, label }) => (
          <label key={format} class="row">
            <input
              type="checkbox"
              checked={formats.includes(format)}
              onChange={(event) => toggle(format, event.currentTarget.checked)}
            />
            {label}
          </label>
        ))}
      </fieldset>
      {task.problem && <Problem problem={task.problem} />}
      {files && (
        <ul class="files" role="status">
          {files.map(({ name, bytes }) => (
            <li key={name}>
              <a href={api.exportUrl(desk.key, name)} download={name}>
                {name}
              </a>{" "}
              <span class="muted">{size(bytes)}</span>
            </li>
          ))}
        </ul>
      )}
      <Buttons task={task} label={task.busy ? "Writing…" : "Export"} able={formats.length > 0} onClose={onClose} send={send} />
    </Dialogue>
  );
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
