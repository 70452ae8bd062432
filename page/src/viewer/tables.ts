/** Tables from stored values to colours: bytes red, green, blue, opacity in memory (little-endian words). */

import type { Triple, WindowLevel } from "../contract";

const PATTERNS = 65536;

export function word(colour: Triple, opacity: number): number {
  const alpha = Math.round(Math.min(Math.max(opacity, 0), 1) * 255);
  return ((alpha << 24) | (colour[2] << 16) | (colour[1] << 8) | colour[0]) >>> 0;
}

/** Grey of each 16-bit pattern of an int16: black at the window's lower end and below, white at its upper and above. */
export function greyTable(window: WindowLevel, slope: number, intercept: number): Uint32Array {
  const table = new Uint32Array(PATTERNS);
  const width = Math.max(window.upper - window.lower, 1e-6);
  for (let pattern = 0; pattern < PATTERNS; pattern++) {
    const stored = pattern < 32768 ? pattern : pattern - PATTERNS;
    const share = (stored * slope + intercept - window.lower) / width;
    const grey = Math.round(Math.min(Math.max(share, 0), 1) * 255);
    table[pattern] = (0xff000000 | (grey << 16) | (grey << 8) | grey) >>> 0;
  }
  return table;
}

/** A colour for values that no structure names, so that nothing stored stays unseen. */
export const UNNAMED: Triple = [255, 255, 255];

/** Colour of each value; 0 has none. */
export function colourTable(colours: ReadonlyMap<number, Triple>, opacity: number): Uint32Array {
  const table = new Uint32Array(PATTERNS).fill(word(UNNAMED, opacity), 1);
  for (const [value, colour] of colours) table[value] = word(colour, opacity);
  table[0] = 0;
  return table;
}

/**
 * Stored value -> value to show: hidden ones become 0. A layer of its own stores 1 for its structure.
 */
export function shownTable(hidden: ReadonlySet<number>, layer: number): Uint16Array {
  const table = new Uint16Array(PATTERNS);
  if (layer === 0) for (let value = 1; value < PATTERNS; value++) table[value] = value;
  else table.fill(layer, 1);
  if (layer !== 0 && hidden.has(layer)) table.fill(0);
  else for (const value of hidden) if (layer === 0 && value < PATTERNS) table[value] = 0;
  return table;
}

/** Colours of what `compare` says: the same faintly, only the first blue, only the second orange, two structures pink. */
export const DIFFERENCE: ReadonlyMap<number, { colour: Triple; faint: boolean }> = new Map([
  [1, { colour: [190, 200, 210], faint: true }],
  [2, { colour: [60, 180, 255], faint: false }],
  [3, { colour: [255, 150, 40], faint: false }],
  [4, { colour: [255, 90, 200], faint: false }],
]);

export function differenceTable(opacity: number): Uint32Array {
  const table = new Uint32Array(PATTERNS);
  for (const [kind, { colour, faint }] of DIFFERENCE) table[kind] = word(colour, faint ? opacity * 0.3 : Math.max(opacity, 0.35));
  return table;
}

export function css(colour: Triple, opacity = 1): string {
  return `rgb(${colour.join(" ")} / ${Math.round(opacity * 100)}%)`;
}
