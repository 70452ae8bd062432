/** Small parts that several pages share. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

import type { ApiError, CaseStructure, State } from "../api";
import { stateName, stateTone } from "./words";

export function Problem({ problem, retry }: { problem: ApiError; retry?: () => void }) {
  return (
    <div class="notice bad" role="alert">
      <p>
        <strong>{problem.problem}</strong> {problem.remedy}
      </p>
      {retry && (
        <button type="button" class="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <div class="empty panel">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function StateChip({ state }: { state: State }) {
  return <span class={`chip ${stateTone(state)}`}>{stateName(state)}</span>;
}

/** A structure's colour. Set through the DOM: the content policy lets no style attribute through. */
export function Swatch({ colour }: { colour: CaseStructure["colour"] }) {
  const host = useRef<HTMLSpanElement>(null);
  const [red, green, blue] = colour;
  useEffect(() => {
    if (host.current) host.current.style.backgroundColor = `rgb(${red} ${green} ${blue})`;
  }, [red, green, blue]);
  return <span class="swatch" ref={host} aria-hidden="true" />;
}

export interface SelectProps {
  label: string;
  value: string;
  options: readonly (readonly [value: string, text: string])[];
  onChange(value: string): void;
}

export function Select({ label, value, options, onChange }: SelectProps) {
  return (
    <label class="field">
      <span>{label}</span>
      <select class="input" value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {options.map(([each, text]) => (
          <option key={each} value={each}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

/** A table that scrolls inside its own region, also by keyboard, where the window is narrow. */
export function TableRegion({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    <div class="table-region" role="region" aria-label={label} tabIndex={0}>
      {children}
    </div>
  );
}

/** A dialogue over the page, which keeps the focus inside until it is closed, and gives it back then. */
export function Dialogue(props: { title: string; onClose: () => void; children: ComponentChildren; modal?: "strict" }) {
  const host = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = host.current;
    const before = focused();
    if (dialog && !dialog.open) dialog.showModal();
    return () => {
      dialog?.close();
      if (focused() === null) before?.focus();
    };
  }, []);
  useEffect(() => {
    // What had the focus may have given way to something else; then it is the dialogue's, from where Tab goes on.
    if (focused() === null) host.current?.focus();
  });
  const cancel = (event: Event) => {
    event.preventDefault();
    if (props.modal !== "strict") props.onClose();
  };
  return (
    <dialog ref={host} class={props.modal} aria-labelledby="dialogue-title" tabIndex={-1} onCancel={cancel}>
      <div class="stack">
        <h2 id="dialogue-title">{props.title}</h2>
        {props.children}
      </div>
    </dialog>
  );
}

/** What has the focus; null where it lies on nothing, or on something that was taken from the page. */
function focused(): HTMLElement | null {
  const { activeElement } = document;
  return activeElement instanceof HTMLElement && activeElement !== document.body ? activeElement : null;
}
