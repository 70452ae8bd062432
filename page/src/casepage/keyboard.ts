/** The keys of the case page: one list for what they do and for the help. */

import type { Plane, Style } from "../contract";
import { LAYOUTS, SHOWN, TOOLS } from "./choices";
import type { CaseDesk } from "./desk";
import type { DialogueName } from "./dialogues";

export interface KeyContext {
  desk: CaseDesk;
  open: (dialogue: DialogueName) => void;
  next: () => void;
  /** To the next (1) or the previous (-1) finding that has a place. */
  finding: (direction: 1 | -1) => void;
}

export interface Binding {
  /** As the help shows it. */
  keys: string;
  does: string;
  group: "Tools" | "Drawing" | "Structures" | "Pictures" | "Case";
  matches: (event: KeyboardEvent) => boolean;
  run: (context: KeyContext, event: KeyboardEvent) => void;
}

const letter = (key: string) => (event: KeyboardEvent) => plain(event) && event.key === key;
const plain = (event: KeyboardEvent) => !event.ctrlKey && !event.metaKey && !event.altKey;
const withControl = (event: KeyboardEvent) => (event.ctrlKey || event.metaKey) && !event.altKey;
/** The digit of a key, whatever Shift makes of it on this keyboard; 0 for another key. */
const digit = (event: KeyboardEvent) => Number(/^Digit([1-9])$/.exec(event.code)?.[1] ?? 0);

const DRAWING: readonly Binding[] = [
  {
    keys: "Enter",
    does: "Accept the proposal; without one, use the tool at the crosshair",
    group: "Drawing",
    matches: (event) => plain(event) && event.key === "Enter" && !event.shiftKey,
    run: ({ desk }) => desk.enter(),
  },
  {
    keys: "d",
    does: "Use the tool at the crosshair: paint, set a corner, click",
    group: "Drawing",
    matches: letter("d"),
    run: ({ desk }) => desk.act(false),
  },
  {
    keys: "Shift + D",
    does: "Use the tool at the crosshair the other way round: erase, click what does not belong",
    group: "Drawing",
    matches: letter("D"),
    run: ({ desk }) => desk.act(true),
  },
  {
    keys: "Esc",
    does: "Leave off the line or proposal; then the tool",
    group: "Drawing",
    matches: letter("Escape"),
    run: ({ desk }) => desk.escape(),
  },
  {
    keys: "Backspace",
    does: "Take back the last hint of a proposal",
    group: "Drawing",
    matches: letter("Backspace"),
    run: ({ desk }) => desk.proposals.open && desk.proposals.takeBack(),
  },
  {
    keys: "[ and ]",
    does: "Smaller and larger brush (also Alt + wheel)",
    group: "Drawing",
    // Keyboards without brackets of their own make them with AltGr, which says Ctrl and Alt.
    matches: (event) => event.key === "[" || event.key === "]",
    run: ({ desk }, { key }) => desk.resize(key === "]" ? 1 : -1),
  },
  {
    keys: "g",
    does: "Brush as a disc in the slice, or as a ball",
    group: "Drawing",
    matches: letter("g"),
    run: ({ desk }) => {
      const shape = desk.store.get().drawing.shape === "disc" ? "ball" : "disc";
      desk.setDrawing({ shape });
      desk.say(shape === "disc" ? "Brush: disc in the slice" : "Brush: ball");
    },
  },
  {
    keys: "u",
    does: "Paint over background only, or over everything",
    group: "Drawing",
    matches: letter("u"),
    run: ({ desk }) => {
      const over = desk.store.get().drawing.over === "all" ? "background" : "all";
      desk.setDrawing({ over });
      desk.say(over === "all" ? "Paints over everything" : "Paints over background only");
    },
  },
  {
    keys: "z, Ctrl + Z",
    does: "Undo",
    group: "Drawing",
    matches: (event) => letter("z")(event) || (withControl(event) && event.key === "z"),
    run: ({ desk }) => desk.undo(),
  },
  {
    keys: "Shift + Z, Ctrl + Y",
    does: "Redo",
    group: "Drawing",
    matches: (event) => letter("Z")(event) || (withControl(event) && (event.key === "y" || event.key === "Z")),
    run: ({ desk }) => desk.redo(),
  },
];

const STRUCTURES: readonly Binding[] = [
  {
    keys: "1 to 9",
    does: "Choose the structure to draw",
    group: "Structures",
    matches: (event) => plain(event) && !event.shiftKey && digit(event) > 0,
    run: ({ desk }, event) => {
      const structure = desk.store.get().detail.structures[digit(event) - 1];
      if (structure) desk.choose(structure.value);
    },
  },
  {
    keys: "j, Shift + J",
    does: "Next and previous structure",
    group: "Structures",
    matches: (event) => letter("j")(event) || letter("J")(event),
    run: ({ desk }, { key }) => {
      const { detail, active } = desk.store.get();
      const { structures } = detail;
      if (structures.length === 0) return;
      const at = structures.findIndex(({ value }) => value === active) + (key === "j" ? 1 : -1);
      desk.choose(structures[(at + structures.length) % structures.length]!.value);
    },
  },
  {
    keys: "h",
    does: "Hide or show the active structure",
    group: "Structures",
    matches: letter("h"),
    run: ({ desk }) => {
      const { active } = desk.store.get();
      if (active !== null) desk.toggleHidden(active);
    },
  },
];

const PLANES: readonly Plane[] = ["axial", "coronal", "sagittal"];

const PICTURES: readonly Binding[] = [
  {
    keys: "y",
    does: "Go on to the next picture (axial, coronal, sagittal)",
    group: "Pictures",
    matches: letter("y"),
    run: ({ desk }) => desk.turnTo(PLANES[(PLANES.indexOf(desk.view.activePlane()) + 1) % 3]!),
  },
  {
    keys: "Shift + 1 to 5",
    does: `Layout: ${LAYOUTS.map(({ label }) => label.toLowerCase()).join(", ")}`,
    group: "Pictures",
    matches: (event) => plain(event) && event.shiftKey && digit(event) > 0,
    run: ({ desk }, event) => {
      const layout = LAYOUTS[digit(event) - 1];
      if (layout) desk.setLayout(layout.name);
    },
  },
  {
    keys: "w",
    does: "Next window preset",
    group: "Pictures",
    matches: letter("w"),
    run: ({ desk }) => {
      const { detail, window } = desk.store.get();
      const { windows } = detail.image;
      const at = windows.findIndex(({ lower, upper }) => lower === window.lower && upper === window.upper);
      const next = windows[(at + 1) % windows.length];
      if (!next) return;
      desk.setWindow({ lower: next.lower, upper: next.upper });
      desk.say(`Window ${next.name}`);
    },
  },
  {
    keys: "r",
    does: "Show labels, the model's result, the reference, the difference",
    group: "Pictures",
    matches: letter("r"),
    run: ({ desk }) => {
      const { detail, style } = desk.store.get();
      const choices = SHOWN.filter(({ needsReference }) => detail.hasReference || !needsReference);
      const at = choices.findIndex(({ name }) => name === style.shown);
      const next = choices[(at + 1) % choices.length]!;
      desk.setStyle({ shown: next.name as Style["shown"] });
      desk.say(`Shown: ${next.label}`);
    },
  },
  {
    keys: "k",
    does: "Contours or filled areas",
    group: "Pictures",
    matches: letter("k"),
    run: ({ desk }) => desk.setStyle({ contour: !desk.store.get().style.contour }),
  },
  {
    keys: "q, Shift + Q",
    does: "Labels less and more opaque",
    group: "Pictures",
    matches: (event) => letter("q")(event) || letter("Q")(event),
    run: ({ desk }, { key }) => {
      const opacity = desk.store.get().style.opacity + (key === "Q" ? 0.15 : -0.15);
      desk.setStyle({ opacity: Math.min(Math.max(opacity, 0), 1) });
    },
  },
  {
    keys: "x",
    does: "Hide or show the crosshair",
    group: "Pictures",
    matches: letter("x"),
    run: ({ desk }) => desk.setStyle({ crosshair: !desk.store.get().style.crosshair }),
  },
];

const CASE: readonly Binding[] = [
  {
    keys: "f, Shift + F",
    does: "Go to the next and the previous finding",
    group: "Case",
    matches: (event) => letter("f")(event) || letter("F")(event),
    run: ({ finding }, { key }) => finding(key === "f" ? 1 : -1),
  },
  { keys: "a", does: "Decide", group: "Case", matches: letter("a"), run: ({ open }) => open("decide") },
  { keys: "n", does: "Next case of the worklist", group: "Case", matches: letter("n"), run: ({ next }) => next() },
  { keys: "?", does: "This help", group: "Case", matches: letter("?"), run: ({ open }) => open("help") },
];

export const BINDINGS: readonly Binding[] = [
  ...TOOLS.map(
    ({ key, label, hint, name }): Binding => ({
      keys: key,
      does: `${label}: ${hint.charAt(0).toLowerCase()}${hint.slice(1)}`,
      group: "Tools",
      matches: letter(key),
      run: ({ desk }) => desk.select(name),
    }),
  ),
  ...DRAWING,
  ...STRUCTURES,
  ...PICTURES,
  ...CASE,
];

/** Keys that a slice handles itself when it has the focus. */
const OF_PICTURES = ["PageUp", "PageDown", "Home", "End", "+", "-", "=", "0", "c", ",", ".", ";", ":"];
const ARROWS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];

/** What the focused element needs for itself. */
function takenBy(target: EventTarget | null, event: KeyboardEvent): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (document.querySelector("dialog[open]") || target.isContentEditable) return true;
  if (target instanceof HTMLInputElement && (target.type === "range" || target.type === "checkbox")) {
    return event.key.length > 1 || event.key === " ";
  }
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName)) return true;
  const presses = event.key === "Enter" || event.key === " ";
  const moves = ARROWS.includes(event.key) && target.closest("[role=tablist], [role=tabpanel]") !== null;
  return moves || (presses && /^(BUTTON|A|SUMMARY)$/.test(target.tagName));
}

/** Acts on a key press anywhere on the case page. True where it was used. */
export function press(event: KeyboardEvent, context: KeyContext): boolean {
  if (event.defaultPrevented || takenBy(event.target, event)) return false;
  const binding = BINDINGS.find(({ matches }) => matches(event));
  if (binding) {
    binding.run(context, event);
    return true;
  }
  if (!plain(event) || ![...OF_PICTURES, ...ARROWS].includes(event.key)) return false;
  return context.desk.passToPicture(event);
}
