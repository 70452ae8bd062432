import { useEffect, useRef, useState } from "preact/hooks";

import * as api from "../api";
import type { ExportedFile, ExportFormat, FormatChoice } from "../api";
import { Dialogue, Problem } from "../app/parts";
import { decimal } from "../app/words";
import type { CaseDesk } from "./desk";
import { useStore } from "./store";
import { useTask } from "./useTask";

const LABELS: Record<ExportFormat, string> = {
  seg: "DICOM segmentation (SEG)",
  rtstruct: "DICOM contours (RTSTRUCT)",
  sr: "DICOM measurements (SR, with its SEG)",
  nifti: "NIfTI label map",
  glb: "Surfaces (GLB)",
  stl: "Surfaces (STL)",
  report: "Report (HTML)",
};
/** Chosen to begin with, where they fit; the label map where no DICOM object does. */
const USUAL: readonly ExportFormat[] = ["seg", "report"];
const WITHOUT_SERIES: readonly ExportFormat[] = ["nifti", "report"];

function size(bytes: number): string {
  return bytes < 1e6 ? `${decimal(bytes / 1e3, 1)} kB` : `${decimal(bytes / 1e6, 1)} MB`;
}

/** The formats that do not fit, by the reason. */
export function reasonsOf(choices: readonly FormatChoice[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { format, problem } of choices) {
    if (problem) found.set(problem, [...(found.get(problem) ?? []), LABELS[format]]);
  }
  return found;
}

interface ExportProps {
  desk: CaseDesk;
  onClose: () => void;
}

/** Asks for a case in formats of other software, those that fit it only. */
export function Export({ desk, onClose }: ExportProps) {
  const loading = useTask();
  const [there, setThere] = useState<readonly ExportedFile[] | null>(null);
  const ready = there !== null;
  const { formats, exportProblem } = useStore(desk.store, (state) => state.detail);
  // Somebody may have decided, or opened the case again, since it was loaded.
  useEffect(() => loading.run(async () => void (await desk.head(), setThere(await api.exportedFiles(desk.key)))), []);
  return (
    <Dialogue title="Export" onClose={onClose}>
      {loading.problem && <Problem problem={loading.problem} />}
      {!ready && !loading.problem && <p role="status">Waiting until all strokes are saved…</p>}
      {ready && exportProblem && <p class="notice warn">{exportProblem}</p>}
      {ready && !exportProblem && <Writing desk={desk} choices={formats} there={there} onClose={onClose} />}
      {(!ready || exportProblem) && (
        <div class="row">
          <button type="button" class="button" onClick={onClose}>
            Close
          </button>
        </div>
      )}
    </Dialogue>
  );
}

/** `there`: what was exported before of the same approval. */
interface WritingProps {
  desk: CaseDesk;
  choices: readonly FormatChoice[];
  there: readonly ExportedFile[];
  onClose: () => void;
}

/** One format after the other, so that one sees how far it is; then links to what was written. */
function Writing({ desk, choices, there, onClose }: WritingProps) {
  const fitting = choices.filter(({ problem }) => problem === null).map(({ format }) => format);
  const usual = fitting.includes("seg") ? USUAL : WITHOUT_SERIES;
  const [chosen, setChosen] = useState<readonly ExportFormat[]>(usual.filter((format) => fitting.includes(format)));
  const [files, setFiles] = useState(there);
  const [now, setNow] = useState<{ format: ExportFormat; done: number; of: number } | null>(null);
  const [finished, setFinished] = useState(false);
  const gone = useRef(false);
  useEffect(() => () => void (gone.current = true), []);
  const task = useTask();
  const wanted = fitting.filter((format) => chosen.includes(format));
  const toggle = (format: ExportFormat, on: boolean) =>
    setChosen(on ? [...chosen, format] : chosen.filter((other) => other !== format));
  const write = async () => {
    const written = new Map(files.map((file) => [file.name, file]));
    setFinished(false);
    for (const [done, format] of wanted.entries()) {
      if (gone.current) return;
      setNow({ format, done, of: wanted.length });
      for (const file of await api.exportCase(desk.key, [format])) written.set(file.name, file);
      setFiles([...written.values()]);
    }
    setFinished(true);
  };
  const send = () => task.run(() => write().finally(() => setNow(null)));
  return (
    <>
      <p class="muted">It is exported as it was signed, with the reader's name, and read back before you get it.</p>
      <fieldset class="verdicts" disabled={task.busy}>
        <legend>Formats</legend>
        {fitting.map((format) => (
          <label key={format} class="row">
            <input
              type="checkbox"
              checked={chosen.includes(format)}
              onChange={(event) => toggle(format, event.currentTarget.checked)}
            />
            {LABELS[format]}
          </label>
        ))}
      </fieldset>
      <Unfit choices={choices} />
      {task.problem && <Problem problem={task.problem} />}
      <div role="status" class="stack">
        {now && (
          <label class="row">
            <progress max={now.of} value={now.done} />
            Writing {LABELS[now.format]}, {now.done + 1} of {now.of}…
          </label>
        )}
        {finished && <p class="notice good">Written and read back.</p>}
      </div>
      {files.length > 0 && <Files desk={desk} files={files} />}
      <div class="row">
        <button type="button" class="button primary" disabled={task.busy || wanted.length === 0} onClick={send}>
          Export
        </button>
        <button type="button" class="button" onClick={onClose}>
          Close
        </button>
      </div>
    </>
  );
}

function Unfit({ choices }: { choices: readonly FormatChoice[] }) {
  const reasons = [...reasonsOf(choices)];
  if (reasons.length === 0) return null;
  return (
    <div class="muted">
      <p>Not for this case:</p>
      <ul>
        {reasons.map(([reason, labels]) => (
          <li key={reason}>
            {labels.join(", ")}.
            <br />
            {reason}
          </li>
        ))}
      </ul>
    </div>
  );
}

function Files({ desk, files }: { desk: CaseDesk; files: readonly ExportedFile[] }) {
  return (
    <ul class="files" aria-label="Exported files">
      {files.map(({ name, bytes }) => (
        <li key={name}>
          <a href={api.exportUrl(desk.key, name)} download={name}>
            {name}
          </a>{" "}
          <span class="muted">{size(bytes)}</span>
        </li>
      ))}
    </ul>
  );
}
